"""Read nuclei that other programs store as outlines, and draw them as a label map.

`read_outlines` recognises by content:

- GeoJSON of QuPath and of CellViT: a feature collection, a list of features, or one feature. Vertices are corners of
  pixels: pixel (x, y) covers [x, x + 1] x [y, y + 1].
- JSON of HoVer-Net and TIAToolbox: nuclei by id with ``contour``, directly or below ``nuc``; JSON of CellViT: a list
  ``cells``. Vertices are the outermost pixels of a nucleus, as OpenCV traces them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon as inside

from datamodules.reading.plain_files import read_json
from postproc.errors import DataError, InputWarning, short
from postproc.instances import Instances
from postproc.pixels.labels import relabel

Ring = NDArray[np.float64]
Kind = str | int | None

OUTLINE_SUFFIXES = (".json", ".geojson")
"""File name endings that `read_outlines` reads."""
LARGEST = 500_000_000
"""Largest file that is read, in bytes; about a million nuclei."""
FARTHEST = 1e7
"""Largest coordinate in pixels."""
MANY = 10
"""Number of polygons of a GeoJSON annotation from which on each polygon is a nucleus, as CellViT collects the nuclei of
a class; fewer are the parts of one nucleus, like those of QuPath's cells and detections."""


@dataclass(frozen=True)
class Outline:
    """One nucleus.

    Attributes:
        rings: float64 (V, 2) each, vertices (x, y) in pixels; a pixel within an odd number of rings is part of it.
        kind: Name or number of its type; None = no type.
    """

    rings: tuple[Ring, ...]
    kind: Kind = None


@dataclass(frozen=True)
class Outlines:
    """The nuclei of a file.

    Attributes:
        path: The file.
        nuclei: Its nuclei.
        corners: Whether vertices are corners of pixels; otherwise they are the outermost pixels themselves.
        names: Number of a type -> its name, if the file has them.
    """

    path: Path
    nuclei: tuple[Outline, ...]
    corners: bool
    names: Mapping[int, str] = field(default_factory=dict)


def read_outlines(path: Path) -> Outlines:
    """Read a file with outlines, see the description of this module.

    Raises:
        DataError: If the file is unreadable, of another layout, or an outline is invalid; the message names it.
    """
    content = read_json(path, DataError, largest=LARGEST)
    features = _features(content)
    if features is not None:
        features = _without_regions(features, path)
        nuclei = [nucleus for i, each in features for nucleus in _of_feature(each, f"{path}: feature {i}")]
        return Outlines(path, tuple(nuclei), corners=True)
    if isinstance(content, dict) and isinstance(content.get("cells"), list):
        cells = {str(i): cell for i, cell in enumerate(content["cells"])}
        return Outlines(path, _of_contours(cells, path), corners=False, names=_names(content.get("type_map"), path))
    nuclei_by_id = content.get("nuc", content) if isinstance(content, dict) else None
    if not isinstance(nuclei_by_id, dict) or not all(isinstance(each, dict) for each in nuclei_by_id.values()):
        raise DataError(
            f"{path}: neither GeoJSON (QuPath, CellViT) nor JSON of HoVer-Net, TIAToolbox or CellViT; "
            "give a label map (.npy, .png, .tif, .mat) instead"
        )
    return Outlines(path, _of_contours(nuclei_by_id, path), corners=False)


def draw(outlines: Outlines, shape: tuple[int, int], types: Sequence[int] | None) -> Instances:
    """Draw outlines as a label map; where nuclei overlap, the smaller one is drawn over the larger one.

    Args:
        outlines: The nuclei.
        shape: (H, W) of the image in pixels.
        types: Type 1..T of each nucleus, 0 = without; None = there are no types.

    Returns:
        Nuclei with labels 1..N. Nuclei outside the image or covered by others are left out, with an `InputWarning`.

    Raises:
        DataError: If all nuclei are outside the image.
    """
    labels = np.zeros(shape, np.int32)
    masks = [_pixels(nucleus.rings, shape, corners=outlines.corners) for nucleus in outlines.nuclei]
    for i in sorted(range(len(masks)), key=lambda i: -masks[i][0].size):
        labels[masks[i]] = i + 1
    labels, kinds, ids = relabel(labels, None if types is None else np.asarray(types, np.int64))
    lost = len(masks) - len(ids)
    if masks and lost == len(masks):
        raise DataError(f"{outlines.path}: all {lost} nuclei are outside the image of {shape[0]} x {shape[1]} px")
    if lost:
        warnings.warn(
            f"{outlines.path}: {lost} of {len(masks)} nuclei left out: outside the image, empty or covered by others",
            InputWarning,
            stacklevel=2,
        )
    return Instances(shape, labels=labels, types=kinds)


def _features(content: Any) -> list[Any] | None:
    """Return the features of GeoJSON, None if it is something else."""
    if isinstance(content, dict):
        if content.get("type") == "FeatureCollection" and isinstance(content.get("features"), list):
            return list(content["features"])
        return [content] if content.get("type") == "Feature" else None
    if isinstance(content, list) and all(isinstance(each, dict) and each.get("type") == "Feature" for each in content):
        return content
    return None


