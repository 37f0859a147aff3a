"""Reconstruction, maxima, holes and components equal their references."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import local_maxima, reconstruction

from postproc.pixels.components import (
    compact,
    connected_components,
    fill_holes,
    large_components,
    remove_small,
    separate,
    without_small,
)
from postproc.pixels.morphology import h_maxima_transform, reconstruct, regional_maxima

SEEDS = st.integers(0, 2**32 - 1)


def draw_image(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 40, 2))
    if seed % 3 == 0:
        return rng, rng.integers(0, rng.choice([3, 20, 256]), shape).astype(np.uint8)
    if seed % 3 == 1:
        return rng, rng.normal(size=shape).astype(np.float32)
    return rng, np.round(ndimage.gaussian_filter(rng.normal(size=shape) * 20, 2), 1)


@settings(max_examples=80, deadline=None)
@given(SEEDS)
def test_reconstruct_equals_skimage(seed):
    rng, mask = draw_image(seed)
    low = mask if seed % 2 else np.where(rng.random(mask.shape) < 0.1, mask, mask.min())
    sunk = np.minimum(mask, low - (1 if mask.dtype != np.uint8 else 0)).astype(mask.dtype)
    np.testing.assert_array_equal(reconstruct(sunk, mask), reconstruction(sunk, mask))


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from([1, 2, 7, 300]))
def test_h_maxima_transform_equals_its_definition(seed, h):
    _, image = draw_image(seed)
    sunk = np.clip(image.astype(np.float64) - h, 0 if image.dtype == np.uint8 else None, None).astype(image.dtype)
    result = h_maxima_transform(image, h)
    assert result.dtype == image.dtype
    np.testing.assert_array_equal(result, reconstruction(sunk, image))


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_regional_maxima_equal_skimage(seed):
    rng, image = draw_image(seed)
    if image.dtype != np.uint8:
        image = np.round(image * 2).astype(rng.choice([np.int32, np.int64]))
    expected = local_maxima(image) if image.min() < image.max() else np.ones(image.shape, bool)
    np.testing.assert_array_equal(regional_maxima(image), expected)


def test_dynamics_must_exceed_h():
    # Maxima 5, 4 and 9; the dynamics of 5 is 5 - 2 = 3, that of 4 is 4 - 3 = 1.
    image = np.uint8([[0, 5, 3, 4, 2, 9, 0]])
    maxima = {h: regional_maxima(h_maxima_transform(image, h)).nonzero()[1].tolist() for h in (0, 1, 2.5, 3)}
    assert maxima == {0: [1, 3, 5], 1: [1, 5], 2.5: [1, 2, 3, 5], 3: [5]}  # cut to 3, maximum 5 is a plateau


def test_reconstruct_refuses_a_seed_above_its_mask():
    with pytest.raises(ValueError, match="exceed"):
        reconstruct(np.ones((2, 2)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="must be equal"):
        reconstruct(np.zeros((2, 2)), np.zeros((2, 3)))


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.floats(0.2, 0.9))
def test_holes_and_components_equal_their_references(seed, density):
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 40, 2)) < density
    np.testing.assert_array_equal(fill_holes(mask), ndimage.binary_fill_holes(mask))
    for connectivity in (4, 8):
        labels, count = connected_components(mask, connectivity)
        expected = label(mask, connectivity=connectivity // 4)
        assert labels.dtype == np.int32
        assert count == expected.max()
        np.testing.assert_array_equal(labels, expected)  # scikit-image numbers in raster order too


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_components_of_label_maps_equal_scikit_image(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, rng.integers(2, 5), rng.integers(1, 30, 2)) * rng.choice([1, 10**12])
    if seed % 2:
        labels = np.kron(labels, np.ones((2, 3), np.int64))
    for connectivity in (4, 8):
        found, count = connected_components(labels, connectivity)
        expected, number = label(labels, background=0, connectivity=connectivity // 4, return_num=True)
        np.testing.assert_array_equal(found, expected)
        assert count == number


def test_components_of_a_label_map_do_not_join():
    labels, count = connected_components(np.int32([[5, 5, 7, 0, 5]]), 4)
    assert count == 3
    np.testing.assert_array_equal(labels, [[1, 1, 2, 0, 3]])
    assert connected_components(np.zeros((0, 4), bool))[1] == 0


def test_small_objects_go_and_ids_close_up():
    labels = np.int32([[1, 1, 0, 4, 9, 9, 9]])
    np.testing.assert_array_equal(remove_small(labels, 2), [[1, 1, 0, 0, 2, 2, 2]])
    np.testing.assert_array_equal(compact(labels), [[1, 1, 0, 2, 3, 3, 3]])
    assert not remove_small(np.zeros((3, 3), np.int32), 2).any()


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.floats(0.2, 0.9), st.integers(0, 12))
def test_large_components_equal_their_definition(seed, density, minimum):
    rng = np.random.default_rng(seed)
    mask = ndimage.gaussian_filter(rng.random(rng.integers(1, 40, 2)), seed % 2) < density
    every, count = label(mask, connectivity=1, return_num=True)
    sizes = [int((every == k).sum()) for k in range(count + 1)]
    kept = [k for k in range(1, count + 1) if sizes[k] >= minimum]
    expected = np.zeros(mask.shape, np.int32)
    for new, old in enumerate(kept, 1):
        expected[every == old] = new  # scikit-image numbers in raster order too
    found, number = large_components(mask, minimum)
    np.testing.assert_array_equal(found, expected)
    assert number == len(kept)
    before = mask.copy()
    np.testing.assert_array_equal(without_small(mask, minimum), expected > 0)
    np.testing.assert_array_equal(mask, before)


def test_separate_marks_what_touches_no_other_nucleus():
    labels = np.int32([[1, 1, 1, 2, 2, 0, 3]])
    np.testing.assert_array_equal(separate(labels), [[1, 1, 0, 0, 1, 0, 1]])
