"""Visualise predictions: outlines over the image, and GeoJSON for QuPath."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from benchmark.host.files import atomic
from postproc.instances import Instances
from postproc.pixels.labels import LabelMap
from postproc.pixels.outlines import outlines
from postproc.pixels.pixel_polygons import pixel_polygons

Ints = NDArray[np.int64]

MADE_BY = "nucbench look"
"""Entry ``Software`` of the pictures of `nucbench look`."""

PALETTE = np.array(
    [
        (255, 225, 25),
        (230, 60, 60),
        (60, 180, 75),
        (67, 99, 216),
        (245, 130, 48),
        (145, 30, 180),
        (70, 240, 240),
        (240, 50, 230),
        (128, 128, 0),
        (0, 128, 128),
    ],
    np.uint8,
)
"""RGB of types 0 (no type), 1, 2, ...; the colours repeat if there are more types."""


def color(kind: int) -> tuple[int, int, int]:
    """Return the RGB of a type."""
    r, g, b = PALETTE[kind % len(PALETTE)].tolist()
    return r, g, b


def contours(instances: Instances) -> list[NDArray[np.int32]]:
    """Return the outer contour of each nucleus for drawing: int32 (M, 2), (x, y) in pixels, empty for missing ids.

    A contour connects the centres of the outermost pixels. To measure nuclei, use `geojson`: its polygons follow the
    edges of the pixels.
    """
    if instances.labels is None:
        return [np.zeros((0, 2), np.int32)] * instances.count
    return outlines(instances.labels, instances.count)


def overlay(image: NDArray[np.uint8], instances: Instances, thickness: int = 1) -> NDArray[np.uint8]:
    """Draw outlines over an image, or dots if there are only points, coloured by type.

    Args:
        image: uint8 (H, W, 3).
        instances: Nuclei of the image, at the same size.
        thickness: Thickness of the outlines in pixels.

    Returns:
        uint8 (H, W, 3).
    """
    canvas = np.ascontiguousarray(image.copy())
    types = instances.types if instances.types is not None else np.zeros(instances.count, np.int64)
    if instances.labels is not None:
        for line, kind in zip(contours(instances), types.tolist(), strict=True):
            if len(line):
                cv2.polylines(canvas, [line], isClosed=True, color=color(kind), thickness=thickness)
        return canvas
    for (x, y), kind in zip(instances.centroids().tolist(), types.tolist(), strict=True):
        cv2.circle(canvas, (round(x), round(y)), 4, color(kind), -1, cv2.LINE_AA)
        cv2.circle(canvas, (round(x), round(y)), 4, (0, 0, 0), 1, cv2.LINE_AA)
    return canvas


def densest_window(truth: Instances, side: int) -> tuple[slice, slice]:
    """Return the window with the most nuclei, of windows 25 px apart, as slices of rows and columns.

    Args:
        truth: Nuclei of the whole image.
        side: Side of the window in pixels, at most the size of the image.
    """
    height, width = truth.shape
    rows, columns = min(side, height), min(side, width)
    x, y = np.floor(truth.centroids()).astype(np.int64).T
    known = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    count: Ints = np.zeros((height + 1, width + 1), np.int64)
    np.add.at(count, (y[known] + 1, x[known] + 1), 1)
    count = count.cumsum(axis=0).cumsum(axis=1)  # nuclei above and left of each corner
    top, left = np.arange(0, height - rows + 1, 25)[:, None], np.arange(0, width - columns + 1, 25)
    bottom, right = top + rows, left + columns
    inside = count[bottom, right] - count[top, right] - count[bottom, left] + count[top, left]
    i, j = np.unravel_index(int(inside.argmax()), inside.shape)
    return slice(25 * int(i), 25 * int(i) + rows), slice(25 * int(j), 25 * int(j) + columns)


def side_by_side(images: list[NDArray[np.uint8]], gap: int = 6) -> NDArray[np.uint8]:
    """Place images side by side, enlarged twice, with white gaps, and white below those that are less high."""
    height = max(image.shape[0] for image in images)
    equal = [np.pad(each, ((0, height - each.shape[0]), (0, 0), (0, 0)), constant_values=255) for each in images]
    large = [cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST) for image in equal]
    white = np.full((large[0].shape[0], gap, 3), 255, np.uint8)
    row = [part for image in large for part in (image, white)][:-1]
    return np.concatenate(row, axis=1)


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Write an RGB image as PNG, atomically."""
    done, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"{path} cannot be encoded as PNG")
    with atomic(path) as file:
        file.write(encoded.tobytes())


