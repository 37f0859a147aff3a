"""Exact Euclidean distances, and maxima within a disc."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from postproc.codecs.attention import disc
from postproc.pixels.euclidean import FARTHEST, disc_maxima, squared_distance


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.1, 0.5, 0.9, 0.99]), st.integers(1, 40), st.integers(1, 40))
def test_squared_distances_are_scipys(seed: int, share: float, height: int, width: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    mask.flat[seed % mask.size] = False  # without a pixel outside, scipy's result is undefined
    np.testing.assert_array_equal(squared_distance(mask), np.rint(distance_transform_edt(mask) ** 2))


def test_a_mask_without_outside_is_far_from_it() -> None:
    assert (squared_distance(np.ones((3, 5), bool)) == 64).all()
    assert squared_distance(np.zeros((0, 5), bool)).shape == (0, 5)


@pytest.mark.parametrize("radius", [0, 1, 1.5, 4, 7])
def test_maxima_in_a_disc_equal_those_of_a_dilation(radius: float) -> None:
    rng = np.random.default_rng(int(10 * radius))
    image = rng.integers(0, 9, (40, 50)).astype(np.float32)  # plateaus, too
    mask = rng.random(image.shape) < 0.6
    expected = (image == cv2.dilate(image, disc(radius))) & mask
    np.testing.assert_array_equal(disc_maxima(image, mask, radius), expected)


def test_long_distances_do_not_overflow() -> None:
    mask = np.ones((1, 50_000), bool)
    assert (squared_distance(mask) == FARTHEST**2).all()
    mask[0, -1] = False
    square = squared_distance(mask)
    assert square[0, 0] == FARTHEST**2
    np.testing.assert_array_equal(square[0, -1001:], np.arange(1000, -1, -1) ** 2)
