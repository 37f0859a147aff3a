"""Outlines of nuclei as SVG overlays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from postproc.instances import Instances

TOLERANCE = 0.6
"""Tolerance of simplified outlines, in pixels; a third of the points remain."""

ANNOTATED, PREDICTED = "#4ff0ff", "#ffe119"
"""Colours of nuclei without types; both are lighter than any stained nucleus."""

COLORS = (
    PREDICTED, "#ff6f6f", "#62ff7e", "#5ccbff", "#ffab40", "#e291ff", "#5ffbf1", "#ff7ad9", "#e6e65c", "#7dffd0",
)  # fmt: skip
"""Colours of type 0 (no type), 1, 2, ...: the hues of `benchmark.results.pictures.PALETTE`, lighter than any stained
nucleus."""

DASHES = ("", "9 2", "4 1.5", "9 1.5 2 1.5")
"""Dashes of the types, so that types differ in more than colour."""

MARKS = (
    "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
    "m-3.5 -3.5h7v7h-7z",
    "m0 -4.6l4.4 8h-8.8z",
    "m0 -5l4.4 5l-4.4 5l-4.4 -5z",
)
"""Marks of nuclei with only a centre, by type: circle, square, triangle, diamond, relative to their centre."""


@dataclass(frozen=True)
class Kind:
    """A line of the legend.

    Attributes:
        name: Type; empty = the nuclei have no types.
        color: CSS colour.
        dash: Dashes of its outlines, in SVG syntax.
        mark: Shape of its centres as a path (`MARKS`); empty = the nuclei have outlines.
        count: Number of its nuclei in the crop.
    """

    name: str
    color: str
    dash: str
    mark: str
    count: int


@dataclass(frozen=True)
class Layer:
    """Nuclei over a picture.

    Attributes:
        file: The SVG, from the root of the report.
        svg: Its content.
        count: Number of nuclei in the crop.
        kinds: Types in the crop.
    """

    file: str
    svg: str
    count: int
    kinds: tuple[Kind, ...]


def layer_of(nuclei: Instances, types: Sequence[str], file: str, *, predicted: bool) -> Layer:
    """Draw the nuclei of a crop of an image.

    Args:
        nuclei: The nuclei, with the size of the crop.
        types: Names of the types 1..T; empty = all nuclei are drawn in one colour.
        file: File of the drawing.
        predicted: Whether they are predicted; this sets their colour if there are no types.
    """
    shapes = _shapes(nuclei)
    given = nuclei.types if types and nuclei.types is not None else None
    kinds, parts = [], []
    for number in sorted({0} if given is None else {int(k) for k in given.tolist()}):
        chosen = [shape for k, shape in enumerate(shapes) if given is None or given[k] == number]
        paint = COLORS[number % len(COLORS)] if given is not None else PREDICTED if predicted else ANNOTATED
        dash = DASHES[(number - 1) % len(DASHES)] if given is not None and number else ""
        mark = "" if nuclei.labels is not None else _mark(number)
        name = "" if given is None else types[number - 1] if 0 < number <= len(types) else "no type"
        kinds.append(Kind(name, paint, dash, mark, len(chosen)))
        if nuclei.labels is None:
            parts.append(f'<path fill="{paint}" stroke="#000" d="{"".join(chosen)}"/>')
            continue
        lines = f'<path id="k{number}" d="{"".join(chosen)}"/>'
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        parts.append(
            f'<defs>{lines}</defs><use href="#k{number}" stroke="#000" stroke-opacity=".55" stroke-width="2.8"/>'
            f'<use href="#k{number}" stroke="{paint}" stroke-width="1.5"{dashed}/>'
        )
    height, width = nuclei.shape
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f'<g transform="translate(.5 .5)" fill="none" stroke-linejoin="round">{"".join(parts)}</g></svg>\n'
    )
    return Layer(file, svg, nuclei.count, tuple(kinds) if given is not None else ())


def _mark(kind: int) -> str:
    return MARKS[max(kind - 1, 0) % len(MARKS)]


def _shapes(nuclei: Instances) -> list[str]:
    """Return each nucleus as a closed path: its outline in whole pixels, or a mark if only its centre is known."""
    if nuclei.labels is None:
        kinds = nuclei.types if nuclei.types is not None else np.zeros(nuclei.count, np.int64)
        places = zip(nuclei.centroids().tolist(), kinds.tolist(), strict=True)
        return [f"M{x:.1f} {y:.1f}{_mark(kind)}" for (x, y), kind in places]
    import cv2

    from benchmark.results.pictures import contours

    paths = []
    for line in contours(nuclei):
        if not len(line):
            paths.append("")
            continue
        points = cv2.approxPolyDP(line.reshape(-1, 1, 2), TOLERANCE, True).reshape(-1, 2).astype(int)
        steps = np.diff(points, axis=0).tolist()
        x, y = points[0].tolist()
        paths.append(f"M{x} {y}" + "".join(f"l{dx} {dy}" for dx, dy in steps) + "z")
    return paths


__all__ = ["ANNOTATED", "COLORS", "DASHES", "PREDICTED", "Kind", "Layer", "layer_of"]
