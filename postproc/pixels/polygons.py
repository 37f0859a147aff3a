"""Star-convex polygons on the pixel grid: measure, gather, scan and paint them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from postproc.pixels.compiled import compiled
from postproc.pixels.labels import LabelMap

Floats = NDArray[np.float32]

ROUNDING = 1e-6
"""Px by which the computed crossing of an edge and a row may be beyond both ends of the edge, at most."""


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
def gather_radii(
    rays: Floats, rows: NDArray[np.int64], columns: NDArray[np.int64], order: NDArray[np.int64], largest: float
) -> Floats:
    """Collect the distances of some pixels, clipped to [0, `largest`]; NaN becomes 0.

    Everything after this relies on the limits: boxes and cells of polygons are indices into arrays.

    Args:
        rays: float32 (R, H, W) in pixels.
        rows: (N,), rows of the pixels; in raster order for speed.
        columns: (N,), their columns.
        order: (N,), the pixel of each line of the result.
        largest: Upper limit in pixels.

    Returns:
        float32 (N, R).
    """
    radii = np.empty((rows.size, rays.shape[0]), np.float32)
    line = np.empty_like(order)
    line[order] = np.arange(order.size)
    for i in range(rows.size):
        for k in range(rays.shape[0]):
            radius = rays[k, rows[i], columns[i]]
            radii[line[i], k] = min(radius, np.float32(largest)) if radius > 0 else np.float32(0)  # NaN is not > 0
    return radii


@compiled
def directions(rays: int) -> NDArray[np.float64]:
    """Return x and y of the unit vector of each ray, float64 (2, rays).

    Rounded to 12 digits, so that rays along an axis stay exactly on it despite the finite precision of pi.
    """
    units = np.empty((2, rays))
    for k in range(rays):
        units[0, k], units[1, k] = math.cos(2 * math.pi * k / rays), math.sin(2 * math.pi * k / rays)
    return np.round(units, 12)


class Scan(NamedTuple):
    """Crossings of a polygon's outline with rows of the image, and memory for finding them.

    Attributes:
        crossings: float64 (rows, R), the sorted columns of the crossings of each scanned row.
        counts: int64 (rows,), their number.
        corners: float64 (2, R + 1), x and y of the corners; the last one equals the first.
        ceilings: int64 (R + 1,), y of the corners, rounded up.
    """

    crossings: NDArray[np.float64]
    counts: NDArray[np.int64]
    corners: NDArray[np.float64]
    ceilings: NDArray[np.int64]


@compiled
def new_scan(lines: int, rays: int) -> Scan:
    """Return memory for scanning up to `lines` rows of polygons with `rays` corners."""
    return Scan(
        np.empty((lines, rays)), np.empty(lines, np.int64), np.empty((2, rays + 1)), np.empty(rays + 1, np.int64)
    )


@compiled
def scan_rows(
    row: int, column: int, radii: Floats, units: NDArray[np.float64], first: int, end: int, scan: Scan
) -> None:
    """Find the crossings of a polygon's outline with some rows of the image.

    By the even-odd rule, the pixels of a row inside the polygon are those between crossings 0 and 1, 2 and 3, and so
    on.

    Args:
        row: Of the polygon's centre.
        column: Of the polygon's centre.
        radii: (R,), distance of each corner from the centre in pixels.
        units: From `directions`.
        first: First row to be scanned, line 0 of the result.
        end: Row after the last.
        scan: Filled with the crossings.
    """
    crossings, counts, (xs, ys), ceilings = scan
    rays = radii.size
    for k in range(rays):  # its own loop, which becomes vector instructions
        xs[k], ys[k] = column + radii[k] * units[0, k], row + radii[k] * units[1, k]
        ceilings[k] = np.int64(math.ceil(ys[k]))
    xs[rays], ys[rays], ceilings[rays] = xs[0], ys[0], ceilings[0]
    counts[: end - first] = 0
    for k in range(rays):
        start, stop = max(min(ceilings[k], ceilings[k + 1]), first), min(max(ceilings[k], ceilings[k + 1]), end)
        for y in range(start, stop):
            place = counts[y - first]
            crossing = xs[k] + (y - ys[k]) / (ys[k + 1] - ys[k]) * (xs[k + 1] - xs[k])
            while place > 0 and crossings[y - first, place - 1] > crossing:
                crossings[y - first, place] = crossings[y - first, place - 1]
                place -= 1
            crossings[y - first, place] = crossing
            counts[y - first] += 1


@compiled
def boxes_of(rows: NDArray[np.int64], columns: NDArray[np.int64], radii: Floats) -> NDArray[np.int32]:
    """Return int32 (N, 4): first row and column of each polygon, and the row and column after the last.

    All pixels of a polygon are in its box.

    Args:
        rows: (N,), rows of the centres.
        columns: (N,), columns of the centres.
        radii: float32 (N, R), corners in pixels.
    """
    units = directions(radii.shape[1])
    boxes = np.empty((rows.size, 4), np.int32)
    for i in range(rows.size):
        low_x = high_x = columns[i] + radii[i, 0] * units[0, 0]
        low_y = high_y = rows[i] + radii[i, 0] * units[1, 0]
        for k in range(1, radii.shape[1]):
            x, y = columns[i] + radii[i, k] * units[0, k], rows[i] + radii[i, k] * units[1, k]
            low_x, high_x, low_y, high_y = min(low_x, x), max(high_x, x), min(low_y, y), max(high_y, y)
        boxes[i, 0], boxes[i, 2] = math.ceil(low_y), math.floor(high_y) + 1
        # a crossing may be outside by a rounding error
        boxes[i, 1], boxes[i, 3] = math.ceil(low_x - ROUNDING), math.floor(high_x + ROUNDING) + 1
    return boxes


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
    units = directions(rays)
    boxes = boxes_of(rows, columns, radii)
    scan = new_scan(shape[0], rays)
    for i in range(count - 1, -1, -1):
        first, end = max(boxes[i, 0], 0), min(boxes[i, 2], shape[0])
        scan_rows(rows[i], columns[i], radii[i], units, first, end, scan)
        for y in range(first, end):
            line = scan.crossings[y - first]
            for k in range(0, scan.counts[y - first] - 1, 2):
                start = max(math.ceil(line[k]), 0)
                stop = max(min(math.floor(line[k + 1]) + 1, shape[1]), start)
                labels[y, start:stop] = i + 1
    return labels
