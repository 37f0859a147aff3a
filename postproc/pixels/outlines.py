"""Outlines and bounding boxes of the nuclei of a label map."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from postproc.pixels.compiled import compiled
from postproc.pixels.components import connected_components
from postproc.pixels.labels import LabelMap

STEPS = np.array([(0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1)], np.int64)
"""The 8 neighbours as (row, column), counter-clockwise as the image is seen, starting with the left one."""


def outlines(labels: LabelMap, count: int) -> list[NDArray[np.int32]]:
    """Trace the outer border of each nucleus.

    The border pixels of an 8-connected part are listed in tracing order (Suzuki and Abe 1985, algorithm 1, outer
    borders only), from its first pixel in raster order down its left side. The result equals that of
    ``cv2.findContours`` with ``RETR_EXTERNAL`` and ``CHAIN_APPROX_NONE``. A pixel that the border passes twice is
    listed twice. For a nucleus in several parts the longest border is returned, or the first of equally long ones.

    Args:
        labels: int32 (H, W), 0 = background.
        count: Number of nuclei N.

    Returns:
        N arrays int32 (M, 2) as (x, y) px; empty for ids missing from the map.
    """
    parts, number = connected_components(labels, 8)
    owner, starts = _first_pixels(parts, labels, number)
    points, ends = _follow(parts, starts)
    begins = np.concatenate([[0], ends[:-1]]) if number else ends
    chosen = _longest(owner, ends - begins, count)
    return [points[begins[k] : ends[k]] if k >= 0 else np.zeros((0, 2), np.int32) for k in chosen.tolist()]


@compiled
def bounding_boxes(labels: LabelMap, count: int) -> NDArray[np.int64]:
    """Return (top, left, bottom, right) in pixels of each nucleus, half open, int64 (N, 4); zeros for missing ids."""
    boxes = np.zeros((count + 1, 4), np.int64)
    height, width = labels.shape
    for y in range(height):
        before = 0
        for x in range(width):
            label = labels[y, x]
            if label != before and before != 0:
                boxes[before, 3] = max(boxes[before, 3], x)
            if label != before and label != 0:
                if boxes[label, 2] == 0:
                    boxes[label, 0], boxes[label, 1] = y, x
                boxes[label, 1] = min(boxes[label, 1], x)
                boxes[label, 2] = y + 1
            before = label
        if before != 0:
            boxes[before, 3] = width
    return boxes[1:]


@compiled
def _first_pixels(parts: LabelMap, labels: LabelMap, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the label of each part, and the flat position of its first pixel in raster order."""
    owner, starts = np.zeros(number, np.int64), np.full(number, -1, np.int64)
    flat, own = parts.ravel(), labels.ravel()
    before = 0
    for position in range(flat.size):
        part = flat[position]
        if part != before and part != 0 and starts[part - 1] < 0:
            starts[part - 1], owner[part - 1] = position, own[position]
        before = part
    return owner, starts


@compiled
def _longest(owner: NDArray[np.int64], lengths: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the part with the longest border of each label, -1 for labels without parts."""
    chosen = np.full(count, -1, np.int64)
    for part in range(owner.size):
        label = owner[part] - 1
        if chosen[label] < 0 or lengths[part] > lengths[chosen[label]]:
            chosen[label] = part
    return chosen


@compiled
def _follow(parts: LabelMap, starts: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the concatenated border pixels of all parts as (x, y), and the end of each border among them."""
    width = parts.shape[1]
    points, size = np.empty((1024, 2), np.int32), 0
    ends = np.empty(starts.size, np.int64)
    for part in range(1, starts.size + 1):
        first_row, first_column = divmod(starts[part - 1], width)
        back = _neighbour(parts, part, first_row, first_column, 0, -1)  # clockwise from the left one
        row, column, came_from = first_row, first_column, back
        while True:
            if size == len(points):
                more = np.empty((2 * size, 2), np.int32)
                more[:size] = points
                points = more
            points[size, 0], points[size, 1] = column, row
            size += 1
            if back < 0:  # a single pixel
                break
            towards = _neighbour(parts, part, row, column, came_from + 1, 1)
            next_row, next_column = row + STEPS[towards, 0], column + STEPS[towards, 1]
            at_last = row == first_row + STEPS[back, 0] and column == first_column + STEPS[back, 1]
            if at_last and next_row == first_row and next_column == first_column:
                break
            row, column, came_from = next_row, next_column, (towards + 4) % 8
        ends[part - 1] = size
    return points[:size], ends


@compiled
def _neighbour(parts: LabelMap, part: int, row: int, column: int, start: int, turn: int) -> int:
    """Return the first of the 8 neighbours in the part, starting at `start` in the direction `turn`; -1 = none."""
    for k in range(8):
        side = (start + turn * k) % 8
        y, x = row + STEPS[side, 0], column + STEPS[side, 1]
        if 0 <= y < parts.shape[0] and 0 <= x < parts.shape[1] and parts[y, x] == part:
            return side
    return -1
