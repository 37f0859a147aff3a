"""Compiled Hausdorff distances between nuclei. Importing this module imports numba."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from postproc.pixels.compiled import compiled

_Map = NDArray[np.int32]
_Ints = NDArray[np.int64]


@compiled
def _on_border(labels: _Map, y: int, x: int) -> bool:
    k = labels[y, x]
    if y == 0 or x == 0 or y == labels.shape[0] - 1 or x == labels.shape[1] - 1:
        return True
    return bool(labels[y - 1, x] != k or labels[y + 1, x] != k or labels[y, x - 1] != k or labels[y, x + 1] != k)


@compiled
def pixel_lists(labels: _Map, count: int, border_only: bool) -> tuple[_Ints, NDArray[np.int32]]:
    """List the pixels of every nucleus.

    Unlike a search in bounding boxes, lists are as fast for a nucleus whose parts are far apart.

    Args:
        labels: (H, W), ids in [0, count].
        count: Largest id.
        border_only: Only pixels with a 4-neighbour outside the nucleus.

    Returns:
        int64 (count + 2,) and int32 (P, 2): rows ``starts[k]:starts[k + 1]`` are (y, x) of the pixels of id k.
    """
    starts = np.zeros(count + 3, np.int64)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            k = labels[y, x]
            if k != 0 and (not border_only or _on_border(labels, y, x)):
                starts[k + 2] += 1
    for k in range(1, starts.size):
        starts[k] += starts[k - 1]
    px = np.empty((starts[-1], 2), np.int32)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            k = labels[y, x]
            if k != 0 and (not border_only or _on_border(labels, y, x)):
                px[starts[k + 1], 0], px[starts[k + 1], 1] = y, x
                starts[k + 1] += 1
    return starts[: count + 2], px


@compiled
def _boxes(starts: _Ints, px: NDArray[np.int32]) -> _Ints:
    """Return (ids, 4): first and last row, first and last column of each id that has pixels."""
    boxes = np.zeros((starts.size - 1, 4), np.int64)
    for k in range(boxes.shape[0]):
        if starts[k] < starts[k + 1]:
            own = px[starts[k] : starts[k + 1]]
            boxes[k, 0], boxes[k, 1] = own[:, 0].min(), own[:, 0].max()
            boxes[k, 2], boxes[k, 3] = own[:, 1].min(), own[:, 1].max()
    return boxes


@compiled
def _directed(px: NDArray[np.int32], others: _Map, other: int, border: NDArray[np.int32], largest: int) -> int:
    """Return the maximum of `largest` and of the squared distances of some pixels from the nucleus `other`.

    The pixel of `other` nearest to a pixel outside it is always on its border.
    """
    near = 0  # neighbouring pixels have similar nearest pixels: start from the last result
    for k in range(px.shape[0]):
        y, x = np.int64(px[k, 0]), np.int64(px[k, 1])
        if others[y, x] == other:
            continue
        nearest = (border[near, 0] - y) ** 2 + (border[near, 1] - x) ** 2
        if nearest <= largest:
            continue
        for b in range(border.shape[0]):
            squared = (border[b, 0] - y) ** 2 + (border[b, 1] - x) ** 2
            if squared < nearest:
                nearest, near = squared, b
                if nearest <= largest:
                    break  # this pixel cannot be the farthest
        largest = max(largest, nearest)
    return largest


@compiled
def hausdorff_distances(
    true: _Map, pred: _Map, true_ids: _Ints, pred_ids: _Ints, partner: _Ints
) -> NDArray[np.float64]:
    """Return the Hausdorff distance of each annotated nucleus to its partner, or to the nearest nucleus.

    Args:
        true: (H, W), annotated label map.
        pred: (H, W), predicted label map.
        true_ids: int64 (N,), ascending.
        pred_ids: int64 (M,), ascending, M > 0.
        partner: int64 (N,), row in `pred_ids`; -1 = none: the smallest distance to any predicted nucleus is returned.

    Returns:
        float64 (N,), pixels.
    """
    true_starts, true_px = pixel_lists(true, true_ids[-1], False)
    pred_starts, pred_px = pixel_lists(pred, pred_ids[-1], False)
    true_edges, true_border = pixel_lists(true, true_ids[-1], True)
    pred_edges, pred_border = pixel_lists(pred, pred_ids[-1], True)
    true_boxes, pred_boxes = _boxes(true_edges, true_border), _boxes(pred_edges, pred_border)
    out = np.empty(true_ids.size)
    bounds = np.empty(pred_ids.size, np.int64)
    for row in range(true_ids.size):
        i = true_ids[row]
        px = true_px[true_starts[i] : true_starts[i + 1]]
        border = true_border[true_edges[i] : true_edges[i + 1]]
        first = partner[row]
        if first < 0:
            # a Hausdorff distance is at least the largest difference between the sides of the bounding boxes
            for k in range(pred_ids.size):
                box = pred_boxes[pred_ids[k]]
                bounds[k] = 0
                for side in range(4):
                    bounds[k] = max(bounds[k], abs(box[side] - true_boxes[i, side]))
            first = np.argmin(bounds)
        best = -1  # squared
        for step in range(-1, pred_ids.size if partner[row] < 0 else 0):
            k = first if step < 0 else step
            if step >= 0 and (step == first or bounds[k] ** 2 >= best):
                continue
            j = pred_ids[k]
            squared = _directed(px, pred, j, pred_border[pred_edges[j] : pred_edges[j + 1]], 0)
            squared = _directed(pred_px[pred_starts[j] : pred_starts[j + 1]], true, i, border, squared)
            if best < 0 or squared < best:
                best = squared
        out[row] = math.sqrt(best)
    return out