def write_look(path: Path, image: NDArray[np.uint8]) -> None:
    """Write a picture of `nucbench look`, atomically; `is_look` recognises it."""
    text = PngImagePlugin.PngInfo()
    text.add_text("Software", MADE_BY)
    with atomic(path) as file:
        Image.fromarray(image).save(file, "PNG", pnginfo=text)


def is_look(path: Path) -> bool:
    """Tell whether a file is a picture of `nucbench look`, which may be replaced and is not an image of nuclei."""
    if path.suffix.lower() != ".png":
        return False
    try:
        with Image.open(path, formats=("PNG",)) as file:
            return file.info.get("Software") == MADE_BY
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # reading the image reports the fault
        return False


def geojson(instances: Instances, types: tuple[str, ...], edges: tuple[Ints, Ints] | None = None) -> dict[str, Any]:
    """Return the nuclei as a GeoJSON feature collection of QuPath detections.

    Coordinates are QuPath's: pixel (x, y) covers [x, x + 1] x [y, y + 1], so that its centre is at + 0.5. Polygons
    follow the edges of the pixels of a nucleus, so that measurements on them hold for its mask.

    Args:
        instances: Nuclei.
        types: Names of the types 1..T; they become QuPath classes with the colours of `overlay`.
        edges: Position of the pixels of `instances.labels` in the target image: int64 (H + 1,), the y of the edges of
            rows, and int64 (W + 1,), the x of the edges of columns, strictly ascending. Default: unchanged.
    """
    kinds = instances.types if instances.types is not None else np.zeros(instances.count, np.int64)
    shapes = _points(instances) if instances.labels is None else _polygons(instances.labels, instances.count, edges)
    features = []
    for i, (shape, kind) in enumerate(zip(shapes, kinds.tolist(), strict=True)):
        if shape is None:
            continue
        properties: dict[str, Any] = {"objectType": "detection", "isLocked": False, "name": str(i + 1)}
        if 0 < kind <= len(types):
            properties["classification"] = {"name": types[kind - 1], "color": list(color(kind))}
        if instances.scores is not None:
            properties["measurements"] = {"score": round(float(instances.scores[i]), 4)}
        features.append({"type": "Feature", "geometry": shape, "properties": properties})
    return {"type": "FeatureCollection", "features": features}


def _points(instances: Instances) -> list[dict[str, Any] | None]:
    centres = instances.centroids().astype(np.float64) + 0.5
    return [{"type": "Point", "coordinates": centre} for centre in centres.tolist()]


def _polygons(labels: LabelMap, count: int, edges: tuple[Ints, Ints] | None) -> list[dict[str, Any] | None]:
    """Return a Polygon per nucleus, a MultiPolygon if it has several parts, None for ids that are not in the map."""
    shapes: list[dict[str, Any] | None] = []
    for parts in pixel_polygons(labels, count):
        polygons = [[_closed(ring, edges) for ring in rings] for rings in parts]
        if len(polygons) == 1:
            shapes.append({"type": "Polygon", "coordinates": polygons[0]})
        else:
            shapes.append({"type": "MultiPolygon", "coordinates": polygons} if polygons else None)
    return shapes


def _closed(ring: NDArray[np.int32], edges: tuple[Ints, Ints] | None) -> list[list[int]]:
    placed = ring if edges is None else np.stack([edges[1][ring[:, 0]], edges[0][ring[:, 1]]], axis=1)
    points: list[list[int]] = placed.tolist()
    return [*points, points[0]]


def write_geojson(path: Path, content: dict[str, Any]) -> None:
    """Write GeoJSON on one line, atomically."""
    with atomic(path, "w") as file:
        json.dump(content, file)
        file.write("\n")
