"""The codec of SC-CNN: centres and types, and the likelihood of a perfect network."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from postproc.codec import search_space
from postproc.codecs.sc_cnn import REACH, WINDOW, SCCNNCodec, SCCNNParams, nearest, neighbours, spread
from postproc.errors import DataError
from postproc.instances import Instances
from postproc.pixels.labels import relabel

PARAMS = SCCNNParams()
SHAPE = (121, 170)
every_factor = pytest.mark.parametrize("factor", [1, 2, 3])


def scattered(rng: np.random.Generator, count: int, apart: float) -> np.ndarray:
    """Random centres, farther than `apart` px from each other; some at the border."""
    points = np.zeros((0, 2))
    while len(points) < count:
        point = rng.uniform(-0.4, [SHAPE[1] - 0.6, SHAPE[0] - 0.6])
        if not len(points) or np.linalg.norm(points - point, axis=1).min() > apart:
            points = np.vstack([points, point])
    return points.astype(np.float32)


@every_factor
@pytest.mark.parametrize("types", [0, 4])
def test_round_trip_finds_every_centre_with_its_type(factor: int, types: int) -> None:
    rng = np.random.default_rng(factor)
    points = scattered(rng, 20, apart=10 * factor if factor < 3 else 20)
    kinds = rng.integers(1, types + 1, len(points)) if types else None
    codec = SCCNNCodec(types, factor)
    found = codec.decode(codec.perfect(codec.encode(Instances(SHAPE, points=points, types=kinds))), PARAMS)
    assert found.shape == SHAPE
    assert found.count == len(points)
    distance = cdist(points, found.points)
    assert sorted(distance.argmin(axis=1)) == list(range(len(points)))
    assert distance.min(axis=1).max() <= 0.75 * factor
    assert found.labels is None
    if types:
        np.testing.assert_array_equal(found.types[distance.argmin(axis=1)], kinds)
    else:
        assert found.types is None


def test_centres_and_classes_are_those_of_the_closest_nucleus() -> None:
    points = np.array([[20.4, 30.0], [27.0, 30.0], [100.0, 60.0], [0.0, 0.0]], np.float32)
    kinds = np.array([1, 0, 2, 3])
    targets = SCCNNCodec(3, factor=2).encode(Instances(SHAPE, points=points, types=kinds))
    assert targets["centres"].dtype == np.float32
    assert sorted(zip(*np.nonzero(targets["centres"]), strict=True)) == [(0, 0), (30, 20), (30, 27), (60, 100)]
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    distance = np.hypot(x[..., None] - np.rint(points[:, 0]), y[..., None] - np.rint(points[:, 1]))
    expected = np.where(distance.min(axis=-1) <= 8, kinds[distance.argmin(axis=-1)], 0)
    np.testing.assert_array_equal(targets["classes"], expected)
    assert (targets["classes"][:, 24:36] == 0)[28:33].all(), "px of the nucleus without a type teach none"
    assert targets["known"] == 1


def test_nearest_agrees_with_all_pairs() -> None:
    rng = np.random.default_rng(0)
    centres = (rng.random((40, 51)) < 0.01).astype(np.float32)
    kinds = np.zeros((40, 51), np.int64)
    places = np.argwhere(centres)
    kinds[tuple(places.T)] = np.arange(1, len(places) + 1)
    y, x = np.mgrid[:40, :51]
    distance = np.hypot(y[..., None] - places[:, 0], x[..., None] - places[:, 1])
    order = np.sort(distance, axis=-1)
    tie = order[..., 0] == order[..., 1]
    expected = np.where(order[..., 0] <= 6.5, distance.argmin(axis=-1) + 1, 0)
    found = nearest(centres, kinds, 6.5)
    np.testing.assert_array_equal(found[~tie], expected[~tie])
    np.testing.assert_array_equal(found > 0, expected > 0)


def test_perfect_likelihood_is_the_mean_over_all_windows() -> None:
    """Plain definition for one centre: slide the window over every place, average what it holds for each px."""
    size, at = 41, (20, 21)
    total, count = np.zeros((size, size)), np.zeros((size, size))
    y, x = np.mgrid[:WINDOW, :WINDOW]
    for top in range(size - WINDOW + 1):
        for left in range(size - WINDOW + 1):
            row, column = at[0] - top, at[1] - left
            part = (slice(top, top + WINDOW), slice(left, left + WINDOW))
            count[part] += 1
            if 0 <= row < WINDOW and 0 <= column < WINDOW:
                squared = (y - row) ** 2 + (x - column) ** 2
                total[part] += np.where(squared <= REACH**2, 1 / (1 + squared / 2), 0)
    targets = SCCNNCodec(0).encode(Instances((size, size), points=np.array([at[::-1]], np.float32)))
    likelihood = SCCNNCodec(0).perfect(targets)["likelihood"]
    np.testing.assert_allclose(likelihood[0], total / count, atol=1e-6)
    assert likelihood[0, 20, 21] == 1
    assert sum(1 for _ in spread()) == neighbours(REACH).sum() == 49


def test_ensemble_of_the_neighbours_decides_between_types() -> None:
    points = np.array([[40, 40], [46, 40]], np.float32)
    codec = SCCNNCodec(2)
    maps = codec.perfect(codec.encode(Instances(SHAPE, points=points, types=np.array([1, 2]))))
    assert maps["types"].shape == (2, *SHAPE)
    # of the 49 patches around the first centre, the farther ones belong to the second nucleus
    assert 0.5 < maps["types"][0, 40, 40] < 1
    assert maps["types"][:, 40, 40].sum() == pytest.approx(1)
    assert codec.decode(maps, PARAMS).types.tolist() in ([1, 2], [2, 1])


def test_threshold_and_distance_select_maxima() -> None:
    likelihood = np.zeros((1, 40, 40), np.float32)
    likelihood[0, 10, 10], likelihood[0, 10, 13], likelihood[0, 30, 30], likelihood[0, 5, 30] = 0.6, 0.5, 0.12, 0.009
    codec = SCCNNCodec(0)
    assert codec.decode({"likelihood": likelihood}, PARAMS).points.tolist() == [[10, 10]]
    assert codec.decode({"likelihood": likelihood}, SCCNNParams(distance=2)).points.tolist() == [[10, 10], [13, 10]]
    low = codec.decode({"likelihood": likelihood}, SCCNNParams(threshold=0.1))
    assert low.scores.tolist() == pytest.approx([0.6, 0.12])
    every = codec.candidates({"likelihood": likelihood}, PARAMS)
    assert every.count == 2, "what is weaker than 0.01 is no candidate"
    for threshold in (0.05, 0.3):
        one = codec.decode({"likelihood": likelihood}, SCCNNParams(threshold))
        assert (every.scores >= threshold).sum() == one.count


def test_cells_beyond_the_border_give_points_inside() -> None:
    likelihood = np.zeros((1, 5, 5), np.float32)
    likelihood[0, 4, 4] = 1
    assert SCCNNCodec(0, factor=2).decode({"likelihood": likelihood}, PARAMS).points.tolist() == [[4, 4]]


def test_nuclei_without_a_type_stay_without_and_missing_types_are_refused() -> None:
    points = np.array([[40, 40], [80, 80]], np.float32)
    codec = SCCNNCodec(2)
    found = codec.decode(codec.perfect(codec.encode(Instances(SHAPE, points=points, types=np.array([0, 2])))), PARAMS)
    assert sorted(found.types.tolist()) == [0, 2]
    with pytest.raises(DataError, match="2 nuclei have no types"):
        codec.encode(Instances(SHAPE, points=points))


def test_what_is_not_annotated_is_marked() -> None:
    codec = SCCNNCodec(2)
    assert codec.encode(Instances(SHAPE, regions=np.ones(SHAPE, np.uint8)))["known"] == 0
    none = Instances(SHAPE, points=np.zeros((0, 2), np.float32), types=np.zeros(0, np.int64))
    targets = codec.encode(none)
    assert targets["known"] == 1
    found = codec.decode(codec.perfect(targets), PARAMS)
    assert (found.count, found.points.shape, found.types.shape) == (0, (0, 2), (0,))


def test_codec_is_pure_and_its_defaults_can_be_chosen() -> None:
    points = scattered(np.random.default_rng(3), 10, apart=12)
    truth = Instances(SHAPE, points=points.copy(), types=np.arange(10) % 2 + 1)
    codec = SCCNNCodec(2, factor=2)
    targets = codec.encode(truth)
    np.testing.assert_array_equal(truth.points, points)
    twin = pickle.loads(pickle.dumps(codec))
    for name, value in twin.encode(truth).items():
        np.testing.assert_array_equal(value, targets[name])
    for name, choices in search_space(SCCNNParams).items():
        assert getattr(PARAMS, name) in choices


@pytest.mark.real_data
@pytest.mark.parametrize("factor", [1, 2])
def test_round_trip_of_real_centres(factor: int, data_root: Path) -> None:
    from scipy.io import loadmat

    arrays = loadmat(data_root / "consep" / "Test" / "Labels" / "test_1.mat")
    labels, _, ids = relabel(arrays["inst_map"].astype(np.int64))
    row_of = {int(number): i for i, number in enumerate(arrays["inst_id"].ravel())}
    types = arrays["inst_type"].ravel().astype(np.int64)[[row_of[int(number)] for number in ids]]
    truth = Instances(labels.shape, labels=labels, types=types)
    codec = SCCNNCodec(4, factor)
    found = codec.decode(codec.perfect(codec.encode(truth)), PARAMS)
    distance, partner = cKDTree(found.points).query(truth.centroids())
    near = distance <= 3
    # centres within 3 cells of each other are one: at 20x a few are so close
    assert near.mean() > (0.99 if factor == 1 else 0.98)
    assert found.count <= truth.count
    assert (found.types[partner[near]] == types[near]).mean() > 0.99
