"""Figures 6 to 9 of the KiNet paper from stored scores: shares of the labels, stages, gamma, lambda."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmark.metrics.detection import THRESHOLDS, class_scores, detection_scores
from leaderboards.papers.ki67 import METRICS, Ki67
from leaderboards.papers.ki67_studies import STUDIES, Found, Line, Study, counts, find
from leaderboards.plots.style import PALETTE, Drawn, Stored, new_figure, wrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DETECTION, CLASSIFICATION = METRICS[:3], METRICS[5:8]
"""Precision, recall and F1 of both tasks."""

COLORS = {"KiNet": PALETTE[0], "oKiNet": PALETTE[5], "sKiNet": PALETTE[1], "FRCN": PALETTE[7]}
MARKERS = {"KiNet": "o", "oKiNet": "s", "sKiNet": "^", "FRCN": "D"}


def draw_study(study: Study, stored: Stored) -> Iterator[Drawn]:
    """Yield the picture of a study for each protocol with runs."""
    for found in find(study, stored.scores) if stored.scores is not None else ():
        note = f"{found.left_out} runs with other settings" if found.left_out else ""
        name = f"{study.name}-{found.protocol}"
        published = {} if "images=synthetic" in found.recipe else _published(stored.published)
        if not study.setting:
            yield Drawn(name, _bars(study, found, published), note)
        elif study.setting == "label_share":
            yield Drawn(name, _shares(study, found, published), note)
        else:
            yield Drawn(name, _weights(study, found), note)


DRAW: dict[str, Callable[[Stored], Iterator[Drawn]]] = {study.name: partial(draw_study, study) for study in STUDIES}
"""Plot name -> function that yields its pictures."""


def _heading(study: Study, found: Found) -> str:
    titles = {
        "ki67-labels": "nuclei labelled in a share of the training images",
        "ki67-stages": "joint and stagewise training",
        "ki67-gamma": "weight of the nuclei relative to the regions",
        "ki67-lambda": "weight of the mean proximity",
    }
    settings = f"\n{wrap(found.recipe, 95)}" if found.recipe else ""
    return f"Ki67, protocol {found.protocol}: {titles[study.name]}{settings}"


def _figure(study: Study, found: Found, height: float) -> Any:
    """Return an empty picture with its heading; each line of the heading adds to the height."""
    text = _heading(study, found)
    figure = new_figure(height + 0.18 * text.count("\n"))
    figure.suptitle(text)
    return figure


def _published(facts: pd.DataFrame) -> dict[tuple[str, str], float]:
    here = facts[facts["table"] == Ki67.published_table]
    lines = here[["method", "metric", "value"]].itertuples(index=False)
    return {(method, metric): value for method, metric, value in lines}


def _summaries(line: Line) -> dict[float, list[dict[str, float]]]:
    table = Ki67()
    return {value: [table.summary(run) for run in runs] for value, runs in line.runs.items()}


def _shares(study: Study, found: Found, published: dict[tuple[str, str], float]) -> Any:
    """Return F1 of both tasks against the share of the labels, one line per method (figure 6)."""
    figure = _figure(study, found, 2.9)
    panels = figure.subplots(1, 2)
    for panel, metric, title in zip(
        panels, (DETECTION[2], CLASSIFICATION[2]), ("detection", "classification"), strict=True
    ):
        for line in found.lines:
            values = {100 * value: [s[metric.column] for s in part] for value, part in _summaries(line).items()}
            _line(panel, line, values)
        printed = published.get(("KiNet", metric.name))
        if printed is not None:
            panel.axhline(
                printed, color=COLORS["KiNet"], linewidth=0.8, linestyle=":", label="KiNet, all labels (published)"
            )
        _decorate(panel, title, study.axis)
        panel.set_xticks([100 * value for value in found.values], [f"{100 * value:g}" for value in found.values])
        panel.set_xlim(0, 104)
    panels[0].set_ylabel("F1")
    _legend(figure, panels[0])
    return figure


def _weights(study: Study, found: Found) -> Any:
    """Return F1 against a weight, and the precision-recall curve of each weight (figures 8 and 9)."""
    import matplotlib as mpl

    figure = _figure(study, found, 5.4)
    panels = figure.subplots(2, 2)
    (line,) = found.lines
    places = {value: k for k, value in enumerate(found.values)}
    shades = mpl.colormaps["viridis"](np.linspace(0.0, 0.9, max(2, len(places))))
    for column, (metric, title) in enumerate(((DETECTION[2], "detection"), (CLASSIFICATION[2], "classification"))):
        values = {float(places[value]): [s[metric.column] for s in part] for value, part in _summaries(line).items()}
        _line(panels[0, column], line, values)
        _decorate(panels[0, column], title, study.axis)
        panels[0, column].set_xticks(range(len(places)), [f"{value:g}" for value in places])
        panels[0, column].set_xlim(-0.3, len(places) - 0.7)
        for value, runs in line.runs.items():
            recall, precision = curve(counts(pd.concat(runs)), classes=column == 1)
            usual = value == study.default
            line_style: dict[str, Any] = {"linewidth": 2.0 if usual else 1.1, "zorder": 3 if usual else 2}
            label = f"{study.axis[-1]} = {value:g}" + (" (paper's)" if usual else "")
            color = shades[places[value]]
            panels[1, column].plot(recall, precision, ".-", color=color, markersize=3.5, label=label, **line_style)
        panels[1, column].set_xlabel("recall")
        _frame(panels[1, column])
        panels[1, column].set_xlim(0, 1.02)
    panels[0, 0].set_ylabel("F1")
    panels[1, 0].set_ylabel("precision")
    _legend(figure, panels[1, 0])
    return figure


def _bars(study: Study, found: Found, published: dict[tuple[str, str], float]) -> Any:
    """Return precision, recall and F1 of both tasks, one bar per method (figure 7)."""
    figure = _figure(study, found, 2.7)
    panels = figure.subplots(1, 2, sharey=True)
    width = 0.8 / len(found.lines)
    for panel, metrics, title in zip(panels, (DETECTION, CLASSIFICATION), ("detection", "classification"), strict=True):
        for k, line in enumerate(found.lines):
            (summaries,) = _summaries(line).values()
            each = np.array([[summary[metric.column] for metric in metrics] for summary in summaries])
            at = np.arange(3) + (k - (len(found.lines) - 1) / 2) * width
            panel.bar(at, each.mean(axis=0), width * 0.92, color=COLORS[line.row], label=line.label, linewidth=0)
            if len(each) > 1:
                panel.plot(np.tile(at, len(each)), each.ravel(), ".", color="black", markersize=3)
            for place, metric in zip(at, metrics, strict=True):
                if (line.row, metric.name) in published:
                    printed = published[line.row, metric.name]
                    panel.plot(place, printed, "D", color="white", markeredgecolor="black", markersize=4.5, zorder=5)
        panel.set_title(title)
        panel.set_xticks(range(3), ["precision", "recall", "F1"])
        panel.tick_params(axis="x", length=0)
        _frame(panel)
    shown = any((line.row, DETECTION[0].name) in published for line in found.lines)
    _legend(figure, panels[0], "diamond: published" if shown else "")
    return figure


def _line(panel: Axes, line: Line, values: Mapping[float, list[float]]) -> None:
    """Draw the mean at each value, and each run as a dot if there are several."""
    at = sorted(values)
    means = [float(np.mean(values[x])) for x in at]
    color = COLORS[line.row]
    panel.plot(at, means, color=color, marker=MARKERS[line.row], markersize=4.5, linewidth=1.4, label=line.label)
    for x in at:
        if len(values[x]) > 1:
            panel.plot([x] * len(values[x]), values[x], ".", color=color, markersize=4, alpha=0.5, markeredgewidth=0)


def curve(sums: dict[str, float], *, classes: bool) -> tuple[list[float], list[float]]:
    """Return recall and precision at each threshold with at least one detection.

    Args:
        sums: Counts summed over images, see `benchmark.metrics.detection`.
        classes: True for the classification, weighted over types; False for the detection.
    """
    recall, precision = [], []
    for threshold in THRESHOLDS:
        at = f"@{threshold:.2f}"
        if not sums.get("n_pred" + at):
            continue
        if classes:
            scores = class_scores(sums, at)
            found = scores["recall_c"], scores["precision_c"]
        else:
            here = {"n_true": sums["n_true"], "n_pred": sums["n_pred" + at], "n_found": sums["n_found" + at]}
            scores = detection_scores({**here, "n_distance_sum": 0.0, "n_distance_sum2": 0.0})
            found = scores["recall"], scores["precision"]
        recall.append(found[0])
        precision.append(found[1])
    return recall, precision


def _decorate(panel: Axes, title: str, axis: str) -> None:
    panel.set_title(title)
    panel.set_xlabel(axis)
    _frame(panel)


def _frame(panel: Axes) -> None:
    panel.set_ylim(0, 1.03)  # keep a curve at 1 fully visible
    panel.set_yticks(np.linspace(0, 1, 6))
    panel.grid(axis="y", color="#dddddd", linewidth=0.5)
    panel.set_axisbelow(True)


def _legend(figure: Any, panel: Axes, more: str = "") -> None:
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(5, len(labels)), frameon=False, title=more or None
    )


__all__ = ["DRAW", "curve", "draw_study"]
