"""Spans: stretches of equal, non-zero pixels along a row.

A label map of 16 Mpx contains a quarter of a million spans. Properties of nuclei (sums, extents, contacts) follow from
their spans in closed form, so the pixels are read once, with vector instructions, and written once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from postproc.pixels.compiled import compiled

Image = NDArray[Any]

_BYTE_INDEX = np.uint64(0x0001020304050607)  # multiplied by 2^(8 b), its highest byte is b


class Spans(NamedTuple):
    """Maximal stretches of equal, non-zero pixels of the rows of a map, in raster order.

    Attributes:
        place: int32 (R, 3): row, first column, column after the last.
        value: (R,), value of the map in each span, in its dtype.
        first: int64 (H + 1,): the spans of row y are ``first[y]`` to ``first[y + 1] - 1``.
    """

    place: NDArray[np.int32]
    value: Image
    first: NDArray[np.int64]


def find_spans(image: Image) -> Spans:
    """List the spans of a map.

    Args:
        image: (H, W), any real dtype or bool.
    """
    # Untouched memory costs nothing, so allocating for the worst case is free.
    place = np.empty((image.size, 3), np.int32)
    value = np.empty(image.size, image.dtype)
    first = np.zeros(image.shape[0] + 1, np.int64)
    if image.size:
        _find_spans(np.ascontiguousarray(image), place, value, first)
    return Spans(place[: first[-1]], value[: first[-1]], first)


@compiled
def _find_spans(image: Image, place: NDArray[np.int32], value: Image, first: NDArray[np.int64]) -> None:
    height, width = image.shape
    flags = np.zeros((width + 7) // 8 * 8, np.uint8)
    ends = np.empty(flags.size + 1, np.int64)
    size = 0
    for y in range(height):
        row = image[y]
        found = _ends(row, flags, ends)
        start = 0
        for k in range(found):
            stop = ends[k]
            if row[start] != 0:
                place[size, 0], place[size, 1], place[size, 2] = y, start, stop
                value[size] = row[start]
                size += 1
            start = stop
        first[y + 1] = size


@compiled
def set_positions(flags: NDArray[np.uint8], base: int, out: NDArray[np.int64]) -> int:
    """Write base + k for every set flag k to `out` and return how many there are.

    The length of `flags` is a multiple of 8; `out` has one place more than there can be positions.
    """
    words = flags.view(np.uint64)
    found = 0
    for i in range(words.size):
        word = words[i]
        while word != 0:  # most groups of 8 px lie inside a span
            lowest = word & (~word + np.uint64(1))
            out[found] = base + 8 * i + np.int64((lowest * _BYTE_INDEX) >> np.uint64(56))
            found += 1
            word ^= lowest
    return found


@compiled
def _ends(row: Image, flags: NDArray[np.uint8], ends: NDArray[np.int64]) -> int:
    """Write the columns at which the value changes, and the width, to `ends`; return their number."""
    here, before = row[1:], row[: row.size - 1]
    for k in range(here.size):  # branch-free, so that the compiler vectorises it
        flags[k + 1] = here[k] != before[k]
    found = set_positions(flags, 0, ends)
    ends[found] = row.size
    return found + 1


@compiled
def join_spans(spans: Spans, connectivity: int) -> tuple[NDArray[np.int32], int]:
    """Label the connected components of spans of equal value, in raster order of their first pixel.

    Args:
        spans: Spans of a map.
        connectivity: 4 or 8 neighbours.

    Returns:
        int32 (R,), the component 1..N of each span, and N.
    """
    # Union-find over spans: two pointers advance along each pair of adjacent rows, and overlapping spans are united.
    place, value, first = spans
    reach = 1 if connectivity == 8 else 0
    parent = np.arange(value.size).astype(np.int32)
    for y in range(1, first.size - 1):
        above = first[y - 1]
        for span in range(first[y], first[y + 1]):
            start, stop = place[span, 1] - reach, place[span, 2] + reach
            while above < first[y] and place[above, 2] <= start:
                above += 1
            other = above
            while other < first[y] and place[other, 1] < stop:
                if value[other] == value[span]:
                    _unite(parent, span, other)
                other += 1
    component = np.empty(value.size, np.int32)
    count = 0
    for span in range(value.size):
        root = _root(parent, span)
        if root == span:
            count += 1
            component[span] = count
        else:
            component[span] = component[root]  # roots precede their members
    return component, count


@compiled
def _root(parent: NDArray[np.int32], span: int) -> int:
    while parent[span] != span:
        parent[span] = parent[parent[span]]
        span = parent[span]
    return span


@compiled
def _unite(parent: NDArray[np.int32], one: int, other: int) -> None:
    first, second = _root(parent, one), _root(parent, other)
    if first < second:
        parent[second] = first
    elif second < first:
        parent[first] = second


def draw_spans(spans: Spans, values: NDArray[Any], width: int) -> Image:
    """Draw a map with one value per span and 0 elsewhere.

    Args:
        spans: Spans of a map.
        values: (R,), value of each span.
        width: Columns of the map.

    Returns:
        (H, W) of the dtype of `values`.
    """
    image = np.zeros((spans.first.size - 1, width), values.dtype)
    _draw_spans(spans, values, image)
    return image


@compiled
def _draw_spans(spans: Spans, values: Image, image: Image) -> None:
    place, _, _ = spans
    for span in range(values.size):
        for x in range(place[span, 1], place[span, 2]):
            image[place[span, 0], x] = values[span]


@compiled
def areas(spans: Spans, owner: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """Count the pixels of the spans of each owner 0..count, int64 (count + 1,)."""
    place, _, _ = spans
    area = np.zeros(count + 1, np.int64)
    for span in range(owner.size):
        area[owner[span]] += place[span, 2] - place[span, 1]
    return area


def coordinate_sums(labels: NDArray[np.int32]) -> NDArray[np.int64]:
    """Count the pixels of every nucleus and sum their coordinates.

    Args:
        labels: int32 (H, W), 0 = background, ids 1..N; gaps are fine.

    Returns:
        int64 (N + 1, 3): number of pixels, sum of x and sum of y of each id; the row of the background is 0.
    """
    spans = find_spans(labels)
    return _coordinate_sums(spans, int(spans.value.max(initial=0)))


@compiled
def _coordinate_sums(spans: Spans, count: int) -> NDArray[np.int64]:
    place, value, _ = spans
    sums = np.zeros((count + 1, 3), np.int64)
    for span in range(value.size):
        y, start, stop = np.int64(place[span, 0]), np.int64(place[span, 1]), np.int64(place[span, 2])
        length = stop - start
        sums[value[span], 0] += length
        sums[value[span], 1] += (start + stop - 1) * length // 2
        sums[value[span], 2] += y * length
    return sums
