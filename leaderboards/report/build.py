"""Build a report from stored results; nothing is trained, and torch is imported only where images are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmark.registry import TABLES, table_class
from leaderboards.base import Table
from leaderboards.literature import load_facts, load_names
from leaderboards.papers.classification import Classification
from leaderboards.papers.typed import without_classify
from leaderboards.plots.style import Stored
from leaderboards.records import load_scores
from leaderboards.report.folder import replacing
from leaderboards.report.overlays import draw_overlays
from leaderboards.report.pages import Content, write_pages
from leaderboards.report.plots import draw_plots
from leaderboards.report.runs import read_runs
from leaderboards.report.scores import read_evaluations
from leaderboards.statistics.entries import fields, published_field


@dataclass(frozen=True)
class Report:
    """What was built.

    Attributes:
        index: The first page.
        left_out: A line for everything that is missing, with the reason.
    """

    index: Path
    left_out: tuple[str, ...]


def build_report(roots: Sequence[Path], runs: Path, data: Path, out: Path) -> Report:
    """Write a report; equal results give equal bytes.

    Args:
        roots: Folders of stored results.
        runs: Folder of all runs, for the plots that need their predictions.
        data: Folder with one folder per dataset; pictures of nuclei need images and annotations.
        out: Folder to write; an older report in it is replaced once the new one is whole.

    Raises:
        ConfigError: If `out` holds anything but a report.
        DataError: If a stored or published file is missing or broken; the message names it.
    """
    with replacing(out) as fresh:
        left_out = _write(roots, runs, data, fresh)
    return Report(out / "index.html", tuple(left_out))


def _write(roots: Sequence[Path], runs: Path, data: Path, out: Path) -> list[str]:
    known = load_names()
    published = load_facts(known)
    scores = load_scores(roots, known)
    found, unfinished = read_runs(roots, known)
    tables = {name: _table(name, roots, scores, published) for name in TABLES}
    evaluations = read_evaluations(scores, found)
    overlays, no_overlays = draw_overlays(evaluations, Path(data), out)
    typed = tuple(fields(without_classify(scores), (Classification,)))
    stored = Stored((*fields(scores), *published_field(published)), published, Path(runs), Path(data), typed, scores)
    plots, no_plots = draw_plots(stored, out)
    left_out = {
        "runs": tuple(f"{run}: it is not finished" for run in unfinished),
        "overlays": tuple(no_overlays),
        "plots": (*no_plots, *(f"{plot.name}: {plot.note}" for plot in plots if plot.note)),
    }
    write_pages(Content(found, tables, evaluations, overlays, plots, left_out), out)
    return [f"{kind}: {line}" for kind, lines in left_out.items() for line in lines]


def _table(
    name: str, roots: Sequence[Path], scores: pd.DataFrame, published: pd.DataFrame
) -> tuple[Table, pd.DataFrame]:
    table: Table = table_class(name)()
    table.look_in(roots)
    return table, table.build(scores, published)


def print_report(roots: Iterable[Path], runs: Path, data: Path, out: Path) -> None:
    """Build a report and print its first page and what is left out of it."""
    report = build_report(list(roots), runs, data, out)
    for line in report.left_out:
        print(f"left out of {line}")
    print(report.index, flush=True)


__all__ = ["Report", "build_report", "print_report"]
