"""Match predicted and annotated nuclei: one-to-one pairings by distance or overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DENSE = 1 << 21
"""Largest distance matrix solved by scipy. The published evaluation uses scipy too, so that ties (points at integer
positions) are resolved in the same way on images of usual size. Above this size only the minimum is guaranteed."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """One-to-one pairs of annotated and predicted nuclei, in the order of the annotated nuclei.

    Attributes:
        true: int64 (P,), row of the annotated nucleus, from 0.
        pred: int64 (P,), row of the predicted nucleus, from 0.
        distance: float64 (P,), distance in pixels between the centres of each pair.
    """

    true: NDArray[np.int64]
    pred: NDArray[np.int64]
    distance: NDArray[np.float64]


def published_pairing(true: NDArray[Any], pred: NDArray[Any], radius: float) -> Pairing:
    """Pair centres as in the published evaluation of HoVer-Net (Graham 2019, IV-B, and its code).

    The assignment minimises the sum of distances over all nuclei; pairs farther apart than the radius are dropped
    afterwards. A distant false positive can therefore separate a true pair, which undercounts matches.

    Up to 1,448 x 1,448 nuclei the full distance matrix is solved. Above, `planar_assignment` finds an assignment with
    the same minimal sum by a grid search, without the matrix, which would take 1 GB for 11,000 x 11,000 nuclei. The
    search is exact, because it bounds the distances of points it does not visit. Removing pairs beyond the radius
    before the assignment would change the result, since they influence the other pairs.

    Args:
        true: (N, 2), pixels.
        pred: (M, 2), pixels.
        radius: Maximum distance in pixels, inclusive.

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
    """Pair only centres within the radius: maximise the number of pairs, then minimise the sum of distances.

    This is the matching of KiNet (Xing 2019, IV-C) and of scores with the suffix ``_gated``. The radius applies before
    the assignment, so only the pairs that a KD-tree finds within the radius are considered.

    Args:
        true: (N, 2), pixels.
        pred: (M, 2), pixels.
        radius: Maximum distance in pixels, inclusive.

    Raises:
        ValueError: If a coordinate is not finite or the radius is negative.
    """
    from scipy.spatial import cKDTree

    true, pred = _checked(true, pred, radius)
    if len(true) == 0 or len(pred) == 0:
        return _pairing(true, pred, np.zeros(0, np.int64), np.zeros(0, np.int64), radius)
    # slightly above the radius, because the tree may round differently from `_distance`, which is decisive
    found = cKDTree(true).sparse_distance_matrix(cKDTree(pred), radius * (1 + 1e-9) + 1e-9, output_type="ndarray")
    rows, columns = found["i"].astype(np.int64), found["j"].astype(np.int64)
    distance = _distance(true[rows], pred[columns])
    near = distance <= radius
    rows, columns, distance = rows[near], columns[near], distance[near]
    # an additional pair outweighs all distances together
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
    """Solve a sparse assignment in which rows may stay unmatched at a fixed cost.

    Args:
        rows: int64 (E,), row of each possible pair.
        columns: int64 (E,), column of each possible pair.
        costs: float64 (E,), non-negative.
        shape: Number of rows and columns.
        unmatched: Cost of an unmatched row.

    Returns:
        Rows (sorted) and columns of the pairs of minimal total cost.
    """
    from benchmark.metrics.matching_loops import sparse_assignment

    order = np.lexsort((columns, rows))
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shape[0]))])
    column_of = sparse_assignment(starts, columns[order], costs[order], shape[1], float(unmatched))
    matched = np.flatnonzero(column_of >= 0)
    return matched, column_of[matched]


def _checked(true: NDArray[Any], pred: NDArray[Any], radius: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if not radius >= 0:
        raise ValueError(f"the radius is {radius} px; give 0 or more")
    both = [np.ascontiguousarray(points, np.float64).reshape(-1, 2) for points in (true, pred)]
    for side, points in zip(("annotated", "predicted"), both, strict=True):
        if not np.isfinite(points).all():
            raise ValueError(f"the centres of the {side} nuclei contain values that are not finite")
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
