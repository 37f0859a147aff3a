"""Foreground targets and the border weight map."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from postproc.codecs.binary import NEGLIGIBLE, BinaryCodec, border_weights, close_seams, part_touching
from postproc.errors import DataError
from postproc.instances import Instances


def by_definition(labels, w0, sigma):
    """One distance transform per nucleus over the whole map."""
    ids = np.unique(labels[labels > 0])
    if len(ids) < 2:
        return np.zeros(labels.shape)
    first, second = np.sort([distance_transform_edt(labels != k) for k in ids], axis=0)[:2]
    return np.where(labels == 0, w0 * np.exp(-((first + second) ** 2) / (2 * sigma**2)), 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 3.0, 5.0]), st.sampled_from([0.5, 10.0]))
def test_border_weights_equal_their_definition(seed, sigma, w0):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 60, 2)
    labels = np.where(rng.random(shape) < rng.choice([0.005, 0.02, 0.1]), rng.integers(1, 6, shape), 0)
    result = border_weights(labels * rng.choice([1, 10**12]), w0, sigma)
    expected = by_definition(labels, w0, sigma)
    assert result.dtype == np.float32
    heavy = expected > NEGLIGIBLE * 1.001
    np.testing.assert_allclose(result[heavy], expected[heavy], rtol=1e-4)
    assert abs(result - expected).max(initial=0) <= NEGLIGIBLE * 1.001


def test_weights_do_not_depend_on_where_the_map_lies_in_memory():
    rng = np.random.default_rng(0)
    labels = np.where(rng.random((90, 90)) < 0.01, rng.integers(1, 99, (90, 90)), 0).astype(np.int32)
    expected = border_weights(labels)
    assert expected.any()
    for offset in range(16):
        moved = np.zeros(labels.size + 16, np.int32)[offset : offset + labels.size].reshape(labels.shape)
        moved[:] = labels
        np.testing.assert_array_equal(border_weights(moved), expected)


def test_weight_of_a_gap():
    labels = np.zeros((9, 21), np.int32)
    labels[:, :8], labels[:, 13:] = 1, 2
    weight = border_weights(labels)
    np.testing.assert_allclose(weight[4, 8:13], 10 * np.exp(-(6**2) / 50), rtol=1e-5)
    assert not weight[labels > 0].any()
    assert not border_weights(labels, w0=0.0).any()


def test_class_weights_add_up():
    labels = np.zeros((9, 9), np.int32)
    labels[3:6, 3:6] = 1
    targets = BinaryCodec(split=True, balance=(0.5, 2.0)).encode(Instances((9, 9), labels=labels))
    assert targets["foreground"].dtype == np.int64
    assert targets["weight"].dtype == np.float32
    np.testing.assert_array_equal(targets["weight"], np.where(labels > 0, 2.0, 0.5))


def test_parted_nuclei_do_not_touch_and_seams_close():
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(0, 9, (6, 6)), np.ones((9, 7), int)).astype(np.int32)
    parted = part_touching(labels)
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        other = np.roll(parted, shift, (0, 1))
        inner = np.ones(labels.shape, bool)
        inner[: shift[0]] = False
        if shift[1] > 0:
            inner[:, :1] = False
        elif shift[1] < 0:
            inner[:, -1:] = False
        assert not (inner & (parted > 0) & (other > 0) & (parted != other)).any()
    lost = (labels > 0) & (parted == 0)
    assert lost.any()
    assert ((parted == labels) | lost).all()
    closed = close_seams(parted)
    assert (closed[lost] > 0).all()
    # Straight borders come back exactly; where three nuclei meet, the majority decides.
    assert (closed[lost] == labels[lost]).mean() > 0.8
    two = np.repeat(np.int32([[1, 1, 1, 2, 2, 2]]), 5, axis=0)
    np.testing.assert_array_equal(close_seams(part_touching(two)), two)


def test_nuclei_apart_are_left_alone():
    labels = np.int32([[1, 1, 0, 0, 2, 2]])
    np.testing.assert_array_equal(part_touching(labels), labels)
    np.testing.assert_array_equal(close_seams(labels), labels)
    np.testing.assert_array_equal(close_seams(np.int32([[1, 1, 0, 2, 2]])), [[1, 1, 2, 2, 2]])


def test_outlines_are_needed():
    with pytest.raises(DataError, match="label maps"):
        BinaryCodec(split=True).encode(Instances((4, 4)))
