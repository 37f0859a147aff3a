"""``dataset.yaml`` and ``splits.csv``: what describes a set of images of one's own."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar

from pydantic import ConfigDict

from datamodules.reading.plain_files import read_yaml
from datamodules.reading.schema import STRICT, Name, Positive, check
from postproc.cells import unshown
from postproc.errors import DataError, short, unknown_name

DESCRIPTION = "dataset.yaml"
SPLITS = "splits.csv"
PARTS: Mapping[str, tuple[str, bool]] = {"train": ("train", False), "val": ("train", True), "test": ("test", False)}
"""Folder, or value of the column split -> split of its images, and whether they are kept for validation."""

_HEADERS = {"image": ("image", "image_id", "file", "filename"), "split": ("split",), "patient": ("patient", "case")}
_EXAMPLES = {"types": "[tumour, other] or [] for none", "radius": "16"}


@dataclass(frozen=True)
class Description:
    """Contents of dataset.yaml that all such sets share.

    Attributes:
        types: Names of the types 1..T; empty = nuclei have no types.
        magnification: Objective magnification, None if unknown.
        mpp: Microns per pixel, None if unknown.
        cases: Image -> case (patient), if it does not follow from the name.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    types: tuple[Name, ...]
    magnification: Positive | None = field(default=None, kw_only=True)
    mpp: Positive | None = field(default=None, kw_only=True)
    cases: Mapping[Name, Name] = field(default_factory=dict, kw_only=True)

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


D = TypeVar("D", bound=Description)


def read_description(path: Path, kind: type[D], needed: tuple[str, ...] = ("types",)) -> D:
    """Read dataset.yaml.

    Args:
        path: The file.
        kind: Its schema.
        needed: Keys without a default.

    Raises:
        DataError: If it is not a YAML mapping, lacks a key, or has an unknown key or an invalid value; the message
            names the key.
    """
    content = read_yaml(path, DataError)
    if not isinstance(content, dict):
        example = ", ".join(f"{key}: {'[]' if key == 'types' else _EXAMPLES[key]}" for key in needed)
        raise DataError(f"{path}: must hold a mapping with {' and '.join(needed)}, for example {{{example}}}")
    for key in needed:
        if content.get(key) is None:
            raise DataError(f"{path}: no {key}; add a line, for example {key}: {_EXAMPLES[key]}")
    cases = content.get("cases") or {}
    if isinstance(cases, dict):  # images and cases may be named 1, 2
        plain = (str, int)
        content["cases"] = {
            str(k) if isinstance(k, plain) else k: str(v) if isinstance(v, plain) else v for k, v in cases.items()
        }
    return check(kind, content, str(path), DataError)


@dataclass(frozen=True)
class Placement:
    """One line of splits.csv.

    Attributes:
        line: Its number in the file.
        part: One of `PARTS`.
        patient: Patient; empty if the file does not name one.
    """

    line: int
    part: str
    patient: str


def read_placements(path: Path) -> dict[str, Placement]:
    """Read splits.csv: columns image (with or without its suffix), split and, optionally, patient.

    Columns are separated by commas, semicolons or tabs; other columns are ignored.

    Args:
        path: The file.

    Returns:
        Image as named in the file -> its line.

    Raises:
        DataError: If the file is unreadable, lacks a column, names an image twice or an unknown split; the message
            names the line.
    """
    lines = text_lines(path)
    if not lines:
        raise DataError(f"{path}: the file is empty; its first line is image,split or image,split,patient")
    columns = find_columns(path, lines[0], _HEADERS, optional=("patient",))
    found: dict[str, Placement] = {}
    for number, row in rows_of(path, lines, columns):
        where = f"{path}, line {number}"
        image, part = row["image"], row["split"].casefold()
        if not image:
            raise DataError(f"{where}: no image; complete or remove the line")
        if part not in PARTS:
            raise DataError(f"{where}: {unknown_name('split', row['split'], PARTS)}")
        if image in found:
            raise DataError(f"{where}: {short(image)} is also in line {found[image].line}; keep one")
        found[image] = Placement(number, part, row.get("patient", ""))
    return found


def text_lines(path: Path) -> list[str]:
    """Return the lines of a text file.

    Raises:
        DataError: If it is unreadable or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 text ({error}); save it as CSV UTF-8") from error


def delimiter(header: str) -> str:
    """Return what separates the columns of a header: a comma, semicolon or tab."""
    return max(",;\t", key=header.count)


def find_columns(
    path: Path,
    header: str,
    spellings: Mapping[str, tuple[str, ...]],
    *,
    optional: tuple[str, ...] = (),
    remedies: Mapping[str, str] | None = None,
) -> dict[str, int]:
    """Return the position of each column.

    Args:
        path: The file, for messages.
        header: Its first line.
        spellings: Column -> its spellings; case is ignored, and a blank counts as an underscore.
        optional: Columns that may be missing.
        remedies: Column -> end of the message if it is missing.

    Raises:
        DataError: If a column is missing, or two have one meaning.
    """
    cells = _cells(path, [header], header)[0]
    found = [cell.strip().casefold().replace(" ", "_") for cell in cells]
    columns = {}
    for name, known in spellings.items():
        places = [k for k, cell in enumerate(found) if cell in known]
        if len(places) > 1:
            raise DataError(f"{path}, line 1: {cells[places[0]]!r} and {cells[places[1]]!r} both mean {name}; keep one")
        if places:
            columns[name] = places[0]
        elif name not in optional:
            raise DataError(
                f"{path}, line 1: no column {name} among {short(header)}; add one{(remedies or {}).get(name, '')}"
            )
    return columns


def rows_of(path: Path, lines: list[str], columns: Mapping[str, int]) -> list[tuple[int, dict[str, str]]]:
    """Return number and cells, stripped, of each line after the header; empty lines are skipped.

    Raises:
        DataError: If a line has fewer columns than the header.
    """
    found = []
    for number, row in enumerate(_cells(path, lines[1:], lines[0]), start=2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) <= max(columns.values()):
            raise DataError(
                f"{path}, line {number}: {len(row)} columns, fewer than the header's; complete or remove the line"
            )
        found.append((number, {name: row[place].strip() for name, place in columns.items()}))
    return found


def _cells(path: Path, lines: list[str], header: str) -> list[list[str]]:
    try:
        return list(csv.reader(lines, delimiter=delimiter(header)))
    except csv.Error as error:
        raise DataError(f"{path}: not readable as CSV ({error}); export it again") from error


def type_number(where: str, text: str, types: tuple[str, ...]) -> int:
    """Return the number 1..T of a class, 0 for an empty one.

    Args:
        where: File and line, for the message.
        text: Name of the class, matched ignoring case.
        types: Names of the types 1..T.

    Raises:
        DataError: If there is no such type.
    """
    if not text:
        return 0
    known = {name.casefold(): kind for kind, name in enumerate(types, start=1)}
    text = text if text.casefold() in known else unshown(text)
    if text.casefold() not in known:
        raise DataError(
            f"{where}: {unknown_name('class', text, types)} Correct it, or add it to types in {DESCRIPTION}."
        )
    return known[text.casefold()]


__all__ = [
    "DESCRIPTION", "PARTS", "SPLITS", "Description", "Placement", "delimiter", "find_columns", "read_description",
    "read_placements", "rows_of", "text_lines", "type_number",
]  # fmt: skip
