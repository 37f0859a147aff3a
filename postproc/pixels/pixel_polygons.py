"""Nuclei of a label map as polygons along the edges of their pixels, for programs that measure polygons.

A polygon through pixel centres is too small by half a pixel on every side, and it is degenerate for a line of pixels.
The polygons here cover exactly the pixels of a nucleus, so area, centroid and perimeter equal those of the mask. They
are valid according to OGC Simple Features (OGC 06-103r4, section 6.1.11.1), as JTS, and thus QuPath, requires.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from postproc.pixels.compiled import compiled
from postproc.pixels.components import connected_components
from postproc.pixels.labels import LabelMap

Ring = NDArray[np.int32]
Ints = NDArray[np.int64]

ROW = np.array((0, 1, 0, -1), np.int64)
"""Step of the row for the headings east, south, west and north, clockwise as the image is seen."""
COLUMN = np.array((1, 0, -1, 0), np.int64)
"""Step of the column for the same headings."""


def pixel_polygons(labels: LabelMap, count: int) -> list[list[list[Ring]]]:
    """Trace the pixel edges around each nucleus.

    Pixel (x, y) covers [x, x + 1] x [y, y + 1]. Every 4-connected part of a nucleus is a polygon: its shell, then its
    holes. Pixels of a nucleus that touch only at a corner are different parts, or meet at a point of a ring around
    them. Rings are simple and may share points but not edges. Only corners are listed, so no three consecutive points
    are collinear. Shells have a positive area by the shoelace formula in (x, y), the counter-clockwise order of RFC
    7946 (section 3.1.6), and are clockwise where y points down; holes are the reverse.

    Args:
        labels: int32 (H, W), 0 = background, ids 1..N.
        count: Number of nuclei N.

    Returns:
        Nucleus -> its parts in raster order of their first pixel -> rings, int32 (M, 2) as (x, y) corners of pixels.
        The first point is not repeated at the end. Ids missing from the map have no parts.
    """
    parts, number = connected_components(labels, 4)
    points, ends, part, owner = _trace(parts, labels, number)
    polygons: list[list[Ring]] = [[] for _ in range(number)]
    begin = 0
    for end, index in zip(ends.tolist(), part.tolist(), strict=True):
        polygons[index].append(points[begin:end])
        begin = end
    nuclei: list[list[list[Ring]]] = [[] for _ in range(count)]
    for polygon, label in zip(polygons, owner.tolist(), strict=True):
        nuclei[label - 1].append(polygon)
    return nuclei


@compiled
def _trace(parts: LabelMap, labels: LabelMap, number: int) -> tuple[Ring, Ints, Ints, Ints]:
    """Trace all rings of all parts, in raster order of the upper edge at which each begins.

    The first ring of a part is its shell, since no pixel of the part precedes its first one in raster order.

    Returns:
        Concatenated points of all rings; the end of each ring among them; the part of each ring, from 0; the label of
        each part.
    """
    height, width = parts.shape
    seen = np.zeros((height, width), np.bool_)  # pixels whose upper edge is part of a ring; every ring has such an edge
    points, size = np.empty((1024, 2), np.int32), 0
    ends, part_of, rings = np.empty(256, np.int64), np.empty(256, np.int64), 0
    owner = np.zeros(number, np.int64)
    for y in range(height):
        for x in range(width):
            part = parts[y, x]
            if part == 0 or (y > 0 and parts[y - 1, x] == part) or seen[y, x]:
                continue
            owner[part - 1] = labels[y, x]
            points, size = _follow(parts, seen, y, x, points, size)
            if rings == ends.size:
                ends = np.append(ends, np.empty_like(ends))
                part_of = np.append(part_of, np.empty_like(part_of))
            ends[rings], part_of[rings] = size, part - 1
            rings += 1
    return points[:size], ends[:rings], part_of[:rings], owner


@compiled
def _follow(parts: LabelMap, seen: NDArray[np.bool_], y: int, x: int, points: Ring, size: int) -> tuple[Ring, int]:
    """Append the ring that begins with the upper edge of pixel (x, y), heading east, with its part on the right.

    Where four pixels meet and only two diagonal ones belong to the part, the ring turns left, around the pixel outside.
    The two outer pixels are then separated, since the 4-connected part surrounds one of them, so no ring visits a point
    twice.

    Returns:
        The points, in a larger array if necessary, and their number.
    """
    part = parts[y, x]
    row, column, heading, turned = y, x, 0, True  # the edge of pixel (column, row) on the left of the heading
    while True:
        if turned:
            if size == len(points):
                points = np.concatenate((points, np.empty_like(points)))
            # start of the edge: upper left, upper right, lower right or lower left corner
            points[size, 0] = column + (heading == 1 or heading == 2)
            points[size, 1] = row + (heading == 2 or heading == 3)
            size += 1
        if heading == 0:
            seen[row, column] = True
        ahead_row, ahead_column = row + ROW[heading], column + COLUMN[heading]
        left = (heading + 3) % 4
        left_row, left_column = ahead_row + ROW[left], ahead_column + COLUMN[left]
        turned = True
        if _is_part(parts, left_row, left_column, part):
            row, column, heading = left_row, left_column, left
        elif _is_part(parts, ahead_row, ahead_column, part):
            row, column, turned = ahead_row, ahead_column, False
        else:
            heading = (heading + 1) % 4
        if row == y and column == x and heading == 0:
            return points, size


@compiled
def _is_part(parts: LabelMap, row: int, column: int, part: int) -> bool:
    inside = 0 <= row < parts.shape[0] and 0 <= column < parts.shape[1]
    return inside and bool(parts[row, column] == part)
