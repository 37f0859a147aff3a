"""The generator of synthetic images, and the two datasets made of them."""

from __future__ import annotations

import numpy as np
import pytest
from skimage import measure

from datamodules.synthetic.images import KINDS, MIN_AREA, generate, generate_dist
from datamodules.synthetic_sets import Synthetic, SyntheticDIST
from postproc.errors import ConfigError, DataError


def eccentricity(labels, number):
    """Ratio of the axes of one nucleus by its second moments."""
    values = np.linalg.eigvalsh(np.cov(np.argwhere(labels == number).T))
    return float(np.sqrt(values[1] / values[0]))


@pytest.fixture(scope="module")
def he():
    return generate((512, 640), np.random.default_rng(3))


@pytest.mark.parametrize("stain", sorted(KINDS))
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_every_nucleus_is_one_component_of_some_size(stain, scale):
    image, truth = generate((200, 260), np.random.default_rng(0), stain=stain, scale=scale, density=1e-3)
    assert image.dtype == np.uint8
    assert image.shape == (200, 260, 3)
    assert truth.types.shape == (truth.count,)
    assert set(truth.types) <= set(range(1, len(KINDS[stain]) + 1))
    area = np.bincount(truth.labels.ravel())[1:]
    assert len(area) == truth.count > 20
    assert area.min() >= MIN_AREA * scale**2
    assert measure.label(truth.labels, connectivity=1).max() == truth.count


def test_the_density_is_that_asked_for():
    for density in (2e-4, 7e-4, 1.2e-3):
        _, truth = generate((400, 400), np.random.default_rng(1), density=density)
        assert 0.85 * density * 160_000 <= truth.count <= round(density * 160_000)


def test_the_generator_alone_decides(he):
    image, truth = generate((512, 640), np.random.default_rng(3))
    np.testing.assert_array_equal(image, he[0])
    np.testing.assert_array_equal(truth.labels, he[1].labels)
    np.testing.assert_array_equal(truth.types, he[1].types)
    assert not np.array_equal(generate((512, 640), np.random.default_rng(4))[0], image)


def test_nuclei_are_darker_than_tissue_and_colours_vary(he):
    image, truth = he
    assert image[truth.labels > 0].mean() < image[truth.labels == 0].mean() - 30
    means = [generate((96, 96), np.random.default_rng(k))[0].mean(axis=(0, 1)) for k in range(6)]
    assert np.std(means, axis=0).min() > 4


def test_types_differ_in_size_and_shape(he):
    labels, types = he[1].labels, he[1].types
    assert set(types) == {1, 2, 3, 4}
    area = np.bincount(labels.ravel())[1:]
    ratio = np.array([eccentricity(labels, k + 1) for k in range(len(types))])
    assert np.median(area[types == 3]) > 1.7 * np.median(area[types == 2])
    assert np.median(ratio[types == 4]) > 2 > 1.4 > np.median(ratio[types == 2])
    inside = he[0].mean(axis=2)
    grey = {k: inside[np.isin(labels, np.flatnonzero(types == k) + 1)].mean() for k in (2, 3)}
    assert grey[2] < grey[3] - 10  # inflammatory nuclei are dark, epithelial ones pale


def test_many_nuclei_touch(he):
    labels = he[1].labels
    pairs = [(labels[:, 1:], labels[:, :-1]), (labels[1:], labels[:-1])]
    touching = {int(k) for a, b in pairs for k in a[(a != b) & (a > 0) & (b > 0)]}
    assert len(touching) > 0.15 * he[1].count


def test_types_follow_the_tissue_and_regions_are_weak():
    image, truth = generate((400, 400), np.random.default_rng(5), stain="ihc")
    assert set(truth.types) == {1, 2, 3}
    assert set(np.unique(truth.regions)) == {0, 1, 2}
    assert (truth.regions == 0).mean() > 0.1
    centres = np.rint(truth.centroids()).astype(int)
    places = truth.regions[centres[:, 1], centres[:, 0]]
    tumour = np.isin(truth.types, (1, 2))
    assert np.mean(tumour[places == 2]) > 0.9
    assert np.mean(tumour[places == 1]) < 0.1
    red, blue = (
        [image[np.isin(truth.labels, np.flatnonzero(truth.types == k) + 1)][:, c].mean() for k in (1, 2)]
        for c in (0, 2)
    )
    assert red[0] > blue[0] + 20  # DAB is brown
    assert blue[1] > red[1] + 20  # haematoxylin is blue


def test_half_the_magnification_makes_a_quarter_of_the_area():
    whole, half = (generate((400, 400), np.random.default_rng(2), density=4e-4, scale=scale)[1] for scale in (1.0, 0.5))
    ratio = (half.labels > 0).sum() / half.count / ((whole.labels > 0).sum() / whole.count)
    assert 0.18 < ratio < 0.33


