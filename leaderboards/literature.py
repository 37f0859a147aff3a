"""Published figures, and the different names of each method in published tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pandas as pd

from postproc.errors import DataError, one_line

PUBLISHED = Path(str(files("leaderboards"))) / "published"
"""Folder of the published figures."""

NAME_COLUMNS = ("title", "method", "variant", "aliases", "printed")
RESULT_COLUMNS = ("table", "method", "dataset", "metric", "value", "source")
PER_IMAGE_COLUMNS = ("organ", "image", "method", "metric", "value")
PER_IMAGE = "dist_kumar_images"
"""Table of the published per-image figures in `load_facts`."""


@dataclass(frozen=True)
class Name:
    """One line of ``methods.csv``: a row of the tables.

    Attributes:
        title: Row name in our tables.
        method: Registry name; empty if the suite does not implement the method, or if a table identifies the row by
            options and training set.
        variant: Key of the method's variant; empty if `method` is empty.
        aliases: Other spellings in published tables.
        printed: ``table:spelling`` of published tables in which a spelling means this row: two papers may mean
            different networks by "U-Net".
    """

    title: str
    method: str
    variant: str
    aliases: tuple[str, ...]
    printed: tuple[str, ...] = ()


class Names:
    """Map every spelling of a method to its title.

    Args:
        rows: The names.
        origin: Their source, for messages.

    Raises:
        DataError: If a spelling or a variant belongs to two titles.
    """

    def __init__(self, rows: list[Name], origin: str = "the name table") -> None:
        self.rows = rows
        self._spellings: dict[str, str] = {}
        self._variants: dict[tuple[str, str], str] = {}
        self._printed: dict[tuple[str, str], str] = {}
        for row in rows:
            for spelling in (row.title, *row.aliases):
                if self._spellings.setdefault(spelling, row.title) != row.title or not spelling:
                    raise DataError(f"{origin}: {spelling!r} cannot name {row.title!r}: empty or taken. Remove it.")
            if row.method and self._variants.setdefault((row.method, row.variant), row.title) != row.title:
                raise DataError(f"{origin}: {row.method}/{row.variant} has two titles. Keep one.")
            for text in row.printed:
                table, _, spelling = text.partition(":")
                if not table or not spelling or self._printed.setdefault((table, spelling), row.title) != row.title:
                    raise DataError(f"{origin}: {text!r} cannot name {row.title!r}. Write table:spelling, each once.")

    def __iter__(self) -> Iterator[Name]:
        return iter(self.rows)

    def __contains__(self, spelling: str) -> bool:
        return spelling in self._spellings

    def printed(self, spelling: str, table: str) -> str:
        """Return the title of a method that a published table names `spelling`."""
        return self._printed.get((table, spelling)) or self.title(spelling)

    def title(self, spelling: str, method: str = "", variant: str = "") -> str:
        """Return the title of a method.

        Args:
            spelling: Its name as printed or stored; returned unchanged if it is unknown.
            method: Registry name, which takes precedence if known: a title may change after a run was stored.
            variant: Key of the variant.
        """
        return self._variants.get((method, variant)) or self._spellings.get(spelling, spelling)


def load_names(path: Path = PUBLISHED / "methods.csv") -> Names:
    """Read the name table.

    Raises:
        DataError: If the file is missing, unreadable or gives one name to two methods.
    """
    frame = read_table(path, NAME_COLUMNS, text=True)
    rows = [
        Name(str(title), str(method), str(variant), _listed(aliases), _listed(printed))
        for title, method, variant, aliases, printed in frame[list(NAME_COLUMNS)].itertuples(index=False)
    ]
    return Names(rows, str(path))


def _listed(cell: object) -> tuple[str, ...]:
    return tuple(part for part in str(cell).split("|") if part)


def load_published(path: Path = PUBLISHED / "published_results.csv", names: Names | None = None) -> pd.DataFrame:
    """Read the published figures, each method under its title.

    Args:
        path: File with the columns table, method, dataset, metric, value, source.
        names: The name table; None = the committed one.

    Returns:
        The file's columns and lines in order; ``spelling`` keeps the printed name of the method.

    Raises:
        DataError: If the file is missing or unreadable, or lists a figure twice.
    """
    frame = _canonical(read_table(path, RESULT_COLUMNS), path, names)
    twice = frame[frame.duplicated(["table", "method", "dataset", "metric"])]
    if len(twice):
        table, method, dataset, metric = twice.iloc[0][["table", "method", "dataset", "metric"]]
        raise DataError(f"{path}: {table}, {method}, {dataset}, {metric} is listed twice. Remove one line.")
    return frame


def load_published_per_image(
    path: Path = PUBLISHED / "dist_table_2_per_image.csv", names: Names | None = None
) -> pd.DataFrame:
    """Read table II of the DIST paper (Naylor 2018) image by image; arguments as for `load_published`."""
    frame = read_table(path, PER_IMAGE_COLUMNS, text="image").assign(table=PER_IMAGE)
    return _canonical(frame, path, names).drop(columns="table")


def load_facts(names: Names | None = None) -> pd.DataFrame:
    """Read all published figures in the form that tables expect.

    Args:
        names: The name table; None = the committed one.

    Returns:
        The lines of `load_published`, then those of `load_published_per_image` as table `PER_IMAGE`: ``dataset`` is
        the paper's name of the image, ``Bladder 1`` (``Kumar`` for the mean over all images).

    Raises:
        DataError: As for both.
    """
    each = load_published_per_image(names=names)
    image = (each["organ"] + " " + each["image"]).where(each["organ"] != "Overall", "Kumar")
    each = each.assign(table=PER_IMAGE, dataset=image, source="Naylor 2018 Table II")
    facts = load_published(names=names)
    return pd.concat([facts, each[list(facts.columns)]], ignore_index=True)


def read_table(path: Path, columns: tuple[str, ...], *, text: bool | str = False) -> pd.DataFrame:
    """Read a CSV file with required columns.

    Args:
        path: The file.
        columns: Required columns.
        text: True to read every cell as text, empty cells as empty strings; or the name of the single column to
            read as text.

    Raises:
        DataError: If the file is missing, is not a CSV file, or lacks a column.
    """
    try:
        if text is True:
            frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        else:
            frame = pd.read_csv(path, dtype={text: str} if text else None)
    except FileNotFoundError:
        raise DataError(f"{path} is missing. Restore it from the repository, or store the result again.") from None
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} is not a readable CSV file ({one_line(str(error))}). Restore it or store the result again."
        ) from error
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}, only {one_line(', '.join(map(str, frame.columns)))}.")
    return frame


def _canonical(frame: pd.DataFrame, path: Path, names: Names | None) -> pd.DataFrame:
    known = names or load_names()
    values = pd.to_numeric(frame["value"], errors="coerce")
    if values.isna().any():
        line = int(values.isna().to_numpy().argmax())
        raise DataError(f"{path}: value {frame['value'].iloc[line]!r} in line {line + 2} is not a number.")
    titles = [known.printed(str(name), str(table)) for name, table in zip(frame["method"], frame["table"], strict=True)]
    return frame.assign(value=values.astype(float), spelling=frame["method"], method=titles)


__all__ = [
    "PER_IMAGE",
    "PUBLISHED",
    "Name",
    "Names",
    "load_facts",
    "load_names",
    "load_published",
    "load_published_per_image",
    "read_table",
]
