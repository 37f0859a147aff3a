"""Nucleus centres in CSV files, and the dataset.yaml that describes a set of them."""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from datamodules.reading.files import replacing
from datamodules.reading.plain_files import read_yaml
from datamodules.reading.schema import STRICT, Name, Positive, check
from postproc.cells import shown, unshown
from postproc.errors import DataError, InputWarning, short, unknown_name

HEADERS = {
    "x": ("x", "x_px", "centroid_x", "centroid_x_px", "center_x", "centre_x"),
    "y": ("y", "y_px", "centroid_y", "centroid_y_px", "center_y", "centre_y"),
    "class": ("class", "type", "label", "classification"),
}
"""Column -> its spellings; case is ignored, and a blank counts as an underscore."""


@dataclass(frozen=True)
class Description:
    """Contents of dataset.yaml.

    Attributes:
        types: Names of the types 1..T; empty = nuclei have no types.
        radius: Distance, in pixels, within which a detection counts as found.
        magnification: Objective magnification, None if unknown.
        mpp: Microns per pixel, None if unknown.
        cases: Image -> case, if it does not follow from the name.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    types: tuple[Name, ...]
    radius: Positive
    magnification: Positive | None = None
    mpp: Positive | None = None
    cases: Mapping[Name, Name] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Strip the names of types, and check that they differ.

        Raises:
            DataError: If two differ only in case, or one is empty.
        """
        stripped = tuple(name.strip() for name in self.types)
        if len({name.casefold() for name in stripped}) != len(stripped) or "" in stripped:
            raise DataError(
                f"types names one type twice or has an empty name: {short(stripped)}; case does not distinguish types"
            )
        object.__setattr__(self, "types", stripped)


def read_description(path: Path) -> Description:
    """Read dataset.yaml.

    Raises:
        DataError: If it is not a YAML mapping, lacks `types` or `radius`, or has an unknown key or an invalid
            value; the message names the key.
    """
    content = read_yaml(path, DataError)
    if not isinstance(content, dict):
        raise DataError(f"{path}: must hold a mapping with types and radius, for example {{types: [], radius: 16}}")
    for key, example in (("types", "[tumour, other] or [] for none"), ("radius", "16")):
        if content.get(key) is None:
            raise DataError(f"{path}: no {key}; add a line, for example {key}: {example}")
    cases = content.get("cases") or {}
    if isinstance(cases, dict):  # images and cases may be named 1, 2
        plain = (str, int)
        content["cases"] = {
            str(k) if isinstance(k, plain) else k: str(v) if isinstance(v, plain) else v for k, v in cases.items()
        }
    return check(Description, content, str(path), DataError)


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
    lines = _lines(path)
    if not lines:
        raise DataError(f"{path}: the file is empty; an image without nuclei has only the header: x,y,class")
    columns = _columns(path, lines[0], classes=bool(types))
    known = {name.casefold(): kind for kind, name in enumerate(types, start=1)}
    points, kinds = [], []
    seen: dict[tuple[float, float], tuple[int, int]] = {}
    equal: list[int] = []
    for number, row in enumerate(csv.reader(lines[1:], delimiter=_delimiter(lines[0])), start=2):
        if not any(cell.strip() for cell in row):
            continue
        where = f"{path}, line {number}"
        if len(row) <= max(columns.values()):
            raise DataError(f"{where}: {len(row)} columns, fewer than the header's; complete or remove the line")
        x, y = (_coordinate(where, axis, row[columns[axis]], shape) for axis in ("x", "y"))
        kind = _kind(where, row[columns["class"]].strip(), known, types) if types else 0
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


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error}); save it as CSV UTF-8") from error


def _delimiter(header: str) -> str:
    return max(",;\t", key=header.count)


def _columns(path: Path, header: str, *, classes: bool) -> dict[str, int]:
    """Return the position of each required column."""
    cells = next(csv.reader([header], delimiter=_delimiter(header)))
    found = [cell.strip().casefold().replace(" ", "_") for cell in cells]
    columns = {}
    for name, spellings in HEADERS.items():
        places = [k for k, cell in enumerate(found) if cell in spellings]
        if len(places) > 1:
            raise DataError(f"{path}, line 1: {cells[places[0]]!r} and {cells[places[1]]!r} both mean {name}; keep one")
        if places:
            columns[name] = places[0]
        elif name != "class" or classes:
            remedy = ", or types: [] in dataset.yaml" if name == "class" else " in px"
            if name != "class" and any(cell.startswith(f"centroid_{name}_") for cell in found):
                remedy = " in px (of QuPath: Centroid X px), since microns do not give the position in the image"
            raise DataError(f"{path}, line 1: no column {name} among {header!r}; add one{remedy}")
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


def _kind(where: str, text: str, known: Mapping[str, int], types: Sequence[str]) -> int:
    if not text:
        return 0
    text = text if text.casefold() in known else unshown(text)
    if text.casefold() not in known:
        raise DataError(
            f"{where}: {unknown_name('class', text, types)} Correct it, or add it to types in dataset.yaml."
        )
    return known[text.casefold()]


__all__ = ["HEADERS", "Description", "read_description", "read_points", "write_points"]
