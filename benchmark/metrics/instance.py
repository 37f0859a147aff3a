"""Object metrics: how well each nucleus is separated and outlined.

All take the contingency table of one image. Two empty maps give NaN (nothing to score), one empty map gives
0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmark.metrics.assignment import sparse_pairs
from benchmark.metrics.contingency import Contingency

_EPSILON = 1e-6
"""HoVer-Net's code adds this to the union before it compares matches, so that equal IoUs go to the larger
pair."""


class PanopticCounts(NamedTuple):
    """What panoptic quality is made of; counts of several images may be added.

    Attributes:
        tp: Pairs with an IoU over 0.5.
        fp: Predicted nuclei in no such pair.
        fn: Annotated nuclei in no such pair.
        iou_sum: Sum of the IoU of the pairs.
    """

    tp: int
    fp: int
    fn: int
    iou_sum: float


class PanopticScores(NamedTuple):
    """Detection quality, segmentation quality and their product, panoptic quality."""

    dq: float
    sq: float
    pq: float


def aji(table: Contingency) -> float:
    """Aggregated Jaccard index (Kumar 2017, algorithm 1; Naylor 2018, VI-A), as HoVer-Net's code computes it.

    Each annotated nucleus takes the prediction of highest IoU; a prediction may be taken more than once.
    Equal IoUs go to the larger pair, then to the smaller id of the prediction.
    """
    quality = table.intersection / (table.union + _EPSILON)
    if quality.size == 0:
        return _aggregated(table, np.zeros(0, np.int64))
    starts = np.flatnonzero(np.diff(table.true_index, prepend=-1))  # pairs are sorted by annotated nucleus
    best = np.repeat(np.maximum.reduceat(quality, starts), np.diff(starts, append=quality.size))
    winners = np.flatnonzero(quality == best)
    return _aggregated(table, winners[np.flatnonzero(np.diff(table.true_index[winners], prepend=-1))])


def aji_plus(table: Contingency) -> float:
    """AJI with one-to-one pairs, those that maximise the sum of the IoU (HoVer-Net's code, ``AJI+``).

    Solved on the overlapping pairs alone. Pairs without overlap add nothing to the sum, so leaving a nucleus
    alone is as good as any of them, and each connected component of the overlap graph is assigned by itself.
    """
    quality = table.intersection / (table.union + _EPSILON)
    rows, columns = sparse_pairs(
        table.true_index, table.pred_index, 1 - quality, (table.n_true, table.n_pred), unmatched=1.0
    )
    keys = table.true_index * table.n_pred + table.pred_index
    return _aggregated(table, np.searchsorted(keys, rows * table.n_pred + columns))


def dice2(table: Contingency) -> float:
    """Ensemble Dice (Vu 2019; HoVer-Net IV-A): Dice over the sums of all overlapping pairs."""
    if table.n_true + table.n_pred == 0:
        return float("nan")
    areas = table.true_area[table.true_index] + table.pred_area[table.pred_index]
    total = int(areas.sum())
    return 2 * int(table.intersection.sum()) / total if total else 0.0


def panoptic_counts(table: Contingency) -> PanopticCounts:
    """Count the pairs with an IoU over 0.5, each of which is unique (HoVer-Net, IV-A, equation 7)."""
    matched = 2 * table.intersection > table.union  # in integers: IoU = 0.5 exactly is no match
    tp = int(matched.sum())
    return PanopticCounts(tp, table.n_pred - tp, table.n_true - tp, float(table.iou[matched].sum()))


def panoptic_scores(counts: PanopticCounts) -> PanopticScores:
    """Return DQ, SQ and PQ of one image, or of the sums over many (HoVer-Net, equation 7)."""
    tp, fp, fn, iou_sum = counts
    if tp + fp + fn == 0:
        return PanopticScores(float("nan"), float("nan"), float("nan"))
    dq = 2 * tp / (2 * tp + fp + fn)
    sq = iou_sum / tp if tp else 0.0
    return PanopticScores(dq, sq, dq * sq)


def _aggregated(table: Contingency, pairs: NDArray[np.int64]) -> float:
    """Intersections of `pairs` over their unions plus the areas of all nuclei that are in none of them."""
    if table.n_true + table.n_pred == 0:
        return float("nan")
    alone_true = np.ones(table.n_true, np.bool_)
    alone_true[table.true_index[pairs]] = False
    alone_pred = np.ones(table.n_pred, np.bool_)
    alone_pred[table.pred_index[pairs]] = False
    alone = table.true_area[alone_true].sum() + table.pred_area[alone_pred].sum()
    return int(table.intersection[pairs].sum()) / int(table.union[pairs].sum() + alone)
