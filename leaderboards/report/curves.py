"""Training curves of a run as points of an SVG for a page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from leaderboards.plots.style import PALETTE

WIDTH, HEIGHT = 560.0, 240.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 10.0, 10.0, 30.0
"""Size and margins of the drawing, in SVG units."""

MOST_POINTS = 400
"""Most points of a line; longer lines are averaged over equal pieces."""

LOG_FROM = 50.0
"""The axis is logarithmic if positive values span more than this factor."""

_ORDER = {"train, each step": 0, "train": 1, "validation": 2}
_COLORS = {"train, each step": "#9db8d2", "train": PALETTE[0], "validation": PALETTE[5]}
_STAGES = {"train": "train", "val": "validation"}


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        label: Name in the legend.
        color: CSS colour.
        points: ``x,y x,y ...`` in SVG syntax.
        dots: The single points, if there are few enough to mark.
        last: The last value as text.
        dashed: Drawn with dashes, so that lines differ in more than colour.
    """

    label: str
    color: str
    points: str
    dots: tuple[tuple[float, float], ...]
    last: str
    dashed: bool


@dataclass(frozen=True)
class Tick:
    """A number at an axis and its position."""

    at: float
    label: str


@dataclass(frozen=True)
class Chart:
    """One drawing.

    Attributes:
        name: The quantity drawn.
        lines: The lines.
        x: Ticks of the steps.
        y: Ticks of the values.
        breaks: Starts of further training phases.
        log: Whether the values have a logarithmic axis.
        left_out: Number of values that are not drawn: non-finite, or not positive on a logarithmic axis.
    """

    name: str
    lines: tuple[Line, ...]
    x: tuple[Tick, ...]
    y: tuple[Tick, ...]
    breaks: tuple[float, ...]
    log: bool
    left_out: int


def read_curves(logs: Sequence[Path]) -> tuple[list[Chart], str]:
    """Return the charts of a training, the loss first, and the problems of its logs (empty if none).

    Args:
        logs: ``metrics.csv`` of each phase in order.
    """
    series: dict[str, dict[str, list[tuple[float, float]]]] = {}
    breaks, offset, problems = [], 0.0, []
    for path in logs:
        try:
            frame = pd.read_csv(path)
        except (OSError, ValueError) as error:  # pandas' parsing errors are ValueErrors
            problems.append(f"{path.parent.name}: {error}")
            continue
        steps = pd.to_numeric(frame["step"], errors="coerce") if "step" in frame else pd.Series(dtype=float)
        if not len(steps) or steps.isna().all():
            problems.append(f"{path.parent.name}: no steps")
            continue
        if offset:
            breaks.append(offset)
        for column in frame.columns:
            name, label = _meaning(str(column))
            values = pd.to_numeric(frame[column], errors="coerce") if name else pd.Series(dtype=float)
            kept = frame[column].notna() if name else values.notna()
            if kept.any():
                points = zip((steps[kept] + 1 + offset).tolist(), values[kept].tolist(), strict=True)
                series.setdefault(name, {}).setdefault(label, []).extend(points)
        offset += float(steps.max()) + 1
    names = sorted(series, key=lambda name: (name != "loss", name))
    charts = [_chart(name, series[name], offset, tuple(breaks)) for name in names]
    return [chart for chart in charts if chart.lines], "; ".join(problems)


def _meaning(column: str) -> tuple[str, str]:
    """Return chart and line of a column (``train/loss_step``); empty if it is not a measurement."""
    stage, slash, name = column.partition("/")
    if not slash or stage not in _STAGES:
        return "", ""
    label = _STAGES[stage]
    if name.endswith("_step"):
        return name.removesuffix("_step"), f"{label}, each step"
    return name.removesuffix("_epoch"), label


def _chart(name: str, series: dict[str, list[tuple[float, float]]], end: float, breaks: tuple[float, ...]) -> Chart:
    arrays = {label: np.array(points, float).reshape(-1, 2) for label, points in series.items()}
    every = np.concatenate(list(arrays.values()))
    finite = every[np.isfinite(every).all(axis=1)]
    positive = finite[finite[:, 1] > 0, 1]
    log = len(positive) == len(finite) > 1 and positive.max() > LOG_FROM * positive.min()
    if not len(finite):
        return Chart(name, (), (), (), (), False, len(every))
    low, high, marks = _axis(float(finite[:, 1].min()), float(finite[:, 1].max()), log)

    def across(x: Any) -> NDArray[np.float64]:
        return np.asarray(LEFT + np.asarray(x, float) / max(end, 1) * (WIDTH - LEFT - RIGHT))

    def down(y: Any) -> NDArray[np.float64]:
        value, a, b = (np.log10(v) if log else np.asarray(v, float) for v in (y, low, high))
        return np.asarray(HEIGHT - BOTTOM - (value - a) / (b - a) * (HEIGHT - TOP - BOTTOM))

    lines = []
    for label in sorted(arrays, key=lambda each: (_ORDER.get(each, 9), each)):
        points: NDArray[np.float64] = arrays[label]
        points = points[np.isfinite(points).all(axis=1)]
        if not len(points):
            continue
        drawn = np.round(thinned(np.stack([across(points[:, 0]), down(points[:, 1])], 1)), 1)
        text = " ".join(f"{x:g},{y:g}" for x, y in drawn.tolist())
        few = label in _ORDER and _ORDER[label] > 0 and len(drawn) <= 40
        dots = tuple((x, y) for x, y in drawn.tolist()) if few else ()
        last = f"{points[-1, 1]:.4g}"
        lines.append(Line(label, _COLORS.get(label, PALETTE[7]), text, dots, last, label == "validation"))
    x_ticks = tuple(Tick(round(float(across(v)), 1), f"{v:,.0f}") for v in _nice(0, end, 6) if v <= end)
    y_ticks = tuple(Tick(round(float(down(v)), 1), f"{v:.4g}") for v in marks)
    at = tuple(round(float(across(v)), 1) for v in breaks)
    return Chart(name, tuple(lines), x_ticks, y_ticks, at, log, len(every) - len(finite))


def thinned(points: NDArray[np.float64], most: int = MOST_POINTS) -> NDArray[np.float64]:
    """Average a line over equal pieces if it has more points than are visible.

    Args:
        points: (N, 2).
        most: Maximum number of points.
    """
    if len(points) <= most:
        return points
    return np.stack([piece.mean(axis=0) for piece in np.array_split(points, most)])


def _axis(low: float, high: float, log: bool) -> tuple[float, float, list[float]]:
    """Return start, end and ticks of an axis."""
    if log:
        bottom, top = math.floor(math.log10(low)), math.ceil(math.log10(high))
        top = max(top, bottom + 1)
        every = max(1, (top - bottom) // 5)
        return 10.0**bottom, 10.0**top, [10.0**k for k in range(bottom, top + 1, every)]
    if high - low < 1e-12 * max(abs(high), 1):
        low, high = low - 0.5, high + 0.5
    low = 0.0 if 0 <= low < 0.5 * high else low
    marks = list(_nice(low, high, 5))
    return min(low, marks[0]), max(high, marks[-1]), marks


def _nice(low: float, high: float, count: int) -> Iterator[float]:
    """Yield round numbers that cover `low` to `high`."""
    raw = max(high - low, 1e-12) / count
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(k * size for k in (1, 2, 2.5, 5, 10) if k * size >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    for k in range(first, math.ceil(high / step - 1e-9) + 1):
        yield round(k * step, 12)


__all__ = ["HEIGHT", "WIDTH", "Chart", "Line", "Tick", "read_curves", "thinned"]
