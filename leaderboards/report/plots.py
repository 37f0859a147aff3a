"""The pictures of `nucbench plot` in a report, as SVG."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from leaderboards.plots.draw import PLOTS
from leaderboards.plots.style import Drawn, Stored, style
from leaderboards.report.slugs import slug

LEFT_OUT = ("overlays",)
"""Plots that are replaced by their own pages."""


@dataclass(frozen=True)
class Plot:
    """One picture.

    Attributes:
        kind: Name of its plot.
        name: Its name.
        file: The SVG, from the root of the report.
        width: Width in pixels at 96 dpi.
        height: Height in pixels at 96 dpi.
        note: What is left out.
    """

    kind: str
    name: str
    file: str
    width: int
    height: int
    note: str


def draw_plots(
    stored: Stored, out: Path, plots: Mapping[str, Callable[[Stored], Iterator[Drawn]]] = PLOTS
) -> tuple[list[Plot], list[str]]:
    """Write the pictures of stored scores.

    Args:
        stored: Data from which they are drawn.
        out: Root of the report.
        plots: Plot name -> function that yields its pictures.

    Returns:
        The pictures, and one line per picture that cannot be drawn, with the reason.
    """
    found, left_out = [], []
    with style():
        for kind in sorted(set(plots) - set(LEFT_OUT)):
            for drawn in plots[kind](stored):
                note = _without_folders(drawn.note, stored)
                if drawn.figure is None:
                    left_out.append(f"{drawn.name}: {note}")
                    continue
                file = f"plots/{slug(drawn.name)}.svg"
                buffer = io.BytesIO()
                drawn.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
                path = out / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(buffer.getvalue())
                width, height = (round(96 * side) for side in drawn.figure.get_size_inches())
                found.append(Plot(kind, drawn.name, file, width, height, note))
    return found, left_out


def _without_folders(text: str, stored: Stored) -> str:
    """Remove the local folders of runs and datasets from a text."""
    for folder in (stored.runs, stored.data):
        text = text.replace(f"{folder}/", "")
    return text


__all__ = ["Plot", "draw_plots"]
