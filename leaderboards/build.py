"""Build the leaderboards from stored results, without training, reading images or importing torch."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

import pandas as pd

from benchmark.host.files import atomic
from benchmark.registry import TABLES, table_class
from leaderboards.broken import kept_going
from leaderboards.literature import load_facts, load_names
from leaderboards.records import load_scores, without_stand_ins
from postproc.cells import shown_frame

_HERE = Path(str(files("leaderboards")))

SCORES = _HERE / "scores"
"""Folder of collected results, committed with the suite."""

OUT = _HERE / "tables"
"""Folder of the tables, committed with the suite."""


def build_tables(
    names: Iterable[str] = (),
    roots: Iterable[Path] | None = None,
    out: Path = OUT,
    problems: list[str] | None = None,
    refused: list[str] | None = None,
) -> list[Path]:
    """Write tables as CSV and Markdown.

    Equal results give identical bytes, regardless of the order in which they were stored.

    Args:
        names: Tables to build; empty = all.
        roots: Folders of stored results; None = the collected ones, if there are any.
        out: Folder to write to, created if missing.
        problems: Collects one line per broken stored file that is skipped, and per table that could not be built;
            None = the first problem raises an error.
        refused: Collects one line per evaluation that is left out: on training images, or on synthetic stand-ins.

    Returns:
        The files written: ``<name>.csv`` and ``<name>.md`` of each table.

    Raises:
        ConfigError: If a table name is unknown.
        DataError: If a stored or published file is missing or broken; the message names it.
    """
    tables = [table_class(name)() for name in dict.fromkeys(names) or sorted(TABLES)]
    known = load_names()
    folders = ([SCORES] if SCORES.is_dir() else []) if roots is None else list(roots)
    scores = without_stand_ins(load_scores(folders, known, problems, refused), refused)
    published = load_facts(known)
    texts: dict[str, str] = {}
    for table in tables:  # build all before writing any, so that an error leaves the old set intact
        table.look_in(folders)
        table.problems = problems
        with kept_going(problems):
            frame = table.build(scores, published)
            texts |= {f"{table.name}.csv": to_csv(frame), f"{table.name}.md": table.markdown(frame)}
    return [write_atomic(Path(out) / name, text) for name, text in texts.items()]


def to_csv(frame: pd.DataFrame) -> str:
    """Return a table as CSV text, rounded to 6 decimals and with formulas escaped."""
    return str(shown_frame(frame.round(6)).to_csv(index=False, lineterminator="\n"))


def write_atomic(path: Path, text: str) -> Path:
    """Write a text file atomically, so that readers never see a partial file; return its path."""
    with atomic(path, "w") as stream:
        stream.write(text)
    return path


__all__ = ["OUT", "SCORES", "build_tables", "to_csv", "write_atomic"]
