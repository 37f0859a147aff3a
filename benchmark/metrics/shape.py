"""Average Dice coefficient and average Hausdorff distance over nuclei (Sahasrabudhe 2020, table 1).

The papers define neither the matching nor the score of a missed nucleus. Here, each annotated nucleus is compared with
the predicted nucleus that covers most of it (ties: the higher IoU, then the smaller id). A missed nucleus has Dice 0,
and its Hausdorff distance is the smallest to any predicted nucleus, as in the GlaS challenge (Sirinukunwattana 2017),
which also scores individual objects. Both scores are means over the annotated nuclei. The average Dice of TNBC and
CoNSeP in that table is quoted from HoVer-Net, and is therefore the pixel `dice`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.metrics.contingency import Contingency


def average_dice(table: Contingency) -> float:
    """Return the mean Dice of the annotated nuclei; NaN for two empty maps, 0 for one empty map."""
    if table.n_true + table.n_pred == 0:
        return float("nan")
    if table.n_true == 0:
        return 0.0
    pairs = _largest_overlaps(table)
    areas = table.true_area[table.true_index[pairs]] + table.pred_area[table.pred_index[pairs]]
    return float((2 * table.intersection[pairs] / areas).sum() / table.n_true)


def average_hausdorff(table: Contingency, true: NDArray[Any], pred: NDArray[Any]) -> float:
    """Return the mean Hausdorff distance of the annotated nuclei in pixels.

    Args:
        table: Contingency table of the two maps.
        true: (H, W), annotated label map; ids within int32.
        pred: (H, W), predicted label map.

    Returns:
        Mean distance; NaN if either side is empty, since 0 would be the best score.
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
    """Return the index of the pair of largest intersection for each annotated nucleus that has pairs."""
    order = np.lexsort((-table.iou, -table.intersection, table.true_index))
    return order[np.flatnonzero(np.diff(table.true_index[order], prepend=-1))]