def _without_regions(features: list[Any], path: Path) -> list[tuple[int, Any]]:
    """Return the number and content of each feature, but without regions, which an `InputWarning` counts.

    Regions are tiles and cores of tissue arrays, annotations of a class that QuPath marks as ignored by a star at the
    end of its name (``Region*``), and annotations of few polygons in a file with detections or cells.
    """
    kinds = [_property(each, "objectType") for each in features]
    found = any(kind in ("detection", "cell") for kind in kinds)
    kept = []
    for i, (each, kind) in enumerate(zip(features, kinds, strict=True)):
        annotation = kind in ("annotation", None)
        ignored = annotation and (_class(each) or "").endswith("*")
        around = kind == "annotation" and found and not _collects(each)
        if kind not in ("tile", "tma_core") and not ignored and not around:
            kept.append((i, each))
    if len(kept) < len(features):
        warnings.warn(
            f"{path}: {len(features) - len(kept)} of {len(features)} objects left out: regions, not nuclei",
            InputWarning,
            stacklevel=3,
        )
    return kept


def _property(feature: Any, name: str) -> Any:
    properties = feature.get("properties") if isinstance(feature, dict) else None
    return properties.get(name) if isinstance(properties, dict) else None


def _class(feature: Any) -> str | None:
    """Return the name of the class of a feature."""
    known = _property(feature, "classification")
    name = known.get("name") if isinstance(known, dict) else None
    return name if isinstance(name, str) else None


def _collects(feature: Any) -> bool:
    """Tell whether an annotation collects the cells of a class, see `MANY`."""
    geometry = feature.get("geometry")
    polygons = geometry.get("coordinates") if isinstance(geometry, dict) else None
    return isinstance(polygons, list) and geometry.get("type") == "MultiPolygon" and len(polygons) >= MANY


def _of_feature(feature: Any, where: str) -> Iterator[Outline]:
    """Yield the nuclei of a feature: one, or each polygon of an annotation that collects the cells of a class."""
    geometry = feature.get("geometry") if isinstance(feature, dict) else None
    if not isinstance(geometry, dict) or geometry.get("type") not in ("Polygon", "MultiPolygon"):
        found = geometry.get("type") if isinstance(geometry, dict) else geometry
        raise DataError(f"{where} has the geometry {short(found)}; nuclei must be Polygon or MultiPolygon")
    polygons = geometry.get("coordinates")
    polygons = [polygons] if geometry["type"] == "Polygon" else polygons
    if not isinstance(polygons, list) or not all(isinstance(rings, list) for rings in polygons):
        raise DataError(f"{where}: its coordinates are no lists of rings")
    kind = _class(feature)
    parts = [tuple(_ring(ring, where) for ring in rings) for rings in polygons]
    if _property(feature, "objectType") == "annotation" and _collects(feature):
        yield from (Outline(rings, kind) for rings in parts)
    else:
        yield Outline(tuple(ring for rings in parts for ring in rings), kind)


def _of_contours(nuclei: Mapping[str, Any], path: Path) -> tuple[Outline, ...]:
    found = []
    for name, nucleus in nuclei.items():
        where = f"{path}: nucleus {name}"
        if not isinstance(nucleus, dict) or "contour" not in nucleus:
            raise DataError(f"{where} has no contour")
        kind = nucleus.get("type")
        if kind is not None and (not isinstance(kind, int | str) or isinstance(kind, bool)):
            raise DataError(f"{where} has the type {short(kind)}, expected a number or a name")
        found.append(Outline((_ring(nucleus["contour"], where),), kind))
    return tuple(found)


def _names(type_map: Any, path: Path) -> dict[int, str]:
    """Return the names of types by number from CellViT's ``type_map``."""
    if type_map is None:
        return {}
    try:
        return {int(number): str(name) for number, name in dict(type_map).items()}
    except (TypeError, ValueError):
        raise DataError(f"{path}: type_map is {short(type_map)}, expected numbers with names") from None


def _ring(value: Any, where: str) -> Ring:
    try:
        ring = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        ring = np.zeros(0)
    if ring.ndim != 2 or ring.shape[1] != 2 or not len(ring) or not (np.abs(ring) <= FARTHEST).all():  # NaN is not
        raise DataError(f"{where}: an outline must be a list of (x, y) within {FARTHEST:,.0f} px")
    return ring


def _pixels(rings: Sequence[Ring], shape: tuple[int, int], *, corners: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return rows and columns of the pixels of a nucleus inside the image."""
    points = np.concatenate(rings)
    left, top = np.clip(np.floor(points.min(0)) - 1, 0, (shape[1], shape[0])).astype(int)
    right, bottom = np.clip(np.ceil(points.max(0)) + 2, 0, (shape[1], shape[0])).astype(int)
    mask = np.zeros((max(bottom - top, 0), max(right - left, 0)), np.uint8)
    if mask.size:
        for ring in rings:
            part = np.zeros_like(mask)
            if corners:  # a pixel belongs to the nucleus if its centre is inside
                part[inside(ring[:, 1] - top - 0.5, ring[:, 0] - left - 0.5, mask.shape)] = 1
            else:
                cv2.fillPoly(part, [np.rint(ring - (left, top)).astype(np.int32)], 1)
            mask ^= part
    rows, columns = np.nonzero(mask)
    return rows + top, columns + left


__all__ = ["OUTLINE_SUFFIXES", "Outline", "Outlines", "draw", "read_outlines"]
