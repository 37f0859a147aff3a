"""The committed splits of the images; needs neither torch nor the data."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from postproc.errors import DataError

FOLDER = "splits"
"""Folder beside the module of a dataset with its committed splits."""
COLUMNS = ("image_id", "group", "split", "validation")
"""Columns of such a file; further ones are metadata."""
OWN = Path(__file__).parents[1]
"""Folder of the modules of this suite's datasets."""


@dataclass(frozen=True)
class SplitRow:
    """One line of ``splits/<dataset>.csv``.

    Attributes:
        image_id: Unique in the dataset.
        group: Patient, or its substitute.
        split: For example ``train`` or ``test_same``.
        validation: True for the training images that protocol ``strict`` keeps for validation.
    """

    image_id: str
    group: str
    split: str
    validation: bool


_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def split_file(dataset: str, places: Iterable[Path] = ()) -> Path:
    """Return the file ``splits/<dataset>.csv``.

    Args:
        dataset: Registry name.
        places: Folders in which the folder ``splits`` is looked for, before that of this suite.

    Raises:
        DataError: If there is no such file.
    """
    candidates = [place / FOLDER / f"{dataset}.csv" for place in (*places, OWN)]
    for file in candidates:
        if file.is_file():
            return file
    raise DataError(f"{candidates[0]} is missing; write the splits of {dataset}, with the columns {', '.join(COLUMNS)}")


def split_lines(dataset: str, places: Iterable[Path] = ()) -> list[dict[str, str]]:
    """Return the lines of ``splits/<dataset>.csv``, every cell as text.

    A line may stand for consecutive images: ``fold1_{0000..2655}`` means ``fold1_0000`` to ``fold1_2655``; the same
    range in other cells of the line is counted in step.

    Args:
        dataset: Registry name.
        places: As for `split_file`.

    Raises:
        DataError: If there is no such file, or it lacks a column.
    """
    file = split_file(dataset, places)
    table = csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    missing = [name for name in COLUMNS if name not in (table.fieldnames or ())]
    if missing:
        raise DataError(f"{file} has no column {missing[0]}; its columns must include {', '.join(COLUMNS)}")
    return [line for row in table for line in _expanded(row)]


def _expanded(row: dict[str, str]) -> Iterator[dict[str, str]]:
    found = _RANGE.search(row["image_id"])
    if found is None:
        yield row
        return
    for number in range(int(found[1]), int(found[2]) + 1):
        yield {key: cell.replace(found[0], f"{number:0{len(found[1])}d}") for key, cell in row.items()}


def read_column(dataset: str, column: str) -> dict[str, str]:
    """Return image id -> a further column of ``splits/<dataset>.csv``."""
    return {row["image_id"]: row[column] for row in split_lines(dataset)}


class Placed(Protocol):
    """Membership in the splits: a line of the file, or the record of an image."""

    @property
    def group(self) -> str:
        """Patient, or its substitute."""

    @property
    def split(self) -> str:
        """Split in the file."""

    @property
    def validation(self) -> bool:
        """Kept for validation by protocol ``strict``."""


def read_splits(dataset: str, places: Iterable[Path] = ()) -> dict[str, SplitRow]:
    """Return image id -> line of ``splits/<dataset>.csv``.

    Args:
        dataset: Registry name.
        places: As for `split_file`.

    Raises:
        DataError: If there is no such file, or it lacks a column.
    """
    return {
        row["image_id"]: SplitRow(row["image_id"], row["group"], row["split"], row["validation"] == "1")
        for row in split_lines(dataset, places)
    }


def belongs(image: Placed, split: str) -> bool:
    """Return whether an image is in a split.

    Args:
        image: Its membership.
        split: ``all``; a split of the file; the common prefix of several (``test`` means ``test_same`` and
            ``test_diff``); ``validation`` = the training images kept by protocol ``strict``; ``fit`` = the other
            training images; or ``group:A,B`` / ``except-group:A,B`` for whole groups.
    """
    kind, _, names = split.partition(":")
    if kind in ("group", "except-group"):
        return (image.group in names.split(",")) == (kind == "group")
    if split in ("validation", "fit"):
        return image.split == "train" and image.validation == (split == "validation")
    return split == "all" or image.split == split or image.split.startswith(f"{split}_")
