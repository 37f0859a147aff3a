"""Chessboard distance targets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postproc.codecs.distance import DistanceCodec, DistanceParams, chessboard
from postproc.errors import ConfigError, DataError
from postproc.instances import Instances


def by_definition(labels):
    y, x = np.indices(labels.shape)
    distance = np.zeros(labels.shape)
    for py, px in np.argwhere(labels):
        other = labels != labels[py, px]
        reach = np.maximum(abs(y - py), abs(x - px))
        edge = min(py + 1, px + 1, labels.shape[0] - py, labels.shape[1] - px)
        distance[py, px] = reach[other].min() if other.any() else edge
    return distance


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_chessboard_equals_its_definition(seed):
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 4, rng.integers(1, 5, 2)) * rng.choice([1, 10**9])
    labels = np.kron(blocks, np.ones(rng.integers(1, 9, 2), np.int64))
    result = chessboard(labels)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, by_definition(labels))


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["consep_3", "kumar_breast", "kumar_prostate"])
def test_chessboard_equals_the_official_targets(golden_root, name):
    with np.load(golden_root / f"distance_targets_{name}.npz") as golden:
        np.testing.assert_array_equal(chessboard(golden["instances"]), golden["chessboard"])


def test_normalised_target_has_1_in_every_nucleus():
    labels = np.zeros((30, 30), np.int32)
    labels[2:4, 2:4], labels[8:29, 8:29] = 1, 2
    target = DistanceCodec("normalised").encode(Instances((30, 30), labels=labels))["distance"]
    assert target.shape == (1, 30, 30)
    assert target.dtype == np.float32
    assert [target[0][labels == k].max() for k in (0, 1, 2)] == [0, 1, 1]
    np.testing.assert_allclose(target[0] * np.array([0, 1, 11])[labels], chessboard(labels), atol=1e-6)


def test_threshold_applies_to_whole_px():
    maps = {"distance": np.float32([[[0, 0.6, 1.4, 2.2, 1.0, 0.6, 0]]])}
    areas = [(DistanceCodec().decode(maps, DistanceParams(p2=p2)).labels > 0).sum() for p2 in (0.5, 0.9, 1.0)]
    assert areas == [3, 3, 1]


def test_predictions_beyond_the_grey_range_are_clipped():
    maps = {"distance": np.float32([[[-3, 300, 400, 300, -3]]])}
    assert DistanceCodec().decode(maps, DistanceParams()).labels.tolist() == [[0, 1, 1, 1, 0]]


def test_errors_name_the_remedy():
    with pytest.raises(DataError, match="label maps"):
        DistanceCodec().encode(Instances((4, 4)))
    with pytest.raises(ConfigError, match="Choices: raw, normalised"):
        DistanceCodec("euclidean")
