"""Per-image scores of thousands of evaluations: files with the same columns are parsed as one."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from leaderboards.literature import read_table
from postproc.errors import DataError, short

LARGEST = 100_000_000
"""Bytes of a score file beyond which it is not read."""

TOGETHER = 1000
"""Files that are parsed as one: more of them would only need more memory."""


@dataclass(frozen=True)
class ScoreFile:
    """A ``scores.csv``.

    Attributes:
        path: The file.
        images: Images that it must hold.
    """

    path: Path
    images: int


@contextmanager
def kept_going(problems: list[str] | None) -> Iterator[None]:
    """Note a file that cannot be read, and go on without it.

    Args:
        problems: Takes the message; None = the error is raised.
    """
    try:
        yield
    except DataError as error:
        if problems is None:
            raise
        problems.append(str(error))


def read_scores(
    files: Sequence[ScoreFile],
    reserved: Collection[str],
    renamed: Mapping[str, str],
    problems: list[str] | None = None,
) -> list[pd.DataFrame | None]:
    """Read score files.

    Args:
        files: The files.
        reserved: Names that no column may have, but for ``image``.
        renamed: Column -> its name in what is returned.
        problems: As for `kept_going`.

    Returns:
        The frame of each file, ``image`` first; None where it cannot be read.

    Raises:
        DataError: If a file is broken and there are no `problems`; the message names it.
    """
    found: list[pd.DataFrame | None] = [None] * len(files)
    alike: dict[str, list[tuple[int, str]]] = {}
    for i, file in enumerate(files):
        plain = _plain(file)
        if plain is not None:
            alike.setdefault(plain[0], []).append((i, plain[1]))
        else:
            with kept_going(problems):
                found[i] = _checked(_read(file.path), file, reserved, renamed)
    for header, members in alike.items():
        for start in range(0, len(members), TOGETHER):
            _read_together(header, members[start : start + TOGETHER], files, reserved, renamed, problems, found)
    return found


def _read_together(
    header: str,
    members: Sequence[tuple[int, str]],
    files: Sequence[ScoreFile],
    reserved: Collection[str],
    renamed: Mapping[str, str],
    problems: list[str] | None,
    found: list[pd.DataFrame | None],
) -> None:
    """Read files of the same header, by halves where one of them is broken."""
    if len(members) > 1:
        text = "".join([header, *(lines for _, lines in members)])
        try:
            whole = pd.read_csv(io.StringIO(text), dtype={"image": str})
            numbers = all(pd.api.types.is_numeric_dtype(whole[name]) for name in whole.columns.drop("image"))
        except (ValueError, KeyError):
            numbers = False
        if numbers:
            start = 0
            for i, _ in members:
                end = start + files[i].images
                part = whole.iloc[start:end].reset_index(drop=True)
                start = end
                with kept_going(problems):
                    found[i] = _checked(part, files[i], reserved, renamed)
            return
        middle = len(members) // 2
        for half in (members[:middle], members[middle:]):
            _read_together(header, half, files, reserved, renamed, problems, found)
        return
    for i, _ in members:
        with kept_going(problems):
            found[i] = _checked(_read(files[i].path), files[i], reserved, renamed)


def _plain(file: ScoreFile) -> tuple[str, str] | None:
    """Return header and lines of a file that can be cut into lines: no quotes, as many lines and commas as expected."""
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


def _read(path: Path) -> pd.DataFrame:
    if path.stat().st_size > LARGEST:
        raise DataError(f"{path} is larger than {LARGEST:,} bytes; no file of scores is. Evaluate the run again.")
    return read_table(path, ("image",), text="image")  # an image named 01 must not become 1


def _checked(
    frame: pd.DataFrame, file: ScoreFile, reserved: Collection[str], renamed: Mapping[str, str]
) -> pd.DataFrame:
    path, again = file.path, "Evaluate the run again."
    if len(frame) != file.images or frame["image"].duplicated().any() or frame["image"].isna().any():
        raise DataError(f"{path} must hold {file.images} different images, not {len(frame)} lines. {again}")
    frame = frame.rename(columns=renamed)
    for column in frame.columns.drop("image"):
        if column in reserved:
            raise DataError(f"{path}: {column!r} is a reserved name and cannot be a metric. Rename the metric.")
        if not pd.api.types.is_numeric_dtype(frame[column]):
            raise DataError(f"{path}: column {short(column)} holds something that is no number. {again}")
    return frame[["image", *frame.columns.drop("image")]]


__all__ = ["ScoreFile", "kept_going", "read_scores"]
