"""Comparisons with published figures as tables of a page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from leaderboards.base import Block, Comparison, Metric, Table
from leaderboards.render import NOTHING
from leaderboards.report.grid import (
    Cell,
    Column,
    Grid,
    Group,
    Row,
    difference,
    from_frame,
    missing,
    number,
    signless,
    unique_names,
)
from leaderboards.report.statistical import significance_grids, statistics_grids
from leaderboards.statistics.entries import distinct_labels
from leaderboards.statistics.intervals import Statistics
from leaderboards.statistics.significance import Significance
from leaderboards.stored import SOURCES

Figure = Mapping[Any, Any]
"""One line of a comparison."""

Figures = dict[tuple[str, str], Figure]
"""Lines of one row by (dataset, metric)."""

Links = Callable[[str], str]
"""Run id -> its page, empty if it has none."""

MANY = 5
"""With at least this many datasets with the same metrics, datasets become the columns."""

DIFFERENCE = "Difference: ours − published"

_ROW = ("method", "protocol", "source", "weights", "options")

TRAINING = Group(
    "How ours was made",
    (
        Column("images", hint="Images scored, out of the whole set"),
        Column("runs", hint="Number of averaged runs with different seeds"),
        Column("trained on", numeric=False, descending=False),
        Column("steps"),
        Column("minutes"),
        Column("weights", numeric=False, descending=False, hint="Pretrained weights of the network"),
        Column("hardware", numeric=False, descending=False),
        Column("settings", numeric=False, descending=False, hint="Differences from the settings of the paper"),
        Column("note", numeric=False, descending=False),
    ),
)
"""Columns about the runs of a row."""


@dataclass(frozen=True)
class Place:
    """One compared quantity: a group of columns.

    Attributes:
        label: Header.
        dataset: Dataset of the figures.
        metric: Their metric.
    """

    label: str
    dataset: str
    metric: Metric


def table_grids(table: Table, frame: pd.DataFrame, links: Links) -> list[Grid]:
    """Return the frame of a leaderboard as the tables of its page.

    Args:
        table: The leaderboard.
        frame: Frame returned by its `build`.
        links: Pages of runs.
    """
    if isinstance(table, Statistics):
        return statistics_grids(frame)
    if isinstance(table, Significance):
        return significance_grids(frame)
    if isinstance(table, Comparison):
        return comparison_grids(table.blocks, frame, links, table.listed)
    return [from_frame(table.name.replace("_", "-"), table.title, frame)]


def comparison_grids(
    blocks: Sequence[Block], frame: pd.DataFrame, links: Links, listed: Collection[str] = ()
) -> list[Grid]:
    """Return a comparison: a table per dataset, or per metric if many datasets have the same ones.

    Args:
        blocks: Datasets of the comparison.
        frame: Frame returned by its `build`.
        links: Pages of runs.
        listed: Methods that have a row even without figures.
    """
    panels = {b.title: [Place(m.title, b.title, m) for m in b.metrics] for b in blocks}
    if len(blocks) >= MANY and len({b.metrics for b in blocks}) == 1:
        panels = {m.title: [Place(b.title, b.title, m) for b in blocks] for m in blocks[0].metrics}
    rows: dict[tuple[str, ...], Figures] = {}
    for line in frame.to_dict("records"):
        rows.setdefault(tuple(line[key] for key in _ROW), {})[line["dataset"], line["metric"]] = line
    names = unique_names(list(panels))
    return [_panel(name, title, panels[title], rows, links, listed) for name, title in zip(names, panels, strict=True)]


def _panel(
    name: str,
    title: str,
    places: Sequence[Place],
    rows: Mapping[tuple[str, ...], Figures],
    links: Links,
    listed: Collection[str],
) -> Grid:
    here = {key: _at(places, figures) for key, figures in rows.items()}
    printed = {p.dataset + "\0" + p.metric.name for p in places for f in here.values() if _published(f, p)}
    wide = [p for p in places if p.dataset + "\0" + p.metric.name in printed]
    groups = [Group("", (Column("Method", numeric=False, descending=False), _PROTOCOL))]
    groups += [_group(place, printed=place in wide) for place in places]
    ran = {key: figures for key, figures in here.items() if _ran(figures)}
    labels = _labels(list(ran))
    best = _best(places, ran)
    made: list[Row] = []
    for method in dict.fromkeys(key[0] for key in here):
        own = [key for key in ran if key[0] == method]
        made += [_row(labels[key], places, wide, ran[key], best, links) for key in own]
        figures = next((f for key, f in here.items() if key[0] == method and any(_published(f, p) for p in places)), {})
        if not figures and method in listed and not own:
            made.append(_row(method, places, wide, figures, best, links))
        if not figures:
            continue
        if not own:
            made.append(_row(method, places, wide, _without_ours(figures), best, links))
            continue
        # the published figures of this method also count under protocols without its runs
        for protocol in sorted({key[1] for key in ran} - {key[1] for key in own}):
            made.append(_row(method, places, wide, _without_ours(figures), best, links, only=protocol))
    return _without_empty_notes(Grid(name, title, (*groups, TRAINING), tuple(made), note="" if made else NOTHING))


def _without_empty_notes(grid: Grid) -> Grid:
    """Remove the last column (notes) if it is empty."""
    if any(row.cells[-1].text for row in grid.rows):
        return grid
    shorter = replace(TRAINING, columns=TRAINING.columns[:-1])
    rows = tuple(replace(row, cells=row.cells[:-1]) for row in grid.rows)
    return replace(grid, groups=(*grid.groups[:-1], shorter), rows=rows)


_PROTOCOL = Column("protocol", numeric=False, descending=False)


def _group(place: Place, *, printed: bool) -> Group:
    higher = place.metric.higher
    ours = Column("ours", descending=higher)
    if not printed:
        return Group(place.label, (ours,), higher)
    columns = (Column("published", descending=higher), ours, Column("Δ", descending=higher, hint=DIFFERENCE))
    return Group(place.label, columns, higher)


def _at(places: Sequence[Place], figures: Figures) -> Figures:
    wanted = {(p.dataset, p.metric.name) for p in places}
    return {key: figure for key, figure in figures.items() if key in wanted}


def _published(figures: Figures, place: Place) -> bool:
    figure = figures.get((place.dataset, place.metric.name))
    return figure is not None and not missing(figure["published"])


def _ran(figures: Figures) -> bool:
    return any(not missing(figure["ours"]) for figure in figures.values())


def _without_ours(figures: Figures) -> Figures:
    return {key: {**figure, "ours": None, "protocol": ""} for key, figure in figures.items()}


def _labels(keys: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Return the name of each row, distinct from other rows of its method under the same protocol."""
    labels: dict[tuple[str, ...], str] = {}
    for protocol in {key[1] for key in keys}:
        own = [key for key in keys if key[1] == protocol]
        rows = [dict(zip(("title", *_ROW[1:]), key, strict=True)) for key in own]
        labels |= dict(zip(own, distinct_labels(rows), strict=True))
    return labels


