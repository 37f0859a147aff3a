"""The watershed as scikit-image computes it, for the rare images where the order of its heap decides."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from postproc.pixels.compiled import compiled

Image = NDArray[Any]


@compiled
def _neighbour(position: int, x: int, side: int, width: int, size: int) -> int:
    """Return the flat position of the neighbour above, left, right or below (side 0 to 3), -1 outside.

    The column `x` of `position` is an argument, since a division per neighbour would cost more than the rest.
    """
    if side == 0:
        return position - width if position >= width else -1
    if side == 1:
        return position - 1 if x > 0 else -1
    if side == 2:
        return position + 1 if x < width - 1 else -1
    return position + width if position < size - width else -1


@compiled
def _grown(value: Image, entry: Image) -> tuple[Image, Image]:
    more_value = np.empty(2 * value.size, value.dtype)
    more_entry = np.empty((2 * value.size, 2), entry.dtype)
    more_value[: value.size] = value
    more_entry[: value.size] = entry
    return more_value, more_entry


@compiled
def _push(value: Image, entry: Image, size: int, new: Any, time: int, position: int) -> int:
    """Insert an element; it is younger than all others, so equal values stay above it."""
    child = size
    while child > 0:
        parent = (child - 1) >> 1
        if not new < value[parent]:
            break
        value[child] = value[parent]
        entry[child, 0], entry[child, 1] = entry[parent, 0], entry[parent, 1]
        child = parent
    value[child] = new
    entry[child, 0], entry[child, 1] = time, position
    return size + 1


@compiled
def flood_like_skimage(values: Image, mask: Image, markers: Image) -> Image:
    """Flood a whole image as scikit-image (to 0.26) does, equal seeds included.

    That order follows from every comparison in the heap's history, so all marker pixels enter one textbook
    binary heap in raster order, with time 0.

    Args:
        values: (H, W).
        mask: bool (H, W).
        markers: int32 (H, W), 0 outside of the mask.

    Returns:
        int32 (H, W).
    """
    width = values.shape[1]
    output = markers.copy()
    image, inside, label = values.ravel(), mask.ravel(), output.ravel()
    value = np.empty(1024, values.dtype)
    entry = np.empty((1024, 2), np.int32)
    size = 0
    time = 0
    for position in range(label.size):
        if label[position] != 0:
            if size == value.size:
                value, entry = _grown(value, entry)
            size = _push(value, entry, size, image[position], 0, position)
    while size:
        level, position = value[0], int(entry[0, 1])
        size = _pop_by_swaps(value, entry, size)
        x = position % width
        for side in range(4):
            near = _neighbour(position, x, side, width, image.size)
            if near >= 0 and inside[near] and label[near] == 0:
                label[near] = label[position]
                if size == value.size:
                    value, entry = _grown(value, entry)
                time += 1
                size = _push(value, entry, size, max(level, image[near]), time, near)
    return output


@compiled
def _pop_by_swaps(value: Image, entry: Image, size: int) -> int:
    """Remove the first element: the last one takes its place and sinks while a child is strictly smaller."""
    size -= 1
    last, time, position = value[size], entry[size, 0], entry[size, 1]
    hole = 0
    while True:
        left, right = 2 * hole + 1, 2 * hole + 2
        if left >= size:
            break
        child = hole
        best, best_time = last, time
        if value[left] < best or (value[left] == best and entry[left, 0] < best_time):
            child, best, best_time = left, value[left], entry[left, 0]
        if right < size and (value[right] < best or (value[right] == best and entry[right, 0] < best_time)):
            child = right
        if child == hole:
            break
        value[hole] = value[child]
        entry[hole, 0], entry[hole, 1] = entry[child, 0], entry[child, 1]
        hole = child
    value[hole] = last
    entry[hole, 0], entry[hole, 1] = time, position
    return size
