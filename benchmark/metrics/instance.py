"""Object metrics: how well nuclei are separated and outlined.

All take the contingency table of one image. Two empty maps give NaN, one empty map gives 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmark.metrics.assignment import sparse_pairs
from benchmark.metrics.contingency import Contingency

_EPSILON = 1e-6
"""Added to the union before matches are compared, as in the code of HoVer-Net: of equal IoUs, the larger pair wins."""


class PanopticCounts(NamedTuple):
    """Counts of the panoptic quality; they can be summed over images.

    Attributes:
        tp: Pairs with an IoU over 0.5.
        fp: Predicted nuclei without such a pair.
        fn: Annotated nuclei without such a pair.
        iou_sum: Sum of the IoU over the pairs.
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
    """Compute the aggregated Jaccard index (Kumar 2017, algorithm 1; Naylor 2018, VI-A) as in the code of HoVer-Net.

    Each annotated nucleus is matched to the prediction of highest IoU; a prediction can be matched more than once. Of
    equal IoUs, the larger pair wins, then the smaller id of the prediction.
    """
    quality = table.intersection / (table.union + _EPSILON)
    if quality.size == 0:
        return _aggregated(table, np.zeros(0, np.int64))
    starts = np.flatnonzero(np.diff(table.true_index, prepend=-1))  # pairs are sorted by annotated nucleus
    best = np.repeat(np.maximum.reduceat(quality, starts), np.diff(starts, append=quality.size))
    winners = np.flatnonzero(quality == best)
    return _aggregated(table, winners[np.flatnonzero(np.diff(table.true_index[winners], prepend=-1))])


def aji_plus(table: Contingency) -> float:
    """Compute AJI with the one-to-one pairs that maximise the sum of IoU (``AJI+`` in the code of HoVer-Net).

    Only overlapping pairs are considered. Pairs without overlap add nothing to the sum, so leaving a nucleus unmatched
    is equivalent.
    """
    quality = table.intersection / (table.union + _EPSILON)
    rows, columns = sparse_pairs(
        table.true_index, table.pred_index, 1 - quality, (table.n_true, table.n_pred), unmatched=1.0
    )
    keys = table.true_index * table.n_pred + table.pred_index
    return _aggregated(table, np.searchsorted(keys, rows * table.n_pred + columns))


def dice2(table: Contingency) -> float:
    """Compute the ensemble Dice (Vu 2019; HoVer-Net IV-A): Dice of the sums over all overlapping pairs."""
    if table.n_true + table.n_pred == 0:
        return float("nan")
    areas = table.true_area[table.true_index] + table.pred_area[table.pred_index]
    total = int(areas.sum())
    return 2 * int(table.intersection.sum()) / total if total else 0.0


def panoptic_counts(table: Contingency) -> PanopticCounts:
    """Count the pairs with an IoU over 0.5, each of which is unique (HoVer-Net, IV-A, equation 7)."""
    matched = 2 * table.intersection > table.union  # in integers, so that an IoU of exactly 0.5 is not a match
    tp = int(matched.sum())
    return PanopticCounts(tp, table.n_pred - tp, table.n_true - tp, float(table.iou[matched].sum()))


def panoptic_scores(counts: PanopticCounts) -> PanopticScores:
    """Return DQ, SQ and PQ of one image, or of sums over images (HoVer-Net, equation 7)."""
    tp, fp, fn, iou_sum = counts
    if tp + fp + fn == 0:
        return PanopticScores(float("nan"), float("nan"), float("nan"))
    dq = 2 * tp / (2 * tp + fp + fn)
    sq = iou_sum / tp if tp else 0.0
    return PanopticScores(dq, sq, dq * sq)


def _aggregated(table: Contingency, pairs: NDArray[np.int64]) -> float:
    """Divide the intersections of `pairs` by their unions plus the areas of all unpaired nuclei."""
    if table.n_true + table.n_pred == 0:
        return float("nan")
    alone_true = np.ones(table.n_true, np.bool_)
    alone_true[table.true_index[pairs]] = False
    alone_pred = np.ones(table.n_pred, np.bool_)
    alone_pred[table.pred_index[pairs]] = False
    alone = table.true_area[alone_true].sum() + table.pred_area[alone_pred].sum()
    return int(table.intersection[pairs].sum()) / int(table.union[pairs].sum() + alone)
