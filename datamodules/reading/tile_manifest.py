"""The manifest of a folder of tiles. Needs neither torch nor Lightning, so cutting slides does not load them."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from postproc.cells import shown, unshown
from postproc.errors import DataError

MANIFEST = "manifest.csv"
"""The file that lists the tiles; other files are ignored."""


@dataclass(frozen=True)
class Row:
    """One line of the manifest.

    Attributes:
        slide: File name of the slide without its suffix.
        level: Level of the slide's pyramid from which the tile was read.
        x: Left edge, in pixels of the slide's full resolution.
        y: Upper edge, in pixels of the slide's full resolution.
        magnification: Magnification of the tile.
        tissue: Share of tissue among its pixels.
        file: The image, relative to the manifest.
    """

    slide: str
    level: int
    x: int
    y: int
    magnification: float
    tissue: float
    file: str


def tile_file(slide: str, magnification: float, x: int, y: int) -> str:
    """Return the path of a tile, relative to the manifest."""
    return f"{magnification:g}x/{slide}/{x}_{y}.png"


def write_manifest(root: Path, rows: Iterable[Row]) -> None:
    """Write the manifest of a folder of tiles atomically, in an order that depends only on the tiles."""
    path = root / MANIFEST
    partial = path.with_suffix(".part")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(Row)])
        for row in sorted(rows, key=lambda r: (r.slide, r.magnification, r.y, r.x)):
            writer.writerow([f"{v:.6g}" if isinstance(v, float) else shown(v) for v in astuple(row)])
    partial.replace(path)


def read_manifest(root: Path) -> list[Row]:
    """Read the manifest of a folder of tiles.

    Raises:
        DataError: If it is damaged, or names a file outside the folder; the message names the line.
    """
    path = root / MANIFEST
    names = [field.name for field in fields(Row)]
    rows = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if not set(names) <= set(reader.fieldnames or ()):
                raise DataError(f"{path}: its columns are {reader.fieldnames}, expected {', '.join(names)}")
            for line, given in enumerate(reader, start=2):
                rows.append(_row(given, f"{path}, line {line}"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}); make the tiles again") from error
    return rows


def _row(given: dict[str, Any], place: str) -> Row:
    try:
        slide, file = unshown(given["slide"]), unshown(given["file"])
        corner = int(given["level"]), int(given["x"]), int(given["y"])
        row = Row(slide, *corner, float(given["magnification"]), float(given["tissue"]), file)
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{place}: {error}; make the tiles again") from error
    if not math.isfinite(row.magnification) or row.magnification <= 0:
        raise DataError(f"{place}: magnification {row.magnification}; make the tiles again")
    # a slide's name is a single folder, so that nothing outside the folder of tiles can be named
    if row.slide in ("", ".", "..") or not {"/", "\\", "\0"}.isdisjoint(row.slide):
        raise DataError(f"{place}: {row.slide!r} is not the name of a slide; make the tiles again")
    if row.file != tile_file(row.slide, row.magnification, row.x, row.y):
        raise DataError(f"{place}: {row.file!r} is not the path of this tile; make the tiles again")
    return row


__all__ = ["MANIFEST", "Row", "read_manifest", "tile_file", "write_manifest"]
