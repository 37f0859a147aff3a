"""Read the per-image scores of thousands of evaluations; files with the same columns are parsed together."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmark.metrics.tissues import TISSUE
from leaderboards.broken import kept_going
from leaderboards.literature import read_table
from postproc.cells import unshown_frame
from postproc.errors import DataError, short

LARGEST = 100_000_000
"""Largest score file that is read, in bytes."""

AGAIN = "Evaluate the run again."

TEXTS = (TISSUE,)
"""Columns of names, apart from ``image``."""

TOGETHER = 1000
"""Number of files parsed together; larger batches only need more memory."""


@dataclass(frozen=True)
class ScoreFile:
    """A ``scores.csv``.

    Attributes:
        path: The file.
        images: Number of images that it must hold.
    """

    path: Path
    images: int


@dataclass(frozen=True)
class Columns:
    """Rules for the column names of score files.

    Attributes:
        reserved: Names that no column other than ``image`` may have.
        renamed: Column -> its name in the returned frame.
    """

    reserved: Collection[str]
    renamed: Mapping[str, str]


def read_scores(
    files: Sequence[ScoreFile], columns: Columns, problems: list[str] | None = None
) -> list[pd.DataFrame | None]:
    """Read score files.

    Args:
        files: The files.
        columns: Rules for their column names.
        problems: As for `kept_going`.

    Returns:
        The frame of each file, ``image`` first; None if it cannot be read.

    Raises:
        DataError: If a file is broken and `problems` is None; the message names it.
    """
    found: dict[ScoreFile, pd.DataFrame] = {}
    alike: dict[str, list[tuple[ScoreFile, str]]] = {}
    for file in files:
        plain = _plain(file)
        if plain is not None:
            alike.setdefault(plain[0], []).append((file, plain[1]))
            continue
        with kept_going(problems):
            found[file] = _read(file, columns)
    for header, members in alike.items():
        for start in range(0, len(members), TOGETHER):
            found |= _read_together(header, members[start : start + TOGETHER], columns, problems)
    return [found.get(file) for file in files]


def _read_together(
    header: str, members: Sequence[tuple[ScoreFile, str]], columns: Columns, problems: list[str] | None
) -> dict[ScoreFile, pd.DataFrame]:
    """Parse files with the same header together; split them in halves if one is broken."""
    found: dict[ScoreFile, pd.DataFrame] = {}
    if len(members) == 1:
        ((file, _),) = members
        with kept_going(problems):
            found[file] = _read(file, columns)
        return found
    try:
        text = io.StringIO("".join([header, *(lines for _, lines in members)]))
        whole = _accepted(pd.read_csv(text, dtype={"image": str}), members[0][0].path, columns)
    except (ValueError, KeyError, DataError):
        middle = len(members) // 2
        for half in (members[:middle], members[middle:]):
            found |= _read_together(header, half, columns, problems)
        return found
    images, start = whole["image"].tolist(), 0
    for file, _ in members:
        end = start + file.images
        with kept_going(problems):
            _check_images(images[start:end], file)
            found[file] = whole.iloc[start:end]
        start = end
    return found


def _plain(file: ScoreFile) -> tuple[str, str] | None:
    """Return header and lines of a simple file: no quotes, and the expected numbers of lines and commas."""
    try:
        if file.path.stat().st_size > LARGEST:
            return None
        text = file.path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return None
    header, _, lines = text.partition("\n")
    rows = lines.split("\n")
    commas = header.count(",")
    whole = len(rows) == file.images + 1 and not rows[-1] and all(row.count(",") == commas for row in rows[:-1])
    if not whole or '"' in text or "\r" in text or "\0" in text or not all(rows[:-1]):
        return None
    return f"{header}\n", lines


def _read(file: ScoreFile, columns: Columns) -> pd.DataFrame:
    if file.path.stat().st_size > LARGEST:
        raise DataError(f"{file.path} is larger than {LARGEST:,} bytes, too large for a score file. {AGAIN}")
    frame = read_table(file.path, ("image",), text="image")  # an image named 01 must not become 1
    _check_images(frame["image"].tolist(), file)
    return _accepted(frame, file.path, columns)


def _check_images(images: list[object], file: ScoreFile) -> None:
    names = {name for name in images if isinstance(name, str)}
    if len(images) != file.images or len(names) != file.images:
        raise DataError(f"{file.path} must hold {file.images} different images, not {len(images)} lines. {AGAIN}")


def _accepted(frame: pd.DataFrame, path: Path, columns: Columns) -> pd.DataFrame:
    """Check a frame; return it with its columns renamed and ``image`` first."""
    frame = unshown_frame(frame.rename(columns=columns.renamed))
    for column in frame.columns.drop("image"):
        if column in columns.reserved:
            raise DataError(f"{path}: {column!r} is a reserved name and cannot be a metric. Rename the metric.")
        if column not in TEXTS and not pd.api.types.is_numeric_dtype(frame[column]):
            raise DataError(f"{path}: column {short(column)} holds a value that is not a number. {AGAIN}")
    return frame[["image", *frame.columns.drop("image")]]


__all__ = ["Columns", "ScoreFile", "read_scores"]
