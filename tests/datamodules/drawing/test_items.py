"""Training items around nuclei of types chosen uniformly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from datamodules.drawing.crops import Area, CropDrawer, area_around, cut_window, nuclei_by_type
from datamodules.drawing.items import ItemDataset
from datamodules.reading.sample import Sample
from datamodules.synthetic.images import generate
from postproc.codec import Targets
from postproc.codecs.distance import DistanceCodec
from postproc.codecs.typed import TypedCodec
from postproc.errors import DataError
from postproc.instances import Instances


def picture(size: tuple[int, int] = (200, 260), seed: int = 0) -> Sample:
    image, truth = generate(size, np.random.default_rng(seed), density=2e-3)
    return Sample(image, truth, f"image{seed}", "group", magnification=40.0)


def points_of(sample: Sample) -> Sample:
    truth = sample.truth
    return replace(sample, truth=Instances(truth.shape, points=truth.centroids(), types=truth.types))


def uneven() -> list[Sample]:
    """Three images; type 1 occurs once in all, type 2 in the first image alone, most are 4, some have none."""
    samples = [picture(seed=seed) for seed in range(3)]
    found = []
    for k, sample in enumerate(samples):
        types = np.full(sample.truth.count, 4)
        types[:3] = 0
        if k == 0:
            types[3:6] = 2
        if k == 2:
            types[5] = 1
        found.append(replace(sample, truth=replace(sample.truth, types=types)))
    return found


def test_nuclei_are_listed_by_type() -> None:
    samples = uneven()
    first, second, fourth = nuclei_by_type(samples)
    assert first.shape == (1, 3)
    assert first[0, 0] == 2
    np.testing.assert_allclose(first[0, 1:], samples[2].truth.centroids()[5])
    assert second[:, 0].tolist() == [0, 0, 0]
    np.testing.assert_allclose(second[:, 1:], samples[0].truth.centroids()[3:6])
    assert len(fourth) == sum(sample.truth.count for sample in samples) - 9 - 4
    for one, two in zip(nuclei_by_type([points_of(s) for s in samples]), (first, second, fourth), strict=True):
        np.testing.assert_allclose(one, two)


def test_images_without_types_have_nothing_to_balance() -> None:
    sample = picture()
    for types in (None, np.zeros(sample.truth.count, np.int64)):
        bare = replace(sample, truth=replace(sample.truth, types=types))
        with pytest.raises(DataError, match="train without balance"):
            nuclei_by_type([bare])


@pytest.mark.parametrize(
    ("centre", "corner", "shape"),
    [
        ((130.0, 100.0), (90, 60), (80, 80)),
        ((3.0, 198.0), (0, 120), (80, 80)),
        ((259.0, 0.0), (180, 0), (80, 80)),
    ],
)
def test_a_window_is_what_lies_there(
    centre: tuple[float, float], corner: tuple[int, int], shape: tuple[int, int]
) -> None:
    sample = picture()
    assert sample.truth.labels is not None
    assert sample.truth.types is not None
    left, top = corner
    window = cut_window(sample, centre, 80)
    assert window.truth.shape == shape
    there = np.s_[top : top + 80, left : left + 80]
    np.testing.assert_array_equal(window.image, sample.image[there])
    labels, original = window.truth.labels, sample.truth.labels[there]
    assert labels is not None
    assert window.truth.types is not None
    np.testing.assert_array_equal(labels > 0, original > 0)
    for k in range(1, window.truth.count + 1):
        (own,) = np.unique(original[labels == k])
        assert window.truth.types[k - 1] == sample.truth.types[own - 1]
    assert (window.image_id, window.magnification) == (sample.image_id, 40.0)


def test_a_window_of_points_and_regions() -> None:
    sample = points_of(picture())
    regions = np.arange(200 * 260, dtype=np.uint8).reshape(200, 260) % 3
    sample = replace(sample, truth=replace(sample.truth, regions=regions.astype(np.uint8)))
    window = cut_window(sample, (130.0, 100.0), 80).truth
    assert sample.truth.points is not None
    assert sample.truth.types is not None
    local = sample.truth.points - [90, 60]
    seen = ((local >= -0.5) & (local < 79.5)).all(axis=1)
    assert window.points is not None
    assert seen.sum() > 3
    np.testing.assert_allclose(window.points, local[seen].clip(0, 79))
    np.testing.assert_array_equal(window.types, sample.truth.types[seen])
    np.testing.assert_array_equal(window.regions, regions[60:140, 90:170])


def test_a_window_larger_than_the_image_is_the_image() -> None:
    sample = picture((60, 70))
    window = cut_window(sample, (10.0, 50.0), 80)
    np.testing.assert_array_equal(window.image, sample.image)
    np.testing.assert_array_equal(window.truth.labels, sample.truth.labels)


def test_types_are_drawn_equally_often_and_lie_near_the_middle() -> None:
    samples, crop = uneven(), 64
    windows: list[Sample] = []

    def draw(sample: Sample, _rng: np.random.Generator, area: Area | None = None) -> Targets:
        assert area is not None
        centre = (area.left + area.width / 2, area.top + area.height / 2)
        windows.append(cut_window(sample, centre, area.height))
        return {}

    items = ItemDataset(samples, draw, 100, seed=0, window=crop + crop // 4)
    assert len(items) == 300, "an epoch is as long as ever"
    for key in range(600):
        items[key]
    drawn = [window.image_id for window in windows]
    assert {window.truth.shape for window in windows} == {(80, 80)}
    # type 1 is one nucleus of the last image, type 2 are three of the first, type 4 is everywhere
    shares = {name: drawn.count(name) / 600 for name in sorted(set(drawn))}
    counts = np.array([(s.truth.types == 4).sum() for s in samples]) / sum((s.truth.types == 4).sum() for s in samples)
    expected = counts / 3 + [1 / 3, 0, 1 / 3]
    assert list(shares.values()) == pytest.approx(expected.tolist(), abs=0.06)
    with_rare = sum(bool((window.truth.types == 1).any()) for window in windows)
    assert with_rare >= 600 / 3 - 40


def test_the_nucleus_is_in_every_crop_of_its_window() -> None:
    samples, crop = uneven(), 64
    (rare,) = nuclei_by_type(samples)[0]
    area = area_around((rare[1], rare[2]), crop + crop // 4, samples[2].truth.shape)
    codec = TypedCodec(DistanceCodec(), 4)
    draw = CropDrawer(crop, codec, "none")
    for seed in range(40):
        item = draw(samples[2], np.random.default_rng(seed), area)
        assert (item["tp"] == 1).any()


def test_a_turned_crop_around_a_nucleus_sees_the_image_around_its_window() -> None:
    samples, crop = uneven(), 64
    rare = nuclei_by_type(samples)[0][0]
    area = area_around((rare[1], rare[2]), crop + crop // 4, samples[2].truth.shape)
    codec = TypedCodec(DistanceCodec(), 4)
    draw = CropDrawer(crop, codec, "hovernet")
    there = [(draw(samples[2], np.random.default_rng(seed), area)["tp"] == 1).any() for seed in range(40)]
    assert sum(there) >= 30, "only in the corners of the window may a turn lose it"


def test_items_depend_on_seed_and_key_alone() -> None:
    draw = CropDrawer(48, DistanceCodec(), "flips")
    one, two = (ItemDataset(uneven(), draw, 4, seed=5, window=60) for _ in range(2))
    for key in (7, 3, 30):
        assert np.array_equal(one[key]["image"], two[key]["image"])
    assert not np.array_equal(one[3]["image"], one[3 + len(one)]["image"]), "another epoch"
    assert torch.from_numpy(one[0]["image"]).shape == (3, 48, 48)
