"""Classical pipelines: their steps against independent computations, and what they find in painted images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy import ndimage
from skimage.color import separate_stains
from skimage.morphology import disk

from postproc.classical.base import ClassicalCodec, optical_density, split_by_shape, unmixing
from postproc.classical.cellprofiler import (
    CellProfilerCodec,
    CellProfilerParams,
    _blur,
    _fill,
    darkness,
    global_threshold,
    local_maxima,
)
from postproc.classical.fiji import FijiCodec, FijiParams, default_threshold, haematoxylin_channel
from postproc.classical.qupath import EOSIN, HAEMATOXYLIN, QuPathCodec, QuPathParams, enlarge, haematoxylin
from postproc.errors import ConfigError, DataError
from postproc.instances import Instances
from postproc.pixels.components import fill_object_holes
from postproc.pixels.labels import relabel

CODECS: dict[str, ClassicalCodec] = {
    "qupath": QuPathCodec(0.25),
    "fiji": FijiCodec(0.25),
    "cellprofiler": CellProfilerCodec(0.25),
}
every_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS.keys())
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (40, 50, 3)).astype(np.uint8)


def discs(size: int = 200, radius: int = 12, gap: int = 40) -> np.ndarray:
    """Discs on a grid, far from each other and from the border."""
    labels = np.zeros((size, size), np.int32)
    for index, (y, x) in enumerate((y, x) for y in range(gap, size - 20, gap) for x in range(gap, size - 20, gap)):
        cv2.circle(labels, (x, y), radius, index + 1, -1)
    return labels


def lowest_iou(true: np.ndarray, found: np.ndarray) -> float:
    """Return the least intersection over union of a true object with the found one that covers it most."""
    worst = 1.0
    for label in range(1, true.max() + 1):
        mask = true == label
        best = np.bincount(found[mask], minlength=2)[1:].argmax() + 1
        worst = min(worst, (mask & (found == best)).sum() / (mask | (found == best)).sum())
    return worst


@every_codec
def test_separate_nuclei_of_a_painted_image_are_found(codec: ClassicalCodec) -> None:
    labels = discs()
    maps = codec.perfect(codec.encode(Instances(labels.shape, labels=labels)))
    assert maps["image"].shape == (3, *labels.shape)
    assert maps["image"].dtype == np.uint8
    found = codec.decode(maps, codec.defaults())
    assert found.count == labels.max()
    assert found.labels is not None
    # QuPath's filter moves outlines; the others recover the painted px.
    assert lowest_iou(labels, found.labels) > (0.75 if isinstance(codec, QuPathCodec) else 0.93)


@every_codec
@pytest.mark.parametrize("value", [0, 128, 255])
def test_an_even_image_and_one_px_hold_nothing_or_one_object(codec: ClassicalCodec, value: int) -> None:
    for shape in ((64, 48), (1, 1), (3, 7)):
        found = codec.decode({"image": np.full((3, *shape), value, np.uint8)}, codec.defaults())
        assert found.shape == shape
        assert found.count <= 1


@every_codec
def test_sizes_are_in_microns(codec: ClassicalCodec) -> None:
    """The same image at half the size and twice the microns per px holds the same nuclei."""
    labels = discs(400, 24, 80)
    image = codec.perfect(codec.encode(Instances(labels.shape, labels=labels)))["image"]
    small = cv2.resize(image.transpose(1, 2, 0), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA).transpose(2, 0, 1)
    kind = type(codec)
    large, half = (
        kind(0.125).decode({"image": image}, codec.defaults()),
        kind(0.25).decode({"image": small}, codec.defaults()),
    )
    assert large.count == half.count == labels.max()
    assert kind(0.01).decode({"image": small}, codec.defaults()).count == 0
    assert kind(None).mpp == 0.25


@every_codec
def test_points_alone_are_refused(codec: ClassicalCodec) -> None:
    with pytest.raises(DataError, match="outlines"):
        codec.encode(Instances((4, 4), points=np.zeros((1, 2), np.float32)))


def test_optical_density_and_unmixing_agree_with_scikit_image() -> None:
    matrix = unmixing(HAEMATOXYLIN, EOSIN)
    np.testing.assert_allclose(np.linalg.inv(matrix)[2] @ np.array([HAEMATOXYLIN, EOSIN]).T, 0, atol=1e-12)
    image = np.maximum(IMAGE, 1)
    reference = separate_stains(image, matrix)[..., 0]
    # scikit-image divides the logarithm by that of 1e-6 and cuts at 0: undo the one, compare where nothing is cut.
    ours = haematoxylin(image)
    shown = reference > 0
    np.testing.assert_allclose(ours[shown], reference[shown] * 6, rtol=1e-4, atol=1e-4)
    assert optical_density(np.zeros((1, 1, 3), np.uint8)).max() == pytest.approx(np.log10(255))
    assert optical_density(np.full((1, 1, 3), 255, np.uint8)).max() == 0


def test_touching_discs_are_split_at_their_neck() -> None:
    mask = np.zeros((60, 90), np.uint8)
    for x in (30, 56):
        cv2.circle(mask, (x, 30), 15, 1, -1)
    assert ndimage.label(mask)[1] == 1
    labels = split_by_shape(mask > 0)
    assert labels.max() == 2
    assert ndimage.label(labels > 0, np.ones((3, 3)))[1] == 2  # the line parts them at corners too
    assert ((labels > 0) <= (mask > 0)).all()
    assert (mask > 0).sum() - (labels > 0).sum() < 40
    one = np.zeros((60, 90), np.uint8)
    cv2.ellipse(one, (45, 30), (30, 15), 0, 0, 360, 1, -1)
    assert split_by_shape(one > 0).max() == 1


# ---- QuPath ----------------------------------------------------------------------------------------------------


def test_enlarging_keeps_objects_apart_and_their_size() -> None:
    labels = discs()
    large = enlarge(labels, (400, 390))
    assert large.shape == (400, 390)
    assert large.max() == labels.max()
    ratio = np.bincount(large.ravel())[1:] / np.bincount(labels.ravel())[1:]
    assert np.abs(ratio - 4 * 390 / 400).max() < 0.2
    assert (enlarge(np.ones((5, 7), np.int32), (10, 14)) == 1).all()


def test_qupath_drops_pale_large_and_small_nuclei() -> None:
    labels = discs()
    codec = QuPathCodec(0.25)
    maps = codec.perfect(codec.encode(Instances(labels.shape, labels=labels)))
    assert codec.decode(maps, QuPathParams(threshold=1.0)).count == 0
    assert codec.decode(maps, QuPathParams(min_area=60.0)).count == 0  # a disc has 28 square microns
    assert codec.decode(maps, QuPathParams(max_area=15.0)).count == 0
    density = (0.3 + 0.4 * (labels > 0))[None] * np.array(HAEMATOXYLIN)[:, None, None]
    dark = {"image": np.rint(255 * 10**-density).astype(np.uint8)}
    assert codec.decode(dark, codec.defaults()).count == labels.max()
    assert codec.decode(dark, QuPathParams(max_background=0.2)).count == 0
    assert codec.decode(maps, QuPathParams(background_radius=0.0)).count == labels.max()
    assert codec.decode(maps, QuPathParams(median_radius=0.5)).count == labels.max()


# ---- Fiji ------------------------------------------------------------------------------------------------------


def test_default_threshold_is_half_way_between_the_classes() -> None:
    histogram = np.zeros(256, np.int64)
    histogram[[50, 60]] = 100
    histogram[[180, 200]] = 300
    assert default_threshold(histogram) == int((55 + 190) / 2 + 0.5)
    histogram[[0, 255]] = 10**6  # saturated px say nothing
    assert default_threshold(histogram) == int((55 + 190) / 2 + 0.5)
    assert default_threshold(np.eye(256, dtype=np.int64)[70]) == 128


def test_haematoxylin_is_dark_and_white_is_white() -> None:
    colours = np.array([[[255, 255, 255], [90, 70, 150], [230, 150, 190]]], np.uint8)
    channel = haematoxylin_channel(colours)[0].astype(int)
    assert channel[0] == 255
    assert channel[1] < 120 < channel[2]


def test_small_particles_are_dropped() -> None:
    labels = discs()
    codec = FijiCodec(0.25)
    maps = codec.perfect(codec.encode(Instances(labels.shape, labels=labels)))
    assert codec.decode(maps, FijiParams(min_area=27.0)).count == labels.max()
    assert codec.decode(maps, FijiParams(min_area=30.0)).count == 0


# ---- Cell Profiler ---------------------------------------------------------------------------------------------


def test_local_maxima_see_their_own_component_alone() -> None:
    values = RNG.integers(0, 50, (30, 34)).astype(np.float32)
    components = relabel(ndimage.label(RNG.random((30, 34)) > 0.35)[0])[0]
    expected = np.zeros(values.shape, bool)
    for label in range(1, components.max() + 1):
        alone = np.where(components == label, values, -1)
        expected |= (components == label) & (ndimage.maximum_filter(alone, footprint=disk(3), cval=-1) == values)
    np.testing.assert_array_equal(local_maxima(values, components, 3.0), expected)


def test_automatic_smoothing_keeps_an_even_image() -> None:
    np.testing.assert_allclose(_blur(np.full((20, 30), 0.4, np.float32), 16.0), 0.4, rtol=1e-5)


def test_holes_are_filled_up_to_a_size_and_not_at_the_border() -> None:
    mask = np.ones((20, 20), bool)
    mask[3:5, 3:5] = False
    mask[10:14, 10:14] = False
    mask[0, 8:10] = False
    filled = _fill(mask, 10)
    assert filled[3:5, 3:5].all()
    assert not filled[10:14, 10:14].any()
    assert not filled[0, 8:10].any()


def test_a_hole_between_two_objects_belongs_to_neither() -> None:
    labels = np.ones((9, 9), np.int32)
    labels[:, 5:] = 2
    labels[2, 2] = 0
    labels[6, 4:6] = 0
    expected = labels.copy()
    expected[2, 2] = 1
    np.testing.assert_array_equal(fill_object_holes(labels), expected)


def test_thresholds_are_ordered_as_documented() -> None:
    levels = np.concatenate([np.full(600, 0.1), np.full(300, 0.4), np.full(100, 0.8)]).astype(np.float32)
    dark = (levels + RNG.normal(0, 0.02, 1000)).astype(np.float32).reshape(25, 40)
    three, two = global_threshold(dark, "otsu-3"), global_threshold(dark, "otsu")
    assert 0.42 < three < 0.75
    assert 0.15 < two < 0.75
    assert global_threshold(dark, "cross-entropy") < three
    assert darkness(np.zeros((1, 1, 3), np.uint8)).item() == 1
    with pytest.raises(ConfigError, match="otsu"):
        CellProfilerCodec(threshold="otzu")  # type: ignore[arg-type]


def test_objects_outside_the_range_of_diameters_are_dropped() -> None:
    labels = discs()
    codec = CellProfilerCodec(0.25)
    maps = codec.perfect(codec.encode(Instances(labels.shape, labels=labels)))
    assert codec.decode(maps, CellProfilerParams(max_diameter=5.5)).count == 0  # discs of 6 microns
    assert codec.decode(maps, CellProfilerParams(min_diameter=6.5)).count == 0


# ---- real images -----------------------------------------------------------------------------------------------


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "least"), [("qupath", 0.6), ("fiji", 0.6), ("cellprofiler", 0.5)])
def test_real_nuclei_are_found(name: str, least: float, data_root: Path) -> None:
    from scipy.io import loadmat
    from tifffile import imread

    file = sorted((data_root / "kumar" / "train" / "Images").glob("*.tif"))[4]
    image = imread(file)[:400, :400, :3]
    truth = loadmat(data_root / "kumar" / "train" / "Labels" / f"{file.stem}.mat")["inst_map"][:400, :400] > 0
    codec = CODECS[name]
    found = codec.decode({"image": image.transpose(2, 0, 1)}, codec.defaults())
    assert found.labels is not None
    nuclear = found.labels > 0
    assert 2 * (nuclear & truth).sum() / (nuclear.sum() + truth.sum()) > least
