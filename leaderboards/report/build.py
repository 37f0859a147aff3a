"""Build a report from stored results, without training; torch is imported only to read images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmark.registry import TABLES, table_class
from leaderboards.base import Table
from leaderboards.broken import kept_going, name_problems
from leaderboards.literature import load_facts, load_names
from leaderboards.papers.classification import Classification
from leaderboards.papers.typed import without_classify
from leaderboards.plots.style import Stored
from leaderboards.records import load_scores, of_one_kind, without_stand_ins
from leaderboards.report.folder import replacing
from leaderboards.report.overlays import draw_overlays
from leaderboards.report.pages import Content, write_pages
from leaderboards.report.plots import draw_plots
from leaderboards.report.runs import read_runs
from leaderboards.report.scores import read_evaluations
from leaderboards.statistics.entries import fields, published_field


@dataclass(frozen=True)
class Report:
    """A finished report.

    Attributes:
        index: The first page.
        left_out: One line per missing item, with the reason.
        problems: One line per broken stored file that was left out.
    """

    index: Path
    left_out: tuple[str, ...]
    problems: tuple[str, ...]


def build_report(roots: Sequence[Path], runs: Path, data: Path, out: Path) -> Report:
    """Write a report; equal results give identical bytes.

    Args:
        roots: Folders of stored results.
        runs: Folder of all runs, for the plots that need their predictions.
        data: Folder with one folder per dataset; pictures of nuclei need images and annotations.
        out: Output folder; an older report in it is replaced once the new one is complete.

    Raises:
        ConfigError: If `out` holds anything other than a report.
        DataError: If a published file is missing or broken; the message names it.
    """
    problems: list[str] = []
    with replacing(out) as fresh:
        left_out = _write(roots, runs, data, fresh, problems)
    return Report(out / "index.html", tuple(left_out), tuple(dict.fromkeys(problems)))


def _write(roots: Sequence[Path], runs: Path, data: Path, out: Path, problems: list[str]) -> list[str]:
    known = load_names()
    published = load_facts(known)
    refused: list[str] = []
    scores = load_scores(roots, known, problems, refused)
    compared = without_stand_ins(scores, refused)
    found, unfinished = read_runs(roots, known, problems)
    tables = {}
    for name in TABLES:
        with kept_going(problems):
            tables[name] = _table(name, roots, compared, published, problems)
    evaluations = read_evaluations(scores, found)
    overlays, no_overlays = draw_overlays(evaluations, Path(data), out)
    plotted = of_one_kind(scores)
    typed = tuple(fields(without_classify(plotted), (Classification,)))
    stored = Stored((*fields(plotted), *published_field(published)), published, Path(runs), Path(data), typed, scores)
    plots, no_plots = draw_plots(stored, out)
    left_out = {
        "runs": (*(f"{run}: not finished" for run in unfinished), *dict.fromkeys(refused), *dict.fromkeys(problems)),
        "overlays": tuple(no_overlays),
        "plots": (*no_plots, *(f"{plot.name}: {plot.note}" for plot in plots if plot.note)),
    }
    write_pages(Content(found, tables, evaluations, overlays, plots, left_out), out)
    return [f"{kind}: {line}" for kind, lines in left_out.items() for line in lines if line not in problems]


def _table(
    name: str, roots: Sequence[Path], scores: pd.DataFrame, published: pd.DataFrame, problems: list[str]
) -> tuple[Table, pd.DataFrame]:
    table: Table = table_class(name)()
    table.look_in(roots)
    table.problems = problems
    return table, table.build(scores, published)


def print_report(roots: Iterable[Path], runs: Path, data: Path, out: Path) -> int:
    """Build a report; print its first page and what is left out; return 1 if a stored file is broken."""
    report = build_report(list(roots), runs, data, out)
    for line in report.left_out:
        print(f"left out of {line}")
    print(report.index, flush=True)
    return name_problems(report.problems)


__all__ = ["Report", "build_report", "print_report"]
