"""Exact Euclidean distances within a mask, and maxima within a disc."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from postproc.pixels.compiled import compiled
from postproc.pixels.spans import Spans, find_spans

Mask = NDArray[np.bool_]
Ints = NDArray[np.int32]

FARTHEST = 46340
"""Largest distance whose square is an int32."""


def squared_distance(mask: Mask) -> Ints:
    """Compute the squared Euclidean distance of each pixel of a mask to the nearest pixel outside.

    The border of the image does not count as outside. The two passes of Meijster, Roerdink and Hesselink (2000), here
    limited to the spans of the mask: no pixel beyond the ends of a span is nearer than these.

    Args:
        mask: bool (H, W). Distances of more than 46,340 px are that large.

    Returns:
        int32 (H, W) in pixels squared, 0 outside; ``min(H + W, 46340) ** 2`` if the mask covers the whole image.
    """
    square = np.zeros(mask.shape, np.int32)
    if mask.size:
        _by_column(np.ascontiguousarray(mask), square)
        _by_span(find_spans(mask), square)
    return square


@compiled
def _by_column(mask: Mask, distance: Ints) -> None:
    """Write the distance to the nearest pixel outside in the same column, at most H + W and `FARTHEST`."""
    height, width = mask.shape
    far = min(height + width, FARTHEST)
    for x in range(width):
        distance[0, x] = far if mask[0, x] else 0
    for y in range(1, height):
        row, above, inside = distance[y], distance[y - 1], mask[y]
        for x in range(width):
            row[x] = min(above[x] + 1, far) if inside[x] else 0
    for y in range(height - 2, -1, -1):
        row, below = distance[y], distance[y + 1]
        for x in range(width):
            row[x] = min(row[x], below[x] + 1)


@compiled
def _by_span(spans: Spans, distance: Ints) -> None:
    """Replace the distances within columns by the squared distances: the lower envelope of a parabola per pixel."""
    width = distance.shape[1]
    place, _, _ = spans
    height = np.empty(width, np.int64)  # of the lowest point of each parabola
    apex, start = np.empty(width, np.int64), np.empty(width, np.int64)  # of the parabolas of the envelope
    for span in range(place.shape[0]):
        row = distance[place[span, 0]]
        first, end = max(place[span, 1] - 1, 0), min(place[span, 2] + 1, width)
        for x in range(first, end):
            height[x] = np.int64(row[x]) ** 2
        size, apex[0], start[0] = 1, first, first
        for x in range(first + 1, end):
            while size > 0 and _value(start[size - 1], apex[size - 1], height) > _value(start[size - 1], x, height):
                size -= 1
            if size == 0:
                size, apex[0], start[0] = 1, x, first
                continue
            before = apex[size - 1]
            cut = (x * x - before * before + height[x] - height[before]) // (2 * (x - before)) + 1
            if cut < end:
                apex[size], start[size] = x, cut
                size += 1
        for k in range(size):
            for x in range(start[k], start[k + 1] if k + 1 < size else end):
                row[x] = min(_value(x, apex[k], height), FARTHEST * FARTHEST)


@compiled
def _value(x: int, apex: int, height: NDArray[np.int64]) -> Any:
    return (x - apex) * (x - apex) + height[apex]


def disc_maxima(image: NDArray[Any], mask: Mask, radius: float) -> Mask:
    """Mark the pixels of a mask that no pixel within `radius` exceeds.

    Args:
        image: (H, W), any real dtype without NaN.
        mask: bool (H, W).
        radius: In pixels.

    Returns:
        bool (H, W); plateaus are marked completely.
    """
    reach = int(radius)
    y, x = np.indices((2 * reach + 1, 2 * reach + 1)) - reach
    square = y * y + x * x
    near = (square <= radius * radius) & (square > 0)
    order = np.argsort(square[near], kind="stable")
    return _disc_maxima(np.ascontiguousarray(image), find_spans(mask), np.stack([y[near], x[near]], axis=1)[order])


@compiled
def _disc_maxima(image: NDArray[Any], spans: Spans, offsets: NDArray[np.int64]) -> Mask:
    # The nearest pixels come first: most pixels have a higher one among them.
    height, width = image.shape
    place, _, _ = spans
    highest = np.zeros(image.shape, np.bool_)
    for span in range(place.shape[0]):
        y = place[span, 0]
        for x in range(place[span, 1], place[span, 2]):
            exceeded = False
            for k in range(offsets.shape[0]):
                ny, nx = y + offsets[k, 0], x + offsets[k, 1]
                if 0 <= ny < height and 0 <= nx < width and image[ny, nx] > image[y, x]:
                    exceeded = True
                    break
            highest[y, x] = not exceeded
    return highest
