"""The watershed equals scikit-image's, ties included; its building blocks equal their references."""

import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.segmentation import watershed as skimage_watershed

from postproc.pixels.floods import order_matters
from postproc.pixels.watershed import watershed

KINDS = ("levels", "integers", "float32", "smooth", "constant")


def draw_case(seed):
    """Random image of one of several kinds, markers of single pixels or blocks, and a mask."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 36, 2))
    kind = KINDS[seed % len(KINDS)]
    image = {
        "levels": lambda: rng.integers(0, rng.choice([3, 8, 256]), shape).astype(np.uint8),
        "integers": lambda: rng.integers(-5, 5, shape),
        "float32": lambda: rng.normal(size=shape).astype(np.float32),
        "smooth": lambda: ndimage.gaussian_filter(rng.normal(size=shape), 2),
        "constant": lambda: np.full(shape, 2.0),
    }[kind]()
    markers = np.where(rng.random(shape) < rng.choice([0.01, 0.1, 0.5]), rng.integers(0, 6, shape), 0)
    if rng.random() < 0.5:
        markers = np.kron(markers, np.ones((3, 3), int))[: shape[0], : shape[1]]
    mask = None if rng.random() < 0.2 else rng.random(shape) < rng.choice([0.5, 0.7, 0.9])
    return image, markers.astype(np.int32), mask


def flood_in_raster_order(image, markers, mask):
    """Textbook flooding: (value, time), seeds in raster order."""
    height, width = image.shape
    output = np.where(mask, markers, 0)
    heap = [(image[y, x], time - output.size, y, x) for time, (y, x) in enumerate(np.argwhere(output))]
    heapq.heapify(heap)
    time = 0
    while heap:
        value, _, y, x = heapq.heappop(heap)
        for ny, nx in ((y - 1, x), (y, x - 1), (y, x + 1), (y + 1, x)):
            if 0 <= ny < height and 0 <= nx < width and mask[ny, nx] and not output[ny, nx]:
                output[ny, nx] = output[y, x]
                time += 1
                heapq.heappush(heap, (max(value, image[ny, nx]), time, ny, nx))
    return output


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_equals_skimage(seed):
    image, markers, mask = draw_case(seed)
    expected = skimage_watershed(image, markers, mask=mask)
    result = watershed(image, markers, mask)
    assert result.dtype == np.int32
    np.testing.assert_array_equal(result, expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_raster_ties_equal_the_textbook(seed):
    image, markers, mask = draw_case(seed)
    area = np.ones(image.shape, bool) if mask is None else mask
    expected = flood_in_raster_order(image, markers, area)
    np.testing.assert_array_equal(watershed(image, markers, mask, ties="raster"), expected)


def test_the_cases_contain_ties_that_decide():
    differing = 0
    for seed in range(100):
        image, markers, mask = draw_case(seed)
        exact = watershed(image, markers, mask)
        differing += not np.array_equal(exact, watershed(image, markers, mask, ties="raster"))
    assert differing > 3


def test_a_large_image_with_many_ties_and_one_without_any():
    rng = np.random.default_rng(5)
    image = rng.integers(0, 4, (150, 150)).astype(np.float32)
    markers = np.where(rng.random(image.shape) < 0.3, rng.integers(1, 9, image.shape), 0)
    np.testing.assert_array_equal(watershed(image, markers), skimage_watershed(image, markers))
    distinct = image + rng.permutation(image.size).reshape(image.shape) * np.float32(1e-5)
    np.testing.assert_array_equal(watershed(distinct, markers), skimage_watershed(distinct, markers))


def test_two_seeds_that_add_pixels_of_equal_value_are_a_tie():
    seeds = np.array([7, 10])

    def tie(levels, ids):
        label, level = np.full((3, 6), -1, np.int32), np.zeros((3, 6), np.int32)
        label[1, 1:5], level[1, 1:5] = ids, levels
        return order_matters(label.ravel(), level.ravel(), 6, seeds)

    assert tie([0, 1, 1, 0], [1, 0, 0, 2])
    assert not tie([0, 1, 2, 0], [1, 0, 0, 2])
    assert not tie([0, 1, 1, 0], [1, 0, 0, 1])
    assert not tie([0, 1, 1, 1], [1, 0, 0, 2])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zeros_of_both_signs_are_equal(dtype):
    # Of negative zero and zero the one that entered first is flooded first, whichever it is.
    for first, second in ((0.0, -0.0), (-0.0, 0.0)):
        image = np.array([[-1, first, 5, second, -2]], dtype)
        result = watershed(image, np.int32([[1, 0, 0, 0, 2]]))
        np.testing.assert_array_equal(result, skimage_watershed(image, np.int32([[1, 0, 0, 0, 2]])))


@pytest.mark.parametrize("seed", range(4))
def test_values_that_float32_cannot_hold_are_told_apart(seed):
    rng = np.random.default_rng(seed)
    image = 1 + rng.permutation(400).reshape(20, 20) * 1e-12
    assert np.unique(image.astype(np.float32)).size == 1
    markers = np.zeros((20, 20), np.int32)
    markers[rng.integers(0, 20, 6), rng.integers(0, 20, 6)] = np.arange(1, 7)
    mask = np.ones((20, 20), bool)
    result = watershed(image, markers)
    np.testing.assert_array_equal(result, flood_in_raster_order(image, markers, mask))
    np.testing.assert_array_equal(watershed((image - 1) * 1e12 - 200, markers), result)


def test_seed_with_a_lower_neighbour_raises_it():
    # Both seeds are at 1. Left of the right one lies a pit, which is flooded at level 1, not before.
    values = np.float32([[1, 3, 0, 1]])
    result = watershed(values, np.int32([[1, 0, 0, 2]]))
    np.testing.assert_array_equal(result, [[1, 1, 2, 2]])


def test_component_without_marker_stays_empty_and_huge_ids_survive():
    mask = np.array([[1, 1, 0, 1, 1]], bool)
    result = watershed(np.zeros((1, 5)), np.array([[0, 2**31 - 1, 7, 0, 0]]), mask)
    np.testing.assert_array_equal(result, [[2**31 - 1, 2**31 - 1, 0, 0, 0]])


def test_inputs_stay_as_they_are():
    image, markers, mask = draw_case(3)
    copies = image.copy(), markers.copy(), None if mask is None else mask.copy()
    watershed(image, markers, mask)
    np.testing.assert_array_equal(image, copies[0])
    np.testing.assert_array_equal(markers, copies[1])


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="same shape"):
        watershed(np.zeros((3, 3)), np.zeros((3, 4), int))
    assert watershed(np.zeros((0, 3)), np.zeros((0, 3), int)).shape == (0, 3)
