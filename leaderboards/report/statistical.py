"""Means with intervals, and tests of pairs, as tables of a page."""

from __future__ import annotations

from typing import Any

import pandas as pd

from leaderboards.report.grid import Cell, Column, Grid, Group, Row, missing, number, unique_names
from leaderboards.statistics.entries import PUBLISHED, protocol_heading
from leaderboards.statistics.intervals import METRICS
from leaderboards.statistics.significance import LEVEL

_METHOD = Group(
    "",
    (Column("Method", numeric=False, descending=False), Column("protocol", numeric=False, descending=False)),
)
_HIGHER = {metric.name: metric.higher for metric in METRICS}


def statistics_grids(frame: pd.DataFrame) -> list[Grid]:
    """Return the frame of `Statistics.build` as one table per dataset, with the rows of all protocols."""
    sets = [(key, part) for key, part in frame.groupby(["table", "dataset"], sort=False)]
    titles = [
        f"{dataset}: {protocol_heading(PUBLISHED).lower()}" if set(part["protocol"]) == {PUBLISHED} else str(dataset)
        for (_, dataset), part in sets
    ]
    return [
        _means(name, title, part) for name, title, (_, part) in zip(unique_names(titles), titles, sets, strict=True)
    ]


def _means(name: str, title: str, frame: pd.DataFrame) -> Grid:
    metrics = list(dict.fromkeys(frame["metric"]))
    rows: dict[tuple[str, str], dict[str, dict[Any, Any]]] = {}
    for line in frame.to_dict("records"):
        rows.setdefault((line["protocol"], line["method"]), {})[line["metric"]] = line
    groups = [_METHOD, *(_metric_group(metric) for metric in metrics)]
    groups.append(Group("", (Column("images"), Column("runs"))))
    made = []
    for (protocol, method), lines in rows.items():
        cells = [Cell(method), Cell(protocol, kind="quiet")]
        for metric in metrics:
            cells += _mean_cells(lines.get(metric))
        first = next(iter(lines.values()))
        scored = first["n"] + first["undefined"]
        partial = f" of {first['expected']}" if scored < first["expected"] else ""
        lacking = max(line["undefined"] for line in lines.values())
        cells.append(Cell(f"{scored}{partial}", float(scored), sub=f"{lacking} undefined" if lacking else ""))
        made.append(Row((*cells, number(first["runs"], 0)), protocol))
    return Grid(name, title, tuple(groups), tuple(made))


def _metric_group(metric: str) -> Group:
    higher = _HIGHER.get(metric, True)
    columns = (
        Column("mean", descending=higher),
        Column("95 % interval", descending=higher, hint="Bootstrap over images; sorted by its lower end"),
        Column("rank", descending=False, hint="By the mean, among rows with every image"),
        Column("mean rank", descending=False, hint="Mean of the ranks in the single images"),
    )
    return Group(metric, columns, higher)


def _mean_cells(line: dict[Any, Any] | None) -> list[Cell]:
    if line is None:
        return [Cell() for _ in range(4)]
    interval = Cell() if missing(line["low"]) else Cell(f"{line['low']:.3f} to {line['high']:.3f}", float(line["low"]))
    first = "best" if line["rank"] == 1 and line["ranked"] > 1 else ""
    place = Cell() if missing(line["rank"]) else Cell(f"{line['rank']:.0f} of {line['ranked']}", float(line["rank"]))
    return [number(line["mean"], kind=f"ours {first}".strip()), interval, place, number(line["mean_rank"], 1)]


def significance_grids(frame: pd.DataFrame) -> list[Grid]:
    """Return the frame of `Significance.build` as one matrix of corrected p-values per dataset, protocol and metric."""
    parts = [(key, part) for key, part in frame.groupby(["protocol", "table", "dataset", "metric"], sort=False)]
    titles = [f"{dataset}, {metric}: {protocol_heading(str(protocol))}" for (protocol, _, dataset, metric), _ in parts]
    return [
        _matrix(name, title, part) for name, title, (_, part) in zip(unique_names(titles), titles, parts, strict=True)
    ]


def _matrix(name: str, title: str, frame: pd.DataFrame) -> Grid:
    labels = list(dict.fromkeys([*frame["method"], *frame["against"]]))
    lines = {(line["method"], line["against"]): line for line in frame.to_dict("records")}
    columns = tuple(
        Column(f"{k}", descending=False, hint=f"Is the method of the line better than {label}?")
        for k, label in enumerate(labels, 1)
    )
    rows = []
    for k, label in enumerate(labels, 1):
        cells = [_test(lines.get((label, other))) for other in labels]
        rows.append(Row((Cell(f"{k}. {label}"), *cells)))
    ns = sorted(set(frame["n"]))
    n = f"{ns[0]} images" if len(ns) == 1 else f"{ns[0]} to {ns[-1]} images"
    note = f"{n} each, {len(labels) - 1} tests a line; bold and marked with *: corrected p below {LEVEL:g}."
    head = Group("", (Column("Better than", numeric=False, descending=False),))
    return Grid(name, title, (head, Group("", columns)), tuple(rows), note=note)


def _test(line: dict[Any, Any] | None) -> Cell:
    if line is None:
        return Cell(kind="self")
    p = float(line["p_holm"])
    text = f"{p:.3f}" if p >= 0.0005 else f"{p:.0e}".replace("e-0", "e-").replace("-", "−")
    about = f"p = {line['p']:.2g} before correction, n = {line['n']}"
    if not missing(line["median_difference"]):
        about += f", median difference {line['median_difference']:+.3f}"
    return Cell(f"{text} *", p, kind="best", hint=about) if p < LEVEL else Cell(text, p, kind="plain", hint=about)


__all__ = ["significance_grids", "statistics_grids"]
