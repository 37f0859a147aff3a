"""Star-convex polygons on the pixel grid: measure, fill, suppress and paint them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from postproc.pixels.compiled import compiled
from postproc.pixels.labels import LabelMap

Floats = NDArray[np.float32]


@compiled
def ray_distances(labels: NDArray[Any], rays: int) -> Floats:
    """Measure the distance of each pixel to the outline of its nucleus along rays.

    A ray advances one pixel at a time along its longer axis, like a rasterised line. The outline is half such a step
    before the first pixel that is outside the nucleus or the image.

    Args:
        labels: (H, W), 0 = background.
        rays: Number of directions; ray k has the angle ``2 pi k / rays`` from the x axis towards the y axis.

    Returns:
        float32 (rays, H, W) in pixels, 0 on background.
    """
    height, width = labels.shape
    distances = np.zeros((rays, height, width), np.float32)
    for k in range(rays):
        dx, dy = math.cos(2 * math.pi * k / rays), math.sin(2 * math.pi * k / rays)
        step = 1 / max(abs(dx), abs(dy))
        dx, dy = dx * step, dy * step
        for y in range(height):
            for x in range(width):
                own = labels[y, x]
                if own == 0:
                    continue
                steps = 1
                while True:
                    row, column = math.floor(y + steps * dy + 0.5), math.floor(x + steps * dx + 0.5)
                    if row < 0 or row >= height or column < 0 or column >= width or labels[row, column] != own:
                        break
                    steps += 1
                distances[k, y, x] = (steps - 0.5) * step
    return distances


@compiled
def directions(rays: int) -> NDArray[np.float64]:
    """Return the unit vector (x, y) of each ray, float64 (rays, 2).

    Rounded to 12 digits, so that rays along an axis stay exactly on it despite the finite precision of pi.
    """
    units = np.empty((rays, 2))
    for k in range(rays):
        units[k, 0], units[k, 1] = math.cos(2 * math.pi * k / rays), math.sin(2 * math.pi * k / rays)
    return np.round(units, 12)


@compiled
def scan(
    row: int,
    column: int,
    radii: Floats,
    units: NDArray[np.float64],
    crossings: NDArray[np.float64],
    counts: NDArray[np.int64],
) -> tuple[int, int]:
    """Find the crossings of a polygon's outline with the rows of the image.

    By the even-odd rule, the pixels of a row inside the polygon are those between crossings 0 and 1, 2 and 3, and so
    on.

    Args:
        row: Of the polygon's centre.
        column: Of the polygon's centre.
        radii: (R,), distance of each corner from the centre in pixels.
        units: From `directions`.
        crossings: float64 (rows, R), filled with the sorted columns of the crossings of each row.
        counts: int64 (rows,), filled with their number.

    Returns:
        First row that has pixels, and the row after the last; row y is in line ``y - first`` of `crossings`.
    """
    heights = row + radii * units[:, 1]
    first, end = math.ceil(heights.min()), math.floor(heights.max()) + 1
    counts[: end - first] = 0
    for k in range(radii.size):
        after = (k + 1) % radii.size
        x, y = column + radii[k] * units[k, 0], row + radii[k] * units[k, 1]
        next_x, next_y = column + radii[after] * units[after, 0], row + radii[after] * units[after, 1]
        for line in range(math.ceil(min(y, next_y)), math.ceil(max(y, next_y))):
            place = counts[line - first]
            crossing = x + (line - y) / (next_y - y) * (next_x - x)
            while place > 0 and crossings[line - first, place - 1] > crossing:
                crossings[line - first, place] = crossings[line - first, place - 1]
                place -= 1
            crossings[line - first, place] = crossing
            counts[line - first] += 1
    return first, end


@compiled
def suppress(
    rows: NDArray[np.int64], columns: NDArray[np.int64], radii: Floats, shape: tuple[int, int], overlap: float
) -> NDArray[np.bool_]:
    """Suppress polygons whose intersection with a likelier kept one exceeds `overlap` of the smaller area.

    Areas are counted in pixels, including those beyond the border of the image. For each kept polygon, the centres of
    possible overlaps are searched among the pixels around it.

    Args:
        rows: (N,), rows of the centres, which are unique. The likeliest polygon comes first.
        columns: (N,), columns of the centres.
        radii: float32 (N, R), corners in pixels.
        shape: (H, W) of the image.
        overlap: Largest fraction of the smaller area.

    Returns:
        bool (N,), True for polygons that are kept.
    """
    count, rays = radii.shape
    stays = np.ones(count, np.bool_)
    at = np.full(shape, -1, np.int32)
    for i in range(count):
        at[rows[i], columns[i]] = i
    reach = math.ceil(radii.max()) + 1 if count else 1
    units = directions(rays)
    crossings, counts = np.empty((2 * reach + 2, rays)), np.empty(2 * reach + 2, np.int64)
    areas = np.full(count, -1, np.int64)
    for i in range(count):
        if not stays[i]:
            continue
        size = math.ceil(radii[i].max()) + 1
        top, left = rows[i] - size, columns[i] - size
        sums = _row_sums(rows[i], columns[i], radii[i], units, crossings, counts, top, left, 2 * size + 1)
        areas[i] = sums[:, -1].sum()
        for y in range(max(top - reach, 0), min(top + 2 * size + 1 + reach, shape[0])):
            for x in range(max(left - reach, 0), min(left + 2 * size + 1 + reach, shape[1])):
                j = at[y, x]
                if j > i and stays[j]:
                    first, end = scan(y, x, radii[j], units, crossings, counts)
                    if areas[j] < 0:
                        areas[j] = _area(crossings, counts, end - first)
                    common = _common(crossings, counts, first, end, sums, top, left)
                    stays[j] = common <= overlap * min(areas[i], areas[j])
    return stays


@compiled
def _row_sums(
    row: int,
    column: int,
    radii: Floats,
    units: NDArray[np.float64],
    crossings: NDArray[np.float64],
    counts: NDArray[np.int64],
    top: int,
    left: int,
    side: int,
) -> NDArray[np.int32]:
    """Return int32 (side, side + 1): pixels of a polygon to the left of each column of a box, row by row."""
    sums = np.zeros((side, side + 1), np.int32)
    first, end = scan(row, column, radii, units, crossings, counts)
    for y in range(first, end):
        line = crossings[y - first]
        for k in range(0, counts[y - first] - 1, 2):
            for x in range(math.ceil(line[k]), math.floor(line[k + 1]) + 1):
                sums[y - top, x - left + 1] = 1
        for x in range(side):
            sums[y - top, x + 1] += sums[y - top, x]
    return sums


@compiled
def _area(crossings: NDArray[np.float64], counts: NDArray[np.int64], lines: int) -> int:
    """Count the pixels of a scanned polygon."""
    total = 0
    for i in range(lines):
        for k in range(0, counts[i] - 1, 2):
            total += math.floor(crossings[i, k + 1]) - math.ceil(crossings[i, k]) + 1
    return total


@compiled
def _common(
    crossings: NDArray[np.float64],
    counts: NDArray[np.int64],
    first: int,
    end: int,
    sums: NDArray[np.int32],
    top: int,
    left: int,
) -> int:
    """Count the pixels that a scanned polygon shares with another, given the row sums `sums` of that polygon's box."""
    side = sums.shape[0]
    total = 0
    for y in range(max(first, top), min(end, top + side)):
        line = crossings[y - first]
        for k in range(0, counts[y - first] - 1, 2):
            start = min(max(math.ceil(line[k]) - left, 0), side)
            stop = min(max(math.floor(line[k + 1]) + 1 - left, start), side)
            total += sums[y - top, stop] - sums[y - top, start]
    return total


@compiled
def paint(rows: NDArray[np.int64], columns: NDArray[np.int64], radii: Floats, shape: tuple[int, int]) -> LabelMap:
    """Paint polygons into a label map, the first one on top.

    Args:
        rows: (N,), rows of the centres.
        columns: (N,), columns of the centres.
        radii: float32 (N, R), corners in pixels.
        shape: (H, W) of the map.

    Returns:
        int32 (H, W), polygon k has id k + 1; ids of completely covered polygons are missing.
    """
    labels = np.zeros(shape, np.int32)
    count, rays = radii.shape
    reach = math.ceil(radii.max()) + 1 if count else 1
    units = directions(rays)
    crossings, counts = np.empty((2 * reach + 2, rays)), np.empty(2 * reach + 2, np.int64)
    for i in range(count - 1, -1, -1):
        first, end = scan(rows[i], columns[i], radii[i], units, crossings, counts)
        for y in range(max(first, 0), min(end, shape[0])):
            line = crossings[y - first]
            for k in range(0, counts[y - first] - 1, 2):
                start = max(math.ceil(line[k]), 0)
                stop = max(min(math.floor(line[k + 1]) + 1, shape[1]), start)
                labels[y, start:stop] = i + 1
    return labels
