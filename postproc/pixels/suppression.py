"""Non-maximum suppression of star-convex polygons by the pixels that they share.

Most pairs of polygons are decided without counting pixels:

- Only polygons whose boxes meet are compared. They are found in grids of cells, one for each power of two of the box's
  side, so that a single long ray affects only its own polygon.
- The pixels of a kept polygon in the box of another are counted in constant time in a summed-area table (Crow 1984).
  The pixels that both share are at most as many.
- A polygon that shares enough pixels in the middle rows alone is suppressed without scanning the others.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from postproc.pixels.compiled import compiled
from postproc.pixels.polygons import Floats, Scan, boxes_of, directions, new_scan, scan_rows

Boxes = NDArray[np.int32]
Ints = NDArray[np.int64]
Lines = NDArray[np.float64]

SMALLEST = 3
"""Binary logarithm of the side in pixels of the smallest cells."""


class Grids(NamedTuple):
    """Polygons by the size of their box and the place of their centre.

    A polygon whose box has a side of at most ``2 ** level`` px is in the grid with cells of that side.

    Attributes:
        member: int32 (N,), polygons, one cell after the other.
        box: int32 (N, 4), their boxes.
        first: int64 (C + 1,), start of the list of each cell.
        size: int64 (C,), polygons in the list of each cell that may still be suppressed.
        level: int64 (G,), binary logarithm of the cells' side of each grid.
        start: int64 (G,), first cell of each grid.
        width: int64 (G,), cells in a row of each grid.
        height: int64 (G,), cells in a column.
    """

    member: NDArray[np.int32]
    box: Boxes
    first: Ints
    size: Ints
    level: Ints
    start: Ints
    width: Ints
    height: Ints


class Kept(NamedTuple):
    """A kept polygon.

    Attributes:
        box: int32 (4,), from `boxes_of`.
        table: int32 (h + 1, w + 1), its pixels above and to the left of each place in the box.
    """

    box: Boxes
    table: NDArray[np.int32]


class Areas(NamedTuple):
    """Areas of polygons in pixels.

    Attributes:
        exact: int64 (N,), -1 where not counted yet.
        least: float64 (N,), lower bounds.
    """

    exact: Ints
    least: Lines


@compiled
def suppress(
    rows: NDArray[np.int64], columns: NDArray[np.int64], radii: Floats, shape: tuple[int, int], overlap: float
) -> NDArray[np.bool_]:
    """Suppress polygons whose intersection with a likelier kept one exceeds `overlap` of the smaller area.

    Areas are counted in pixels, including those beyond the border of the image.

    Args:
        rows: (N,), rows of the centres. The likeliest polygon comes first.
        columns: (N,), columns of the centres.
        radii: float32 (N, R), corners in pixels, 0 or more.
        shape: (H, W) of the image.
        overlap: Largest fraction of the smaller area.

    Returns:
        bool (N,), True for polygons that are kept.
    """
    count, rays = radii.shape
    stays = np.ones(count, np.bool_)
    if count == 0:
        return stays
    units = directions(rays)
    boxes = boxes_of(rows, columns, radii)
    grids = _grids(rows, columns, boxes, shape)
    scan = new_scan((boxes[:, 2] - boxes[:, 0]).max(), rays)
    areas = Areas(np.full(count, -1, np.int64), _least_areas(radii))
    for i in range(count):
        if not stays[i]:
            continue
        scan_rows(rows[i], columns[i], radii[i], units, boxes[i, 0], boxes[i, 2], scan)
        kept = Kept(boxes[i], _table(boxes[i], scan))
        areas.exact[i] = kept.table[-1, -1]
        for grid in range(grids.level.size):
            top, left, bottom, right = _cells_around(boxes[i], grids, grid)
            for y in range(top, bottom):
                for x in range(left, right):
                    cell = grids.start[grid] + y * grids.width[grid] + x
                    begin = end = grids.first[cell]
                    for k in range(begin, begin + grids.size[cell]):
                        j = grids.member[k]
                        if j <= i:
                            continue  # already decided
                        most = _most_common(kept, grids.box[k])
                        if most > overlap * min(areas.exact[i], max(areas.exact[j], areas.least[j])):
                            place = rows[j], columns[j], radii[j], units, grids.box[k]
                            stays[j] = _may_stay(place, kept, most, overlap, areas, i, j, scan)
                        if stays[j]:  # suppressed polygons leave the list
                            grids.member[end], grids.box[end] = j, grids.box[k]
                            end += 1
                    grids.size[cell] = end - begin
    return stays


@compiled
def _cells_around(box: Boxes, grids: Grids, grid: int) -> tuple[int, int, int, int]:
    """Return the first row and column of cells with centres of polygons that may meet a box, and the ends of both."""
    level = grids.level[grid]
    side = np.int64(1) << level
    return (
        max((box[0] - side) >> level, 0),
        max((box[1] - side) >> level, 0),
        min((box[2] + side) >> level, grids.height[grid] - 1) + 1,
        min((box[3] + side) >> level, grids.width[grid] - 1) + 1,
    )


@compiled
def _most_common(kept: Kept, box: Boxes) -> int:
    """Count the pixels of a kept polygon in the box of another one."""
    own, table = kept
    top, bottom = max(own[0], box[0]) - own[0], min(own[2], box[2]) - own[0]
    left, right = max(own[1], box[1]) - own[1], min(own[3], box[3]) - own[1]
    if top >= bottom or left >= right:
        return 0
    return int(table[bottom, right] - table[top, right] - table[bottom, left] + table[top, left])


@compiled
def _may_stay(
    place: tuple[int, int, Floats, Lines, Boxes],
    kept: Kept,
    most: int,
    overlap: float,
    areas: Areas,
    i: int,
    j: int,
    scan: Scan,
) -> bool:
    """Decide whether polygon j stays beside the kept polygon i.

    Args:
        place: Row, column, radii, unit vectors and box of polygon j.
        kept: Polygon i.
        most: Upper bound of the pixels that both share.
        overlap: Largest fraction of the smaller area.
        areas: Of all polygons; that of j is filled in if it is counted.
        i: Kept polygon.
        j: Polygon to be decided.
        scan: Memory for scanning.
    """
    row, column, radii, units, box = place
    high, low = max(kept.box[0], box[0]), min(kept.box[2], box[2])
    limit = overlap * areas.exact[i]
    outside = (box[2] - box[0]) * (box[3] - box[1]) - areas.least[j]  # at most so many pixels of the box
    if most - outside > limit:
        return False
    if most > limit:
        quarter = (low - high) // 4
        scan_rows(row, column, radii, units, high + quarter, low - quarter, scan)
        if _common(scan, 0, high + quarter, low - quarter, kept) > limit:
            return False
    skipped = 0
    if areas.exact[j] < 0:
        scan_rows(row, column, radii, units, box[0], box[2], scan)
        areas.exact[j] = _area(scan, box[2] - box[0])
        skipped = high - box[0]
    else:
        scan_rows(row, column, radii, units, high, low, scan)
    return bool(_common(scan, skipped, high, low, kept) <= overlap * min(areas.exact[i], areas.exact[j]))


@compiled
def _grids(rows: Ints, columns: Ints, boxes: Boxes, shape: tuple[int, int]) -> Grids:
    """Sort polygons into the cells of the grids."""
    largest = SMALLEST
    while (1 << largest) < max(shape):
        largest += 1  # a single cell
    count = largest - SMALLEST + 1
    level = np.arange(SMALLEST, largest + 1)
    width, height, start = np.empty(count, np.int64), np.empty(count, np.int64), np.zeros(count + 1, np.int64)
    for grid in range(count):
        height[grid], width[grid] = ((shape[0] - 1) >> level[grid]) + 1, ((shape[1] - 1) >> level[grid]) + 1
        start[grid + 1] = start[grid] + height[grid] * width[grid]
    cells = np.empty(rows.size, np.int64)
    size = np.zeros(start[count], np.int64)
    for i in range(rows.size):
        side = max(boxes[i, 2] - boxes[i, 0], boxes[i, 3] - boxes[i, 1])
        grid = 0
        while grid + 1 < count and (1 << level[grid]) < side:
            grid += 1
        cells[i] = start[grid] + (rows[i] >> level[grid]) * width[grid] + (columns[i] >> level[grid])
        size[cells[i]] += 1
    first = np.zeros(size.size + 1, np.int64)
    first[1:] = np.cumsum(size)
    place = first[:-1].copy()
    member, box = np.empty(rows.size, np.int32), np.empty((rows.size, 4), np.int32)
    for i in range(rows.size):
        k = place[cells[i]]
        member[k], box[k] = i, boxes[i]
        place[cells[i]] += 1
    return Grids(member, box, first, size, level, start[:-1], width, height)


@compiled
def _least_areas(radii: Floats) -> Lines:
    """Return a lower bound of the pixels of each polygon, float64 (N,).

    The number of pixels differs from the area by at most the length of the outline (Jarnik), which is at most the sum
    of the differences between adjacent radii and of the chords at their mean.
    """
    count, rays = radii.shape
    least = np.empty(count)
    sine, half = math.sin(2 * math.pi / rays), math.sin(math.pi / rays)
    for i in range(count):
        products = differences = total = 0.0
        before = radii[i, rays - 1]
        for k in range(rays):
            now = radii[i, k]
            products += before * now
            differences += abs(now - before)
            total += now
            before = now
        least[i] = sine / 2 * products - differences - 2 * half * total - 1
    return least


@compiled
def _table(box: Boxes, scan: Scan) -> NDArray[np.int32]:
    """Return int32 (h + 1, w + 1): pixels of a scanned polygon above and to the left of each place in its box."""
    height, width = box[2] - box[0], box[3] - box[1]
    table = np.zeros((height + 1, width + 1), np.int32)
    for y in range(height):
        for k in range(0, scan.counts[y] - 1, 2):
            for x in range(math.ceil(scan.crossings[y, k]), math.floor(scan.crossings[y, k + 1]) + 1):
                table[y + 1, x - box[1] + 1] = 1
        total = 0
        for x in range(1, width + 1):
            total += table[y + 1, x]
            table[y + 1, x] = table[y, x] + total
    return table


@compiled
def _area(scan: Scan, lines: int) -> int:
    """Count the pixels of a scanned polygon."""
    total = 0
    for i in range(lines):
        end = -(2**31)
        for k in range(0, scan.counts[i] - 1, 2):
            start, stop = max(math.ceil(scan.crossings[i, k]), end), math.floor(scan.crossings[i, k + 1]) + 1
            if stop > start:
                total += stop - start
                end = stop
    return total


@compiled
def _common(scan: Scan, line: int, first: int, end: int, kept: Kept) -> int:
    """Count the pixels that a polygon scanned in the rows `first` to `end` shares with a kept one.

    Args:
        scan: Crossings of the polygon.
        line: Line of the first row.
        first: First row, in the kept polygon's box.
        end: Row after the last.
        kept: The kept polygon.
    """
    box, table = kept
    width = box[3] - box[1]
    total = 0
    for y in range(first, end):
        above, below = table[y - box[0]], table[y - box[0] + 1]
        done = 0  # a pixel in which two stretches meet counts once
        for k in range(0, scan.counts[line + y - first] - 1, 2):
            start = max(math.ceil(scan.crossings[line + y - first, k]) - box[1], done)
            stop = min(math.floor(scan.crossings[line + y - first, k + 1]) + 1 - box[1], width)
            if stop > start:
                total += below[stop] - above[stop] - below[start] + above[start]
                done = stop
    return total
