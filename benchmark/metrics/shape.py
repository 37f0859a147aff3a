"""Average Dice coefficient and average Hausdorff distance over nuclei (Sahasrabudhe 2020, table 1).

The papers name these scores but define neither the matching nor what a missed nucleus costs. Here, each
annotated nucleus is compared with the predicted one that covers most of it (equal cover: the higher IoU, then
the smaller id). A missed nucleus has Dice 0, and its Hausdorff distance is the least to any predicted
nucleus: the rule of the GlaS challenge (Sirinukunwattana 2017), which also scores objects one by one.
Both are plain means over the annotated nuclei. In that table, the average Dice of TNBC and CoNSeP is quoted
from HoVer-Net and so is the px-wise `dice`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.metrics.contingency import Contingency


def average_dice(table: Contingency) -> float:
    """Return the mean Dice of the annotated nuclei; NaN for two empty maps, 0 where one is empty."""
    if table.n_true + table.n_pred == 0:
        return float("nan")
    if table.n_true == 0:
        return 0.0
    pairs = _largest_overlaps(table)
    areas = table.true_area[table.true_index[pairs]] + table.pred_area[table.pred_index[pairs]]
    return float((2 * table.intersection[pairs] / areas).sum() / table.n_true)


def average_hausdorff(table: Contingency, true: NDArray[Any], pred: NDArray[Any]) -> float:
    """Return the mean Hausdorff distance of the annotated nuclei in px.

    Args:
        table: The contingency table of the two maps.
        true: (H, W), the annotated label map; ids within int32.
        pred: (H, W), the predicted label map.

    Returns:
        NaN where either side is empty: there is no distance then, and 0 would be the best score.
    """
    from benchmark.metrics.shape_loops import hausdorff_distances

    if table.n_true == 0 or table.n_pred == 0:
        return float("nan")
    partner = np.full(table.n_true, -1, np.int64)
    pairs = _largest_overlaps(table)
    partner[table.true_index[pairs]] = table.pred_index[pairs]
    maps = [np.ascontiguousarray(labels, np.int32) for labels in (true, pred)]
    return float(hausdorff_distances(maps[0], maps[1], table.true_ids, table.pred_ids, partner).mean())


def _largest_overlaps(table: Contingency) -> NDArray[np.int64]:
    """Return the place of the pair with the largest intersection of each annotated nucleus that has one."""
    order = np.lexsort((-table.iou, -table.intersection, table.true_index))
    return order[np.flatnonzero(np.diff(table.true_index[order], prepend=-1))]
