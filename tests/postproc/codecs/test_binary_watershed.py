"""Plain foreground maps with and without a watershed, against a slow version written from the description."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from postproc.codec import Codec
from postproc.codecs.binary import BinaryDynamicsCodec, DynamicsParams
from postproc.codecs.binary_watershed import (
    BinaryWatershedCodec,
    ObjectCodec,
    ObjectParams,
    WatershedParams,
    relative_distance,
)
from postproc.errors import DataError
from postproc.instances import Instances
from postproc.pixels.labels import relabel


def blobs(seed: int, size: int = 72, count: int = 14) -> NDArray[np.float32]:
    """Overlapping discs of radius 2 to 12 px with pinholes, as probabilities (1, size, size)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    mask = np.zeros((size, size), bool)
    for _ in range(count):
        cy, cx = rng.integers(0, size, 2)
        mask |= (y - cy) ** 2 + (x - cx) ** 2 <= rng.integers(2, 12) ** 2
    mask &= rng.random(mask.shape) > 0.01
    return np.where(mask, 0.9, 0.1).astype(np.float32)[None]


def discs(*centres: tuple[int, int, int], size: int = 64) -> NDArray[np.float32]:
    y, x = np.mgrid[:size, :size]
    inside = [(y - cy) ** 2 + (x - cx) ** 2 <= radius**2 for cy, cx, radius in centres]
    maps: NDArray[np.float32] = np.any(inside, axis=0).astype(np.float32)[None]
    return maps


def one_by_one(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Distance within each component, by a transform of its own."""
    labels, count = ndimage.label(mask)
    levels = np.zeros(mask.shape, np.uint8)
    for index in range(1, count + 1):
        distance = ndimage.distance_transform_edt(labels == index)
        levels += (255 * (distance / distance.max())).astype(np.uint8)
    return levels


def large_enough(labels: NDArray[np.int32], minimum: int) -> NDArray[np.int32]:
    area = np.bincount(labels.ravel())
    return np.where(area[labels] < minimum, 0, labels)


def slowly(probability: NDArray[np.float32]) -> NDArray[np.int32]:
    mask = probability[0] > 0.5
    levels = one_by_one(mask)
    inner = ndimage.binary_erosion(ndimage.binary_fill_holes(levels > 125))
    markers = large_enough(ndimage.label(inner)[0], 10)
    return large_enough(watershed(-levels.astype(int), markers, mask=mask), 10)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_one_distance_transform_is_that_of_each_component(seed: int) -> None:
    mask = blobs(seed)[0] > 0.5
    np.testing.assert_array_equal(relative_distance(mask), one_by_one(mask))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_watershed_equals_the_slow_one(seed: int) -> None:
    maps = blobs(seed)
    expected, *_ = relabel(slowly(maps))
    exact = BinaryWatershedCodec(ties="skimage").decode({"foreground": maps}, WatershedParams()).labels
    fast = BinaryWatershedCodec().decode({"foreground": maps}, WatershedParams()).labels
    assert exact is not None
    assert fast is not None
    paired = np.unique(np.stack([expected.ravel(), exact.ravel()]), axis=1)
    assert paired.shape[1] == len(np.unique(expected)) == len(np.unique(exact))
    np.testing.assert_array_equal(fast > 0, expected > 0)
    assert fast.max() == expected.max()


def test_touching_discs_are_split_by_the_watershed_alone() -> None:
    maps = {"foreground": discs((30, 20, 9), (30, 36, 9))}
    assert ObjectCodec().decode(maps, ObjectParams()).count == 1
    labels = BinaryWatershedCodec().decode(maps, WatershedParams()).labels
    assert labels is not None
    assert labels[30, 15] != labels[30, 41] > 0
    assert labels[30, 26] == labels[30, 15]
    assert labels[30, 30] == labels[30, 41]


def test_nuclei_too_small_for_a_marker_are_dropped_by_the_watershed() -> None:
    maps = {"foreground": discs((10, 10, 3), (40, 40, 8))}
    assert ObjectCodec().decode(maps, ObjectParams()).count == 2
    assert BinaryWatershedCodec().decode(maps, WatershedParams()).count == 1


def test_lower_markers_join_what_higher_ones_split() -> None:
    maps = {"foreground": discs((30, 20, 9), (30, 34, 9))}
    counts = [BinaryWatershedCodec().decode(maps, WatershedParams(marker=m)).count for m in (75, 175)]
    assert counts == [1, 2]


def test_objects_are_filled_and_of_ten_px_at_least() -> None:
    mask = np.zeros((1, 30, 30), np.float32)
    mask[0, 2:9, 2:9] = 1
    mask[0, 5, 5] = 0
    mask[0, 20:23, 20:23] = 1  # 9 px
    mask[0, 15:20, 15:20] = 1  # touches the nine at a corner alone
    labels = ObjectCodec().decode({"foreground": mask}, ObjectParams()).labels
    assert labels is not None
    assert labels.max() == 2
    assert labels[5, 5] == labels[2, 2] > 0
    assert labels[17, 17] > 0
    assert not labels[20:23, 20:23].any()
    assert ObjectCodec().decode({"foreground": mask}, ObjectParams(minimum=9)).count == 3


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("shape", [(40, 50), (1, 1), (3, 70)])
def test_empty_and_full_maps(value: float, shape: tuple[int, int]) -> None:
    maps = {"foreground": np.full((1, *shape), value, np.float32)}
    for found in (
        ObjectCodec().decode(maps, ObjectParams()),
        BinaryWatershedCodec().decode(maps, WatershedParams()),
    ):
        assert found.shape == shape
        assert found.count <= value
    if value and shape == (40, 50):
        assert BinaryWatershedCodec().decode(maps, WatershedParams()).count == 1


def test_target_is_the_foreground_and_decodes_to_separate_nuclei() -> None:
    labels = np.zeros((64, 64), np.int32)
    for index, (cy, cx) in enumerate([(15, 15), (15, 45), (45, 30)], start=1):
        labels[discs((cy, cx, 8))[0] > 0] = index
    truth = Instances(labels.shape, labels=labels)
    codecs: list[Codec[Any]] = [ObjectCodec(), BinaryWatershedCodec()]
    for codec in codecs:
        targets = codec.encode(truth)
        assert targets["foreground"].dtype == np.int64
        np.testing.assert_array_equal(targets["foreground"], labels > 0)
        found = codec.decode(codec.perfect(targets), codec.defaults()).labels
        np.testing.assert_array_equal(found, labels)


def test_annotation_without_outlines_is_an_error() -> None:
    points = Instances((8, 8), points=np.zeros((1, 2), np.float32))
    with pytest.raises(DataError, match="label maps"):
        ObjectCodec().encode(points)


def test_dynamics_of_2017_split_at_7() -> None:
    """Two plateaus with a saddle 9/255 below: apart for lambda = 7, together for p1 = 10 of 2018."""
    levels = np.zeros((1, 9, 21), np.float32)
    levels[0, 2:7, 2:9] = levels[0, 2:7, 12:19] = 200
    levels[0, 2:7, 9:12] = 191
    maps = {"foreground": levels / 255}
    early = BinaryDynamicsCodec(split=False, w0=0.0, params=DynamicsParams(p1=7.0))
    late = BinaryDynamicsCodec(split=False, w0=0.0)
    assert early.decode(maps, early.defaults()).count == 2
    assert late.decode(maps, late.defaults()).count == 1
