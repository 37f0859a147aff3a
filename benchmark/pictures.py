"""Predictions to look at: outlines over the image, GeoJSON for QuPath."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmark.store import atomic
from postproc.instances import Instances
from postproc.outlines import outlines

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
"""RGB of type 0 (no type), 1, 2, ...; repeated where there are more types."""


def color(kind: int) -> tuple[int, int, int]:
    """Return the RGB of a type."""
    r, g, b = PALETTE[kind % len(PALETTE)].tolist()
    return r, g, b


def contours(instances: Instances) -> list[NDArray[np.int32]]:
    """Return the outer contour of each nucleus, int32 (M, 2) as (x, y) px; empty for ids that are not in the map."""
    if instances.labels is None:
        return [np.zeros((0, 2), np.int32)] * instances.count
    return outlines(instances.labels, instances.count)


def overlay(image: NDArray[np.uint8], instances: Instances, thickness: int = 1) -> NDArray[np.uint8]:
    """Draw outlines (or dots, where there are only points) over an image, coloured by type.

    Args:
        image: uint8 (H, W, 3).
        instances: Nuclei at the same size.
        thickness: Of the outlines, px.

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


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Write an RGB image as PNG, atomically."""
    done, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"{path} cannot be encoded as PNG")
    with atomic(path) as file:
        file.write(encoded.tobytes())


def geojson(
    instances: Instances, types: tuple[str, ...], scale: float = 1.0, origin: tuple[int, int] = (0, 0)
) -> dict[str, Any]:
    """Return the nuclei as a GeoJSON feature collection of QuPath detections.

    Args:
        instances: Nuclei.
        types: Names of the types 1..T; become QuPath classes with the colours of `overlay`.
        scale: Px of the target image per px of `instances`.
        origin: (x, y) px of the upper left corner of `instances`, where it is a part of an image.
    """
    kinds = instances.types if instances.types is not None else np.zeros(instances.count, np.int64)
    shapes = _geometries(instances, scale, origin)
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


def _geometries(instances: Instances, scale: float, origin: tuple[int, int]) -> list[dict[str, Any] | None]:
    """Return a polygon per nucleus (its px as unit squares around their centres), or a point."""
    if instances.labels is None:
        centres = instances.centroids() + np.array(origin, np.float32)
        return [{"type": "Point", "coordinates": [x * scale, y * scale]} for x, y in centres.tolist()]
    shapes: list[dict[str, Any] | None] = []
    for line in contours(instances):
        if len(line) == 0:
            shapes.append(None)
            continue
        line += np.array(origin, np.int32)
        if len(line) < 3:  # one or two px: their outline is a box
            (left, top), (right, bottom) = line.min(axis=0).tolist(), line.max(axis=0).tolist()
            ring = [[left, top], [right + 1, top], [right + 1, bottom + 1], [left, bottom + 1]]
        else:
            ring = (line + 0.5).tolist()
        shapes.append({"type": "Polygon", "coordinates": [[[x * scale, y * scale] for x, y in [*ring, ring[0]]]]})
    return shapes


def write_geojson(path: Path, content: dict[str, Any]) -> None:
    """Write GeoJSON on one line, atomically."""
    with atomic(path, "w") as file:
        json.dump(content, file)
        file.write("\n")
