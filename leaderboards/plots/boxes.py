"""Box plots of all methods with the score of each image (Naylor 2018, figure 5; Graham 2019, figure 8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from leaderboards.base import Metric
from leaderboards.plots.style import (
    PALETTE,
    Drawn,
    Stored,
    by_mean,
    full_label,
    heading,
    new_figure,
    picture_name,
    wrap,
)
from leaderboards.statistics.entries import PUBLISHED, TABLES, Entry, Field
from leaderboards.statistics.intervals import METRICS
from leaderboards.statistics.significance import compare

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVELS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))
"""Corrected p-values below -> mark."""


def draw_boxes(stored: Stored) -> Iterator[Drawn]:
    """Yield a picture per dataset and protocol: one panel per metric, one box per row, one point per image."""
    for field in stored.fields:
        metrics = [metric for metric in METRICS if by_mean(field.entries, metric.column)]
        if metrics:
            yield Drawn(picture_name("boxes", field), _figure(field, metrics, _published(stored, field)))


def _figure(field: Field, metrics: list[Metric], published: dict[tuple[str, str], float]) -> Any:
    order = _order(field)
    lines = sum(1 + 0.7 * wrap(full_label(field, entry)).count("\n") for entry in order)
    figure = new_figure(1.15 + 0.27 * lines)
    figure.suptitle(heading(field))
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for panel, metric in zip(panels, metrics, strict=True):
        _panel(panel, field, metric, order, published)
    panels[0].set_yticks(range(len(order)), [wrap(full_label(field, entry)) for entry in order])
    panels[0].set_ylim(len(order) - 0.5, -0.5)
    figure.supxlabel(_legend(published=bool(published), tested=len(order) > 1), fontsize=6.5, color="#444444")
    return figure


def _legend(*, published: bool, tested: bool) -> str:
    text = "box: quartiles and median, whiskers up to 1.5 box lengths; dot: one image; triangle: mean"
    text += "; diamond: published mean" if published else ""
    text += "\n*, **, ***: the best mean (bold) is better with p < 0.05, 0.01, 0.001 (Wilcoxon, Holm)" if tested else ""
    return text


def _order(field: Field) -> list[Entry]:
    """Return the entries ordered by PQ, or by AJI if there is none; entries without a score come last."""
    first = next(c for c in ("pq", "aji", "dice") if by_mean(field.entries, c))
    ranked = by_mean(field.entries, first)
    return [*ranked, *(entry for entry in field.entries if entry not in ranked)]


def _panel(
    panel: Axes, field: Field, metric: Metric, order: list[Entry], published: dict[tuple[str, str], float]
) -> None:
    best = next((entry for entry in by_mean(field.complete or field.entries, metric.column)), None)
    tests = {line["against"]: line["p_holm"] for line in compare(field, metric, only=best.label)} if best else {}
    for place, entry in enumerate(order):
        if metric.column not in entry.values or entry.values[metric.column].isna().all():
            continue
        values = entry.values[metric.column].dropna().to_numpy()
        _box(panel, place, values, bold=entry is best and len(order) > 1)
        if (entry.title, metric.name) in published:
            at = published[entry.title, metric.name]
            panel.plot(at, place, "D", color="white", markeredgecolor="black", markersize=4.5, zorder=5)
        mark = _stars(tests.get(entry.label))
        panel.annotate(
            mark, (1, place), xycoords=("axes fraction", "data"), xytext=(1, 0), textcoords="offset points", va="center"
        )
    panel.set_xlabel(metric.title)
    panel.set_xlim(*_limits(panel.dataLim.x0, panel.dataLim.x1))
    panel.grid(axis="x", color="#dddddd", linewidth=0.5)
    panel.set_axisbelow(True)


def _limits(low: float, high: float) -> tuple[float, float]:
    """Return the limits of the drawn values, rounded outwards to tenths."""
    return max(0.0, np.floor(low * 10 - 0.1) / 10), min(1.0, np.ceil(high * 10 + 0.1) / 10)


def _box(panel: Axes, place: int, values: Any, *, bold: bool) -> None:
    line = {"color": "black", "linewidth": 1.4 if bold else 0.7}
    panel.boxplot(
        [values], positions=[place], orientation="horizontal", widths=0.6, showfliers=False, patch_artist=True,
        boxprops={"facecolor": "#d6e6f2", "edgecolor": "black", "linewidth": line["linewidth"]},
        medianprops=line, whiskerprops=line, capprops=line, manage_ticks=False,
    )  # fmt: skip
    # Multiples of the golden ratio spread points evenly and deterministically.
    spread = ((np.arange(len(values)) * 0.6180339887) % 1 - 0.5) * 0.44
    panel.scatter(values, place + spread, s=5, color=PALETTE[0], linewidths=0, alpha=0.75, zorder=3, clip_on=False)
    panel.plot(values.mean(), place, "^", color=PALETTE[5], markersize=4, markeredgewidth=0, zorder=4)


def _stars(p: float | None) -> str:
    return next((mark for level, mark in LEVELS if p is not None and p < level), "")


def _published(stored: Stored, field: Field) -> dict[tuple[str, str], float]:
    """Return the published means of the dataset by (method, metric)."""
    names = {table.name: table.published_table for table in TABLES}
    facts = stored.published
    chosen = facts[(facts["table"] == names.get(field.table, "")) & (facts["dataset"] == field.dataset)]
    if field.protocol == PUBLISHED:
        return {}
    titles = {entry.title for entry in field.entries}
    lines = chosen[["method", "metric", "value"]].itertuples(index=False)
    return {(method, metric): value for method, metric, value in lines if method in titles}
