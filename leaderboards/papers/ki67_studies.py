"""The figures of the KiNet paper as studies: one setting varies, the others are fixed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmark.results.spec import Overrides
from leaderboards.base import Comparison
from leaderboards.options import split_options
from leaderboards.papers.ki67 import BLOCK, Ki67, row_name
from leaderboards.records import COLUMNS

RECIPE = {field.name for field in dataclasses.fields(Overrides)} | {"images"}
"""Settings shared by all methods; the others are options of a single method."""


@dataclass(frozen=True)
class Study:
    """One figure.

    Attributes:
        name: Name of the plot.
        rows: Methods in it, by their names in the paper.
        setting: Setting that varies; empty = the methods are compared as they are.
        default: Its value in a run that does not state it.
        axis: Axis label.
    """

    name: str
    rows: tuple[str, ...]
    setting: str = ""
    default: float = 1.0
    axis: str = ""


STUDIES = (
    Study("ki67-labels", ("KiNet", "oKiNet"), "label_share", 1.0, "training images with nucleus labels, %"),
    Study("ki67-stages", ("FRCN", "sKiNet", "KiNet")),
    Study("ki67-gamma", ("KiNet",), "gamma", 25.0, "weight of the nuclei, γ"),
    Study("ki67-lambda", ("KiNet",), "weighting", 5.0, "weight of the mean proximity, λ"),
)
"""Figures 6 to 9."""


@dataclass(frozen=True, eq=False)
class Line:
    """One method of a study.

    Attributes:
        label: Its name, with the options that differ from the paper's.
        row: Its name in the paper.
        runs: Value of the setting, ascending -> per-image scores of each run (seed).
    """

    label: str
    row: str
    runs: Mapping[float, list[pd.DataFrame]]


@dataclass(frozen=True)
class Found:
    """The runs of a study under one protocol.

    Attributes:
        protocol: Protocol.
        recipe: Settings that all runs share and that differ from the paper's, ``key=value, ...``.
        lines: The methods, in the order of the study's rows.
        left_out: Number of runs with other settings that belong to no other study.
    """

    protocol: str
    recipe: str
    lines: tuple[Line, ...]
    left_out: int

    @property
    def values(self) -> list[float]:
        """Values of the setting with at least one run, ascending."""
        return sorted({value for line in self.lines for value in line.runs})


def find(study: Study, scores: pd.DataFrame) -> Iterator[Found]:
    """Yield the runs of a study for each protocol that has something to compare.

    Runs are compared if they share all settings of the recipe (steps, crop, ...) and, for the same method, all options.
    Of several such groups, the one that covers the most rows and values is used.

    Args:
        study: The figure.
        scores: Per-image scores as returned by `leaderboards.records.load_scores`.
    """
    chosen = Comparison.select(Ki67(), scores, BLOCK)
    if not len(chosen):
        return
    about = pd.DataFrame([_about(study, line) for line in chosen.to_dict("records")], index=chosen.index)
    about = about[about["row"].isin(study.rows)]
    for protocol, here in about.groupby(chosen.loc[about.index, "protocol"], sort=True):
        recipe, best = _richest(here, "recipe")
        lines = tuple(_lines(study, best, chosen))
        shown = sum(len(runs) for line in lines for runs in line.runs.values())
        own_runs = here.loc[~here["elsewhere"], "run"].nunique()
        found = Found(str(protocol), recipe, lines, max(0, own_runs - shown))
        if (len(found.values) if study.setting else len(lines)) > 1:
            yield found


def _about(study: Study, line: Mapping[Any, Any]) -> dict[str, object]:
    """Return row, setting value, recipe and own options of a line, and whether another study includes it."""
    options = split_options(str(line["options"]))
    row = row_name(str(line["base"]), str(line["method"]), str(line["options"]))
    value = float(options.pop(study.setting, study.default)) if study.setting else 0.0
    for name in ("roi", "stagewise"):
        options.pop(name, None)
    parts = {
        kind: ", ".join(f"{key}={text}" for key, text in options.items() if (key in RECIPE) == (kind == "recipe"))
        for kind in ("recipe", "own")
    }
    elsewhere = any(other.setting in options for other in STUDIES if other.setting)
    about = {"row": row, "method": line["method"], "value": value, "run": line["run_id"], "elsewhere": elsewhere}
    return {**about, **parts}


def _richest(about: pd.DataFrame, column: str) -> tuple[str, pd.DataFrame]:
    """Return the settings that cover the most rows and values (fewest settings on a tie), and their lines."""
    sets = [(str(part[column].iloc[0]), part) for _, part in about.groupby(column, sort=True)]
    return max(sets, key=lambda pair: (len(pair[1][["row", "value"]].drop_duplicates()), -len(split_options(pair[0]))))


def _lines(study: Study, about: pd.DataFrame, scores: pd.DataFrame) -> Iterator[Line]:
    """Yield the line of each method with runs; the rows of one method have the same options."""
    chosen = {method: _richest(part, "own") for method, part in about.groupby("method", sort=True)}
    for row in study.rows:
        for own, part in chosen.values():
            runs: dict[float, list[pd.DataFrame]] = {}
            for _, run in part[part["row"] == row].groupby(["value", "run"], sort=True):
                runs.setdefault(float(run["value"].iloc[0]), []).append(scores.loc[run.index])
            if runs:
                yield Line(f"{row} ({own})" if own else row, row, runs)


def counts(scores: pd.DataFrame) -> dict[str, float]:
    """Return the counts of some runs, summed over images."""
    own = scores.drop(columns=[column for column in COLUMNS if column != "image"])
    numbers = own.select_dtypes("number").dropna(axis="columns", how="all")
    return {str(name): float(total) for name, total in numbers.sum().items() if str(name).startswith("n_")}


__all__ = ["STUDIES", "Found", "Line", "Study", "counts", "find"]
