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
"""Plots that pages of their own replace."""


@dataclass(frozen=True)
class Plot:
    """One picture.

    Attributes:
        kind: Plot that it belongs to.
        name: Its name.
        file: The SVG, from the root of the report.
        width: In px at 96 dpi.
        height: As above.
        note: What is left out of it.
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
        stored: What they are drawn from.
        out: Root of the report.
        plots: Plot name -> function that yields its pictures.

    Returns:
        The pictures, and a line for each that cannot be drawn, with the reason.
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
    """Leave out where runs and datasets lie on this machine."""
    for folder in (stored.runs, stored.data):
        text = text.replace(f"{folder}/", "")
    return text


__all__ = ["Plot", "draw_plots"]