@pytest.mark.parametrize("shape", [(24, 24), (33, 180), (300, 40)])
def test_odd_shapes_and_no_nuclei(shape):
    image, truth = generate(shape, np.random.default_rng(0), density=0.0)
    assert truth.count == 0
    assert len(truth.types) == 0
    assert image.shape == (*shape, 3)
    assert generate(shape, np.random.default_rng(0), stain="ihc")[1].regions.shape == shape


def test_an_unknown_stain_is_named():
    with pytest.raises(ConfigError, match=r"'HE'.*Did you mean 'he'"):
        generate((64, 64), np.random.default_rng(0), stain="HE")


def test_algorithm_1_colours_components():
    labels = np.zeros((60, 80), np.int32)
    labels[10:30, 10:30] = 5
    labels[10:30, 30:40] = 9  # touches the former: one component
    labels[40:55, 50:70] = 2
    image, truth = generate_dist(labels, np.random.default_rng(0), sigma_1=40, sigma_2=2, sigma_3=3)
    assert truth.count == 2
    expected = np.zeros((60, 80), bool)
    expected[9:31, 9:41] = expected[39:56, 49:71] = True
    np.testing.assert_array_equal(truth.labels > 0, expected)
    for k in (1, 2):
        assert image[truth.labels == k].std(axis=0).max() < 5  # one colour and noise
    between = np.linalg.norm(image[20, 20].astype(float) - image[45, 60])
    assert between > 15
    noise = image[truth.labels == 0].astype(float)
    assert noise.min() == 0
    assert noise.mean() == pytest.approx(3 * np.sqrt(2 / np.pi), abs=0.1)  # mean of the half-normal distribution


def test_algorithm_1_draws_colours_with_the_given_moments():
    labels = np.kron(np.arange(1, 2501).reshape(50, 50), np.pad(np.ones((1, 1), int), (0, 3)))
    image, truth = generate_dist(labels, np.random.default_rng(0), mu=120, sigma_1=20, sigma_2=0, sigma_3=0)
    assert truth.count == 2500
    seen = np.zeros((2500, 3))
    seen[truth.labels[truth.labels > 0] - 1] = image[truth.labels > 0]
    assert seen.mean() == pytest.approx(120, abs=1)
    assert seen.std() == pytest.approx(20, abs=0.7)


def test_algorithm_1_keeps_neighbours_apart():
    labels = np.zeros((20, 20), np.int32)
    labels[5:10, 5:10] = 1
    labels[5:10, 11:16] = 2  # one pixel between them, which both would grow into
    _, truth = generate_dist(labels, np.random.default_rng(0))
    assert truth.count == 2


@pytest.mark.parametrize(("dataset", "counts"), [(Synthetic, (6, 2, 4)), (SyntheticDIST, (32, 8, 10))])
def test_written_sets_read_back(dataset, counts, tmp_path):
    dataset.write_synthetic(tmp_path, size=64, seed=1)
    module = dataset(tmp_path)
    assert tuple(len(module.select(split)) for split in ("fit", "validation", "test")) == counts
    rows = list(dataset.splits())
    for record in module.records[:3]:
        sample = module.read(record)
        image, truth = dataset.make((64, 64), np.random.default_rng((1, rows.index(record.image_id))))
        np.testing.assert_array_equal(sample.image, image)
        np.testing.assert_array_equal(sample.truth.labels, truth.labels)
        if truth.types is not None:
            np.testing.assert_array_equal(sample.truth.types, truth.types)
        assert sample.group == dataset.splits()[record.image_id].group


def test_few_images_still_fill_every_split(tmp_path):
    Synthetic.write_synthetic(tmp_path, images=3, size=48)
    module = Synthetic(tmp_path)
    assert [len(module.select(split)) for split in ("fit", "validation", "test")] == [1, 1, 1]
    with pytest.raises(ConfigError, match="images is 13; choose 1 to 12"):
        Synthetic.write_synthetic(tmp_path, images=13)


def test_a_missing_annotation_is_named(tmp_path):
    Synthetic.write_synthetic(tmp_path, images=1, size=48)
    (tmp_path / "train" / "Labels" / "train_01.mat").unlink()
    with pytest.raises(DataError, match=r"train_01\.png has no annotation"):
        Synthetic.index(tmp_path)


def test_cards_agree_with_the_splits():
    for dataset in (Synthetic, SyntheticDIST):
        rows = dataset.splits().values()
        assert {s: sum(r.split == s for r in rows) for s in ("train", "test")} == dict(dataset.card.images)
        validation = {r.group for r in rows if r.validation}
        assert validation
        assert not validation & {r.group for r in rows if not r.validation}
