"""Majority type of nuclei."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postproc.codecs.types import majority_of_probabilities, majority_types


def official_rule(pixels):
    """Most frequent value; the second most frequent where that is background and another exists."""
    values, counts = np.unique(pixels, return_counts=True)
    order = values[np.argsort(-counts, kind="stable")]
    return order[1] if order[0] == 0 and len(order) > 1 else order[0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_majority_follows_the_official_rule(seed):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(200) % 12).reshape(10, 20).astype(np.int32)
    types = np.where(rng.random(labels.shape) < 0.5, 0, rng.integers(0, 5, labels.shape))
    expected = [official_rule(types[labels == k]) for k in range(1, 12)]
    result = majority_types(labels, types, 4)
    assert result.dtype == np.int64
    assert result.tolist() == expected
    one_hot = (types == np.arange(5)[:, None, None]).astype(np.float32)
    assert majority_of_probabilities(labels, one_hot * 0.3).tolist() == expected
    probabilities = rng.random((5, *labels.shape)).round(1).astype(np.float32)  # with ties
    expected = [official_rule(probabilities.argmax(axis=0)[labels == k]) for k in range(1, 12)]
    assert majority_of_probabilities(labels, probabilities).tolist() == expected


def test_no_nucleus_and_no_type():
    empty = np.zeros((3, 4), np.int32)
    assert majority_types(empty, empty, 4).shape == (0,)
    assert majority_types(empty + 1, empty, 4).tolist() == [0]
    assert majority_types(empty + 1, empty, 0).tolist() == [0]


def test_mismatches_are_errors():
    labels = np.ones((3, 4), np.int32)
    with pytest.raises(ValueError, match="same shape"):
        majority_types(labels, labels[:2], 4)
    with pytest.raises(ValueError, match=r"expected 0\.\.4"):
        majority_types(labels, labels * 5, 4)
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        majority_of_probabilities(labels, np.zeros((5, 3, 3), np.float32))