def _best(places: Sequence[Place], ran: Mapping[tuple[str, ...], Figures]) -> dict[tuple[str, str, str], str]:
    """Return our best figure (as printed) per dataset, metric and protocol if at least two complete sets compete."""
    best = {}
    for place in places:
        at = (place.dataset, place.metric.name)
        for protocol in {key[1] for key in ran}:
            figures = [f[at] for key, f in ran.items() if key[1] == protocol and at in f]
            ours = [f["ours"] for f in figures if not missing(f["ours"]) and f["images"] == f["expected"]]
            if len(ours) > 1:
                best[(*at, protocol)] = signless((max if place.metric.higher else min)(ours))
    return best


def _row(
    label: str,
    places: Sequence[Place],
    wide: Sequence[Place],
    figures: Figures,
    best: Mapping[tuple[str, str, str], str],
    links: Links,
    only: str = "",
) -> Row:
    ours = [figure for figure in figures.values() if not missing(figure["ours"])]
    about = max(ours, key=lambda figure: figure["images"]) if ours else None
    protocol = str(about["protocol"]) if about else ""
    made_how = summary(about) if about else "published only" if figures else "not run"
    cells = [Cell(label, sub=made_how), Cell(protocol or "–", kind="quiet")]
    for place in places:
        at = (place.dataset, place.metric.name)
        figure = figures.get(at, {"published": None, "ours": None})
        if place in wide:
            cells.append(number(figure["published"], kind="published", hint=str(figure.get("reference", ""))))
        cells.append(_ours(figure, best.get((*at, protocol), "")))
        if place in wide:
            cells.append(difference(figure["ours"], figure["published"], place.metric.higher))
    made = _training(about, ours, links) if about else tuple(Cell() for _ in TRAINING.columns)
    return Row((*cells, *made), protocol, only)


def _ours(figure: Figure, best: str) -> Cell:
    if missing(figure["ours"]):
        return Cell(kind="ours")
    whole = bool(figure["images"] == figure["expected"])
    text = signless(float(figure["ours"]))
    sub = "" if missing(figure["deviation"]) else f"± {figure['deviation']:.3f}"
    kind = "ours best" if whole and text == best else "ours" if whole else "ours partial"
    return Cell(text, float(figure["ours"]), kind=kind, sub=sub)


def summary(figure: Figure) -> str:
    """Return how a row was trained as a short text."""
    if not figure["trained_on"]:
        return "nothing trained here"
    if figure["steps"] == 0:
        chosen = f"; parameters chosen on {figure['trained_on']}" if figure["protocol"] == "strict" else ""
        return f"nothing to train{chosen}"
    parts = [] if missing(figure["steps"]) else [f"{figure['steps']:,.0f} steps"]
    parts += [] if missing(figure["minutes"]) else [f"{figure['minutes']:,.1f} min"]
    return ", ".join([*parts, "no weights" if figure["weights"] == "none" else f"weights: {figure['weights']}"])


def _training(about: Figure, ours: Sequence[Figure], links: Links) -> tuple[Cell, ...]:
    """Return the cells of `TRAINING`: facts of one figure of a row, undefined images of all."""
    whole = about["images"] == about["expected"]
    images = f"{about['images']}" if whole else f"{about['images']} of {about['expected']}"
    undefined = max(int(figure["undefined"]) for figure in ours)
    runs = [run for run in str(about["runs"]).split("; ") if run]
    made = ", ".join(str(about[key]) for key in ("hardware", "precision") if about[key])
    source = SOURCES.get(str(about["source"]), "")
    return (
        Cell(images, float(about["images"]), sub=f"{undefined} undefined" if undefined else "", kind="count"),
        Cell(str(len(runs)), float(len(runs)), links=tuple((f"{k}", links(run)) for k, run in enumerate(runs, 1))),
        Cell(str(about["trained_on"]) or "–", kind="words"),
        number(about["steps"], 0),
        number(about["minutes"], 1),
        Cell(str(about["weights"]), kind="words"),
        Cell(made, kind="words"),
        Cell("; ".join(part for part in (str(about["options"]), source) if part) or "paper's", kind="words long"),
        Cell(str(about["note"]), kind="words long" if about["note"] else ""),
    )


__all__ = ["MANY", "TRAINING", "Links", "comparison_grids", "summary", "table_grids"]
