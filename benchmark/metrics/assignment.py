"""Which prediction belongs to which annotated nucleus: one-to-one pairings by distance or by overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DENSE = 1 << 21
"""Largest distance matrix that goes through scipy. As the published evaluation does so too, equal distances
(points on whole px) are resolved alike on images of the usual size; above it only the minimum itself is
guaranteed."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """One-to-one pairs of annotated and predicted nuclei, in the order of the annotated ones.

    Attributes:
        true: int64 (P,), row of the annotated nucleus, counted from 0.
        pred: int64 (P,), row of the predicted nucleus.
        distance: float64 (P,), px between the centres of each pair.
    """

    true: NDArray[np.int64]
    pred: NDArray[np.int64]
    distance: NDArray[np.float64]


def published_pairing(true: NDArray[Any], pred: NDArray[Any], radius: float) -> Pairing:
    """Pair centres as HoVer-Net's published evaluation does (Graham 2019, IV-B, and its code).

    One assignment minimises the sum of the plain distances over all nuclei; pairs farther apart than the
    radius are dropped afterwards. A false positive far from everything can so push a true pair apart, which
    undercounts.

    Up to 1,448 x 1,448 nuclei the distance matrix is solved as it is. Beyond, a search over a grid finds an
    assignment of the same, minimal sum (`planar_assignment`, exact: it bounds what it does not look at)
    without the matrix, which would take 1 GB at 11,000 x 11,000 nuclei. Cutting the matrix at the radius
    first would be wrong here: pairs that are dropped in the end still decide about the others.

    Args:
        true: (N, 2), px.
        pred: (M, 2), px.
        radius: Px; a pair at exactly this distance is kept.

    Raises:
        ValueError: If a coordinate is not finite or the radius is negative.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    true, pred = _checked(true, pred, radius)
    if len(true) == 0 or len(pred) == 0:
        return _pairing(true, pred, np.zeros(0, np.int64), np.zeros(0, np.int64), radius)
    if len(true) * len(pred) <= _DENSE:
        rows, columns = linear_sum_assignment(cdist(true, pred))
    else:
        from benchmark.metrics.matching_loops import planar_assignment

        if len(true) <= len(pred):
            rows, columns = np.arange(len(true)), planar_assignment(true, pred)
        else:
            rows, columns = planar_assignment(pred, true), np.arange(len(pred))
    return _pairing(true, pred, rows, columns, radius)


def gated_pairing(true: NDArray[Any], pred: NDArray[Any], radius: float) -> Pairing:
    """Pair only centres within the radius: as many pairs as possible, then the least sum of distances.

    This is the matching of KiNet (Xing 2019, IV-C) and of the scores whose name ends in ``_gated``. The limit
    holds before the assignment, so all that matters are the pairs which a KD-tree finds within the radius.

    Args:
        true: (N, 2), px.
        pred: (M, 2), px.
        radius: Px; a pair at exactly this distance is allowed.

    Raises:
        ValueError: If a coordinate is not finite or the radius is negative.
    """
    from scipy.spatial import cKDTree

    true, pred = _checked(true, pred, radius)
    if len(true) == 0 or len(pred) == 0:
        return _pairing(true, pred, np.zeros(0, np.int64), np.zeros(0, np.int64), radius)
    # a little more than the radius: the tree may round differently from `_distance`, which decides
    found = cKDTree(true).sparse_distance_matrix(cKDTree(pred), radius * (1 + 1e-9) + 1e-9, output_type="ndarray")
    rows, columns = found["i"].astype(np.int64), found["j"].astype(np.int64)
    distance = _distance(true[rows], pred[columns])
    near = distance <= radius
    rows, columns, distance = rows[near], columns[near], distance[near]
    # one more pair is worth more than all distances together
    unmatched = radius * (min(len(true), len(pred)) + 1) + 1
    rows, columns = sparse_pairs(rows, columns, distance, (len(true), len(pred)), unmatched)
    return _pairing(true, pred, rows, columns, radius)


def sparse_pairs(
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    costs: NDArray[np.float64],
    shape: tuple[int, int],
    unmatched: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Solve an assignment that is given by its possible pairs; each row may also stay alone at a price.

    Args:
        rows: int64 (E,), row of each possible pair.
        columns: int64 (E,), column of each possible pair.
        costs: float64 (E,), not negative.
        shape: Numbers of rows and columns.
        unmatched: Cost of a row without a column.

    Returns:
        Rows (sorted) and columns of the pairs whose total cost is least.
    """
    from benchmark.metrics.matching_loops import sparse_assignment

    order = np.lexsort((columns, rows))
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shape[0]))])
    column_of = sparse_assignment(starts, columns[order], costs[order], shape[1], float(unmatched))
    matched = np.flatnonzero(column_of >= 0)
    return matched, column_of[matched]


def _checked(true: NDArray[Any], pred: NDArray[Any], radius: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if not radius >= 0:
        raise ValueError(f"the radius is {radius} px, expected 0 or more")
    both = [np.ascontiguousarray(points, np.float64).reshape(-1, 2) for points in (true, pred)]
    for side, points in zip(("annotated", "predicted"), both, strict=True):
        if not np.isfinite(points).all():
            raise ValueError(f"a centre among the {side} nuclei is not finite")
    return both[0], both[1]


def _distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.sqrt(((a - b) ** 2).sum(axis=1)), np.float64)


def _pairing(
    true: NDArray[np.float64],
    pred: NDArray[np.float64],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    radius: float,
) -> Pairing:
    """Keep the pairs within the radius, in the order of the annotated nuclei."""
    distance = _distance(true[rows], pred[columns])
    keep = np.flatnonzero(distance <= radius)
    keep = keep[np.argsort(rows[keep])]
    return Pairing(rows[keep].astype(np.int64), columns[keep].astype(np.int64), distance[keep])
