"""Pairings by distance against scipy's dense assignment."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from benchmark.metrics import assignment
from benchmark.metrics.assignment import gated_pairing, published_pairing, sparse_pairs
from benchmark.metrics.matching_loops import planar_assignment


def clouds(seed, n, m, kind):
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(0, 60, (n, 2)), rng.uniform(0, 60, (m, 2))
    if kind == "line":
        a[:, 0], b[:, 0] = 3.0, 3.0
    elif kind == "whole px":
        a, b = a.round(), b.round()
    elif kind == "far apart":
        b += 1000
    elif kind == "one place":
        a[:], b[:] = 5.0, 5.0
    elif kind == "clusters":
        a, b = a % 4 + 30 * (a // 30), b % 2 + 50 * (b // 50)
    return a, b


KINDS = ("uniform", "line", "whole px", "far apart", "one place", "clusters")


@settings(deadline=None, max_examples=120)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(0, 15), st.sampled_from(KINDS))
def test_planar_assignment_is_optimal(seed, n, more, kind):
    a, b = clouds(seed, n, n + more, kind)
    found = planar_assignment(a, b)
    assert len(set(found.tolist())) == n
    assert found.min() >= 0
    costs = cdist(a, b)
    rows, columns = linear_sum_assignment(costs)
    assert costs[np.arange(n), found].sum() == pytest.approx(costs[rows, columns].sum(), rel=1e-12, abs=1e-9)
    if kind == "uniform":  # no ties: the optimum is unique
        assert found.tolist() == columns.tolist()


def test_large_images_are_paired_as_the_dense_matrix_would(monkeypatch):
    rng = np.random.default_rng(0)
    true = rng.uniform(0, 1000, (900, 2))
    pred = true[rng.random(900) < 0.9] + 2
    pred = np.concatenate([pred + rng.normal(0, 3, pred.shape), rng.uniform(0, 1000, (60, 2))])
    dense = [published_pairing(a, b, 12) for a, b in ((true, pred), (pred, true))]
    monkeypatch.setattr(assignment, "_DENSE", 0)
    for (a, b), expected in zip(((true, pred), (pred, true)), dense, strict=True):
        found = published_pairing(a, b, 12)
        assert found.true.tolist() == expected.true.tolist()
        assert found.pred.tolist() == expected.pred.tolist()
        assert found.distance.tolist() == expected.distance.tolist()
    assert 700 < len(dense[0].true) < 900


@settings(deadline=None, max_examples=120)
@given(
    st.integers(0, 10**6),
    st.integers(1, 30),
    st.integers(1, 30),
    st.sampled_from(KINDS),
    st.sampled_from([0.0, 4.0, 15.0]),
)
def test_gated_pairing_has_most_pairs_and_then_least_distance(seed, n, m, kind, radius):
    a, b = clouds(seed, n, m, kind)
    costs = cdist(a, b)
    forbidden = 1e5
    rows, columns = linear_sum_assignment(np.where(costs <= radius, costs, forbidden))
    kept = costs[rows, columns] <= radius
    found = gated_pairing(a, b, radius)
    assert len(found.true) == kept.sum()
    assert len(set(found.true.tolist())) == len(set(found.pred.tolist())) == len(found.true)
    assert found.distance == pytest.approx(costs[found.true, found.pred])
    assert found.distance.sum() == pytest.approx(costs[rows[kept], columns[kept]].sum(), rel=1e-12, abs=1e-9)
    assert (found.distance <= radius).all()


def test_the_published_pairing_loses_a_true_pair_to_a_far_false_positive():
    true = np.array([[0.0, 0.0], [20.0, 0.0]])
    pred = np.array([[16.0, 6.0], [40.0, 0.0]])  # 7.2 px from the second nucleus, and nowhere near any
    published, gated = published_pairing(true, pred, 12), gated_pairing(true, pred, 12)
    # 17.1 + 20 px is less than 7.2 + 40 px: everything shifts by one, and both pairs are too far
    assert len(published.true) == 0
    assert (gated.true.tolist(), gated.pred.tolist()) == ([1], [0])
    assert gated.distance.tolist() == [math.dist((20, 0), (16, 6))]


def test_the_radius_itself_is_inside():
    a, b = np.array([[0.0, 0.0]]), np.array([[12.0, 0.0]])
    beyond = np.array([[np.nextafter(12.0, 13.0), 0.0]])
    for pair in (published_pairing, gated_pairing):
        assert len(pair(a, b, 12).true) == 1
        assert len(pair(a, beyond, 12).true) == 0


def test_no_points_and_bad_points():
    none, one = np.zeros((0, 2)), np.zeros((1, 2))
    for pair in (published_pairing, gated_pairing):
        for a, b in ((none, none), (none, one), (one, none)):
            assert len(pair(a, b, 12).true) == 0
        with pytest.raises(ValueError, match="predicted nuclei contain values that are not finite"):
            pair(one, one * np.nan, 12)
        with pytest.raises(ValueError, match="radius is -1"):
            pair(one, one, -1)
        with pytest.raises(ValueError, match="radius is nan"):
            pair(one, one, math.nan)


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 10**6), st.integers(1, 25), st.integers(1, 25), st.floats(0, 1))
def test_sparse_pairs_equal_a_dense_assignment_with_private_columns(seed, n, m, unmatched):
    rng = np.random.default_rng(seed)
    rows, columns = np.nonzero(rng.random((n, m)) < 0.25)
    costs = rng.random(rows.size)
    dense = np.full((n, m + n), 1e6)
    dense[rows, columns] = costs
    dense[np.arange(n), m + np.arange(n)] = unmatched
    i, j = linear_sum_assignment(dense)
    expected = [(a, b) for a, b in zip(i.tolist(), j.tolist(), strict=True) if b < m]
    shuffled = rng.permutation(rows.size)
    found = sparse_pairs(rows[shuffled], columns[shuffled], costs[shuffled], (n, m), unmatched)
    assert list(zip(*(part.tolist() for part in found), strict=True)) == expected
