"""Nucleus centres in CSV files, and the dataset.yaml of a set of them."""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.reading.description import (
    Description,
    delimiter,
    find_columns,
    read_description,
    rows_of,
    text_lines,
    type_number,
)
from datamodules.reading.files import replacing
from datamodules.reading.schema import Positive
from postproc.cells import shown
from postproc.errors import DataError, InputWarning

HEADERS = {
    "x": ("x", "x_px", "centroid_x", "centroid_x_px", "center_x", "centre_x"),
    "y": ("y", "y_px", "centroid_y", "centroid_y_px", "center_y", "centre_y"),
    "class": ("class", "type", "label", "classification"),
}
"""Column -> its spellings; case is ignored, and a blank counts as an underscore."""


@dataclass(frozen=True)
class PointsDescription(Description):
    """Contents of dataset.yaml of a set of points.

    Attributes:
        radius: Distance, in pixels, within which a detection counts as found.
    """

    radius: Positive


def read_points_description(path: Path) -> PointsDescription:
    """Read dataset.yaml, see `datamodules.reading.description.read_description`."""
    return read_description(path, PointsDescription, ("types", "radius"))


def read_points(
    path: Path, shape: tuple[int, int], types: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
    """Read centres and types.

    Columns are separated by commas, semicolons or tabs; other columns are ignored. An empty class is a nucleus
    whose type is unknown.

    Args:
        path: CSV with a header, see `HEADERS`.
        shape: (H, W) of the image in pixels.
        types: Names of the types 1..T, matched ignoring case; empty = the class is not read.

    Returns:
        Distinct points (a point repeated with its class counts once): float32 (N, 2) as (x, y) in pixels, and
        int64 (N,), 1..T or 0 = unknown; None without types.

    Raises:
        DataError: If the file is unreadable, or a column, number or class is invalid; the message names the line.
    """
    lines = text_lines(path)
    if not lines:
        raise DataError(f"{path}: the file is empty; an image without nuclei has only the header: x,y,class")
    columns = _columns(path, lines[0], classes=bool(types))
    points, kinds = [], []
    seen: dict[tuple[float, float], tuple[int, int]] = {}
    equal: list[int] = []
    for number, row in rows_of(path, lines, columns):
        where = f"{path}, line {number}"
        x, y = (_coordinate(where, axis, row[axis], shape) for axis in ("x", "y"))
        kind = type_number(where, row["class"], tuple(types)) if types else 0
        first, other = seen.setdefault((x, y), (number, kind))
        if first != number:
            if kind != other:
                raise DataError(f"{where}: repeats the point of line {first} with another class; remove one")
            equal.append(number)
            continue
        points.append([x, y])
        kinds.append(kind)
    if equal:
        warnings.warn(
            f"{path}: {len(equal)} points are in the file twice and count once, the first in line {equal[0]}",
            InputWarning,
            stacklevel=2,
        )
    return (
        np.array(points, np.float32).reshape(-1, 2),
        np.array(kinds, np.int64) if types else None,
    )


def write_points(
    path: Path, points: NDArray[np.float32], types: NDArray[np.int64] | None, names: Sequence[str]
) -> None:
    """Write a file for `read_points`: columns x, y and, with types, class."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["x", "y"] if types is None else ["x", "y", "class"])
        kinds: Iterable[list[object]] = [[]] * len(points)
        if types is not None:
            kinds = [[shown(names[kind - 1]) if kind else ""] for kind in types.tolist()]
        for (x, y), kind in zip(points.tolist(), kinds, strict=True):
            writer.writerow([f"{x:.2f}", f"{y:.2f}", *kind])


def _columns(path: Path, header: str, *, classes: bool) -> dict[str, int]:
    """Return the position of each required column."""
    found = [cell.strip().casefold() for cell in next(csv.reader([header], delimiter=delimiter(header)))]
    remedies = {"class": ", or types: [] in dataset.yaml"}
    for axis in ("x", "y"):
        microns = any(cell.startswith((f"centroid {axis} ", f"centroid_{axis}_")) for cell in found)
        remedies[axis] = " in px" + (
            f" (of QuPath: Centroid {axis.upper()} px), since microns do not give the position in the image"
            if microns
            else ""
        )
    columns = find_columns(path, header, HEADERS, optional=() if classes else ("class",), remedies=remedies)
    return columns if classes else {name: columns[name] for name in ("x", "y")}


def _coordinate(where: str, axis: str, text: str, shape: tuple[int, int]) -> float:
    extent = shape[1] if axis == "x" else shape[0]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(
            f"{where}: {axis} is {text.strip()!r}, expected a number with a decimal point; correct or remove the line"
        )
    if not 0 <= value < extent:
        raise DataError(
            f"{where}: {axis} = {value:g} is outside the image of {shape[1]} x {shape[0]} px; coordinates are px of "
            "this image, not microns and not those of a slide"
        )
    return min(value, extent - 1.0)


__all__ = ["HEADERS", "PointsDescription", "read_points", "read_points_description", "write_points"]
