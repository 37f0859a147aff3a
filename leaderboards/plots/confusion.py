"""Confusion matrices of types, with missed nuclei and false detections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmark.metrics.classification import confusion_matrix
from leaderboards.plots.style import Drawn, Stored, full_label, heading, new_figure, picture_name, wrap
from leaderboards.statistics.entries import Entry, Field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

Matrix = NDArray[np.float64]

MOST_PANELS = 6
COLUMNS = 2
GAP = 0.12
"""Space, in cells, before the last row and column, which are not types."""


def draw_confusion(stored: Stored) -> Iterator[Drawn]:
    """Yield a picture per dataset and protocol: one matrix per row of the classification table."""
    for field in stored.typed:
        if not field.entries:
            continue
        name = picture_name("confusion", field)
        matrices = [(entry, confusion(entry)) for entry in field.entries]
        found = [(entry, matrix) for entry, matrix in matrices if matrix is not None]
        found.sort(key=lambda each: -_rightly(each[1]))
        notes = [
            f"{entry.label} has no stored confusions: delete its evaluations and run it again"
            for entry, matrix in matrices
            if matrix is None
        ]
        shown = found[:MOST_PANELS]
        if len(found) > MOST_PANELS:
            notes.append(f"only the best {MOST_PANELS} of {len(found)} rows, by share of correct types, are shown")
        yield Drawn(name, _figure(field, shown) if shown else None, "; ".join(notes))


def confusion(entry: Entry) -> Matrix | None:
    """Return the confusion of an entry summed over images, see `confusion_matrix`; None if not stored."""
    counts = entry.values[[column for column in entry.values.columns if column.startswith("n_")]]
    sums = counts.sum(skipna=False).dropna()
    return confusion_matrix({str(name): float(value) for name, value in sums.items()}, len(entry.types))


def row_shares(matrix: Matrix) -> Matrix:
    """Divide each row by its sum; rows without nuclei and undefined cells are NaN."""
    total = np.nansum(matrix, axis=1, keepdims=True)
    return np.asarray(np.divide(matrix, total, out=np.full(matrix.shape, np.nan), where=total > 0))


def _rightly(matrix: Matrix) -> float:
    """Return the share of annotated nuclei with a type that were detected with the correct type."""
    typed = matrix[:-2]
    return float(np.trace(typed) / max(typed.sum(), 1))


def _figure(field: Field, shown: Sequence[tuple[Entry, Matrix]]) -> Any:
    # the row and column of nuclei without a type are drawn only if there are any
    side = max(len(matrix) for _, matrix in shown)
    rows = [k for k in range(side) if k != side - 2 or any(np.nansum(matrix[k]) for _, matrix in shown)]
    columns = [k for k in range(side) if k != side - 2 or any(np.nansum(matrix[:, k]) for _, matrix in shown)]
    across = min(COLUMNS, len(shown))
    down = -(-len(shown) // across)
    figure = new_figure(0.5 + down * (0.95 + 0.4 * len(rows)), 1.0 + 3.1 * across)
    figure.suptitle(f"{heading(field)}: annotated and predicted types")
    panels = figure.subplots(down, across, squeeze=False)
    for number, panel in enumerate(panels.flat):
        if number >= len(shown):
            panel.axis("off")
            continue
        entry, matrix = shown[number]
        _panel(panel, entry, matrix[np.ix_(rows, columns)])
        names = [*entry.types, "no type"]
        totals = [f"{np.nansum(matrix[k]):,.0f}" for k in rows]
        across_names = [*(names[k] for k in columns[:-1]), "missed"]
        down_names = [*(names[k] for k in rows[:-1]), "not annotated"]
        panel.set_xticks(_places(len(columns)), across_names, rotation=30, ha="right", rotation_mode="anchor")
        panel.set_yticks(_places(len(rows)), [f"{a}\n{b}" for a, b in zip(down_names, totals, strict=True)])
        panel.set_title(wrap(_title(field, entry), 44))
        if number % across == 0:
            panel.set_ylabel("annotated")
        if number + across >= len(shown):
            panel.set_xlabel("predicted (% of each row)")
    return figure


def _title(field: Field, entry: Entry) -> str:
    return full_label(field, entry) + (f", mean of {entry.repetitions} runs" if entry.repetitions > 1 else "")


def _places(count: int) -> NDArray[np.float64]:
    """Return the centres of cells along an axis, with a gap before the last."""
    places = np.arange(count, dtype=float)
    places[-1] += GAP
    return places


def _panel(panel: Axes, entry: Entry, matrix: Matrix) -> None:
    """Draw each cell with its share of the row and its count; frame the diagonal of the types."""
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    shares = row_shares(matrix)
    height, width = matrix.shape
    for row, y in enumerate(_places(height)):
        for column, x in enumerate(_places(width)):
            share, count = shares[row, column], matrix[row, column]
            if np.isnan(count):
                continue
            right = row == column < len(entry.types)
            # cells about detection only are grey
            colors = colormaps["Greys" if row == height - 1 or column == width - 1 else "Blues"]
            face = "white" if np.isnan(share) else colors(0.8 * share)
            edge = {"edgecolor": "black", "linewidth": 0.9, "zorder": 2} if right else {"edgecolor": "white"}
            panel.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=face, **edge))
            ink = "white" if share > 0.7 else "#999999" if count == 0 else "black"
            label = f"{100 * share:.0f}%\n{count:,.0f}" if count else "0"
            panel.text(x, y, label, ha="center", va="center", fontsize=6.5, color=ink, zorder=3)
    panel.set_xlim(-0.52, width - 0.48 + GAP)
    panel.set_ylim(height - 0.48 + GAP, -0.52)
    panel.set_aspect("equal")
    panel.tick_params(length=0)
    for side in ("left", "bottom"):
        panel.spines[side].set_visible(False)


__all__ = ["confusion", "draw_confusion", "row_shares"]
