"""Label maps: their type, and consecutive ids."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LabelMap = NDArray[np.int32]
"""(H, W), 0 = background, k = the k-th nucleus."""


def relabel(
    labels: NDArray[np.integer], types: NDArray[np.integer] | None = None
) -> tuple[LabelMap, NDArray[np.int64] | None, NDArray[np.int64]]:
    """Renumber the nuclei of a map 1..N without gaps, in the order of their ids.

    Args:
        labels: (H, W), any integer dtype, 0 = background, gaps allowed.
        types: Row k belongs to id k + 1 of `labels` (missing ids have rows, too), or None.

    Returns:
        The int32 map, the int64 types of the remaining ids (or None), and their old ids, int64 (N,).

    Raises:
        ValueError: If an id is negative or `types` has no row for it.
    """
    labels = labels.view(np.uint8) if labels.dtype == np.bool_ else labels  # booleans would select, not index
    ids = _ids(labels)
    if ids.size and ids[0] < 0:
        raise ValueError(f"label map contains the negative id {ids[0]}")
    ids = ids[ids > 0]
    if ids.size and ids[-1] == ids.size:
        compact = labels.astype(np.int32)
    elif ids.size and ids[-1] <= labels.size:
        numbers = np.zeros(ids[-1] + 1, np.int32)
        numbers[ids] = np.arange(1, ids.size + 1)
        compact = numbers[labels]
    else:
        compact = np.where(labels > 0, np.searchsorted(ids, labels) + 1, 0).astype(np.int32)
    if types is None:
        return compact, None, ids
    if ids.size and ids[-1] > len(types):
        raise ValueError(f"id {ids[-1]} has no row among {len(types)} types")
    return compact, np.asarray(types)[ids - 1].astype(np.int64), ids


def _ids(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the values of a map in ascending order; small ones are found without sorting the pixels."""
    if labels.size == 0 or labels.min() < 0 or labels.max() > labels.size:
        return np.unique(labels).astype(np.int64)
    present = np.zeros(int(labels.max()) + 1, np.bool_)
    present[labels.ravel()] = True
    return np.flatnonzero(present)
