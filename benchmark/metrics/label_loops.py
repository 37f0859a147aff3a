"""Compiled passes over the pixels of label maps. Importing this module imports numba."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from postproc.pixels.compiled import compiled
from postproc.pixels.spans import set_positions

_CHUNK = 16384  # pixels per chunk; their flags fit in the L1 cache
_MIXER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio spreads consecutive keys over the hash table


@compiled
def _slot(keys: NDArray[np.int64], key: int) -> int:
    """Return the slot of `key` in an open-addressing table whose size is a power of two; 0 marks free slots."""
    mask = keys.size - 1
    slot = int((np.uint64(key) * _MIXER) >> np.uint64(32)) & mask
    while keys[slot] != 0 and keys[slot] != key:
        slot = (slot + 1) & mask
    return slot


@compiled
def _grown(keys: NDArray[np.int64], counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    more_keys = np.zeros(keys.size * 2, np.int64)
    more_counts = np.zeros(keys.size * 2, np.int64)
    for k in range(keys.size):
        if keys[k] != 0:
            slot = _slot(more_keys, keys[k])
            more_keys[slot] = keys[k]
            more_counts[slot] = counts[k]
    return more_keys, more_counts


@compiled
def _pair_changes(
    true: NDArray[np.int32],
    true_before: NDArray[np.int32],
    pred: NDArray[np.int32],
    pred_before: NDArray[np.int32],
    out: NDArray[np.uint8],
) -> None:
    for k in range(out.size):  # branch-free, so that the compiler vectorises the loop
        out[k] = (true[k] != true_before[k]) | (pred[k] != pred_before[k])


@compiled
def _add_spans(
    true: NDArray[np.int32],
    pred: NDArray[np.int32],
    start: int,
    ends: NDArray[np.int64],
    true_area: NDArray[np.int64],
    pred_area: NDArray[np.int64],
    keys: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> int:
    """Count the spans that end before each of `ends`; return the number of pairs added to the table."""
    pred_size = pred_area.size
    added = 0
    for k in range(ends.size):
        i, j, length = true[start], pred[start], ends[k] - start
        start = ends[k]
        true_area[i] += length
        pred_area[j] += length
        if i != 0 and j != 0:
            key = np.int64(i) * pred_size + j
            slot = _slot(keys, key)
            added += keys[slot] == 0
            keys[slot] = key
            counts[slot] += length
    return added


@compiled
def tabulate(
    true: NDArray[np.int32], pred: NDArray[np.int32], true_size: int, pred_size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Count the pixels of every id and of every pair of ids in one pass over spans of equal pairs.

    Args:
        true: Flat map, ids in [0, true_size).
        pred: Flat map of the same length, ids in [0, pred_size).
        true_size: Number of rows of the first result.
        pred_size: Number of rows of the second result.

    Returns:
        Pixels of each id of `true` and of `pred` (including background); then, for pairs without background, the keys
        ``id_true * pred_size + id_pred`` in arbitrary order, and their pixels.
    """
    true_area = np.zeros(true_size, np.int64)
    pred_area = np.zeros(pred_size, np.int64)
    keys = np.zeros(1 << 14, np.int64)
    counts = np.zeros(1 << 14, np.int64)
    used = 0
    flags = np.zeros(_CHUNK, np.uint8)
    ends = np.empty(_CHUNK + 1, np.int64)
    start = 0
    for base in range(0, true.size, _CHUNK):
        length = min(_CHUNK, true.size - base)
        first = 1 if base == 0 else 0  # the first pixel has no predecessor
        here, before = slice(base + first, base + length), slice(base + first - 1, base + length - 1)
        _pair_changes(true[here], true[before], pred[here], pred[before], flags[first:length])
        flags[:first] = 0
        flags[length:] = 0
        found = set_positions(flags, base, ends)
        if base + length == true.size:
            ends[found] = true.size
            found += 1
        while 2 * (used + found) > keys.size:
            keys, counts = _grown(keys, counts)
        used += _add_spans(true, pred, start, ends[:found], true_area, pred_area, keys, counts)
        if found > 0:
            start = ends[found - 1]
    filled = np.flatnonzero(keys)
    return true_area, pred_area, keys[filled], counts[filled]
