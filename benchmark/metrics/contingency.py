"""Contingency table of two label maps, the basis of all pixel and object metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DIRECT = 1 << 22
"""Ids below this value index the area tables directly (32 MiB); maps with larger ids are renumbered first."""

_Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Contingency:
    """Overlaps of annotated and predicted nuclei.

    Nuclei are numbered from 0 in the order of their ids, without gaps; pairs are sorted by (true, pred).

    Attributes:
        pixels: Number of pixels of the image, including background.
        true_ids: int64 (N,), ids of the annotated nuclei in their map.
        pred_ids: int64 (M,), ids of the predicted nuclei in their map.
        true_area: int64 (N,), pixels of each annotated nucleus.
        pred_area: int64 (M,), pixels of each predicted nucleus.
        true_index: int64 (K,), annotated nucleus of each overlapping pair.
        pred_index: int64 (K,), predicted nucleus of each overlapping pair.
        intersection: int64 (K,), common pixels of each pair, at least 1.
    """

    pixels: int
    true_ids: _Ints
    pred_ids: _Ints
    true_area: _Ints
    pred_area: _Ints
    true_index: _Ints
    pred_index: _Ints
    intersection: _Ints

    @property
    def n_true(self) -> int:
        """Number of annotated nuclei."""
        return self.true_area.size

    @property
    def n_pred(self) -> int:
        """Number of predicted nuclei."""
        return self.pred_area.size

    @property
    def union(self) -> _Ints:
        """int64 (K,), pixels of the union of each pair."""
        return self.true_area[self.true_index] + self.pred_area[self.pred_index] - self.intersection

    @property
    def iou(self) -> NDArray[np.float64]:
        """float64 (K,), intersection over union of each pair."""
        return self.intersection / self.union


def contingency(true: NDArray[Any], pred: NDArray[Any]) -> Contingency:
    """Compare two label maps.

    Args:
        true: (H, W), any integer dtype, 0 = background; ids may have gaps and be arbitrarily large.
        pred: Same format and shape.

    Raises:
        ValueError: If the shapes differ, a map is not an integer array, or an id is negative.
    """
    from benchmark.metrics.label_loops import tabulate  # import numba only for scoring

    true, pred = np.asarray(true), np.asarray(pred)
    if true.shape != pred.shape:
        raise ValueError(f"the label maps differ in shape: {true.shape} annotated, {pred.shape} predicted")
    flat_true, true_names = _indexable(true, "annotated")
    flat_pred, pred_names = _indexable(pred, "predicted")
    pred_size = len(pred_names) if pred_names is not None else int(flat_pred.max(initial=0)) + 1
    true_size = len(true_names) if true_names is not None else int(flat_true.max(initial=0)) + 1
    true_area, pred_area, keys, counts = tabulate(flat_true, flat_pred, true_size, pred_size)
    order = np.argsort(keys)
    pair_true, pair_pred = np.divmod(keys[order], pred_size)
    true_rows, true_ids, true_area = _present(true_area, true_names)
    pred_rows, pred_ids, pred_area = _present(pred_area, pred_names)
    return Contingency(
        true.size, true_ids, pred_ids, true_area, pred_area,
        true_rows[pair_true], pred_rows[pair_pred], counts[order],
    )  # fmt: skip


def _indexable(labels: NDArray[Any], side: str) -> tuple[NDArray[np.int32], _Ints | None]:
    """Flatten a map to int32 ids that index a table; also return the original ids if they were renumbered."""
    if labels.dtype != np.bool_ and not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"the {side} label map is {labels.dtype}, expected an integer dtype")
    flat = np.ascontiguousarray(labels).ravel()
    if flat.dtype == np.bool_ or flat.dtype.itemsize < 4:
        flat = flat.astype(np.int32)
    # viewed as unsigned, negative ids are larger than all others, so one pass finds negative and large ids
    if flat.view(f"u{flat.dtype.itemsize}").max(initial=0) < _DIRECT:
        return flat.astype(np.int32, copy=False), None
    if np.issubdtype(flat.dtype, np.signedinteger) and flat.min(initial=0) < 0:
        raise ValueError(f"the {side} label map contains the negative id {flat.min()}")
    names, inverse = np.unique(flat, return_inverse=True)
    if names[0] != 0:  # keep row 0 for the background even if there is none
        names, inverse = np.concatenate([np.zeros(1, names.dtype), names]), inverse + 1
    return inverse.astype(np.int32), names.astype(np.int64)


def _present(area: _Ints, names: _Ints | None) -> tuple[_Ints, _Ints, _Ints]:
    """Return the row of each id without gaps, the ids that occur, and their pixels."""
    occurs = area > 0
    occurs[0] = False
    rows = np.cumsum(occurs) - 1
    ids = np.flatnonzero(occurs)
    return rows, ids if names is None else names[ids], area[ids]
