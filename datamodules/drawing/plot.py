"""Draw an image with its annotation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from datamodules.reading.sample import Sample
from postproc.pixels.pixel_polygons import pixel_polygons

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#000000")
"""Colours of the types in order (Okabe and Ito); nuclei without a type have the first."""
INCHES = 8.0


def plot_sample(sample: Sample, types: tuple[str, ...] = ()) -> Figure:
    """Draw an image with the outlines of its nuclei, or their centres if there are no outlines.

    Args:
        sample: Image and annotation.
        types: Names of the types 1..T, for the legend.

    Returns:
        A figure without a window; ``figure.savefig("image.png")`` writes it.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    truth = sample.truth
    height, width = truth.shape
    scale = INCHES / max(height, width)
    figure = Figure(figsize=(width * scale, height * scale), layout="constrained")
    panel = figure.add_subplot()
    panel.imshow(sample.image, interpolation="nearest", extent=(0, width, height, 0))
    kinds = np.zeros(truth.count, np.int64) if truth.types is None else truth.types
    colours = [COLOURS[max(int(kind) - 1, 0) % len(COLOURS)] for kind in kinds]
    if truth.labels is not None:
        rings, of = [], []
        for nucleus, colour in zip(pixel_polygons(truth.labels, truth.count), colours, strict=True):
            closed = [np.concatenate([ring, ring[:1]]) for part in nucleus for ring in part]
            rings += closed
            of += [colour] * len(closed)
        panel.add_collection(LineCollection(rings, colors=of, linewidths=1.0))
    elif truth.count:
        x, y = truth.centroids().T + 0.5
        panel.scatter(x, y, s=12, c=colours, edgecolors="white", linewidths=0.5)
    shown = sorted({int(kind) for kind in kinds if 0 < kind <= len(types)})
    if shown:
        lines = [Line2D([], [], color=COLOURS[(kind - 1) % len(COLOURS)], label=types[kind - 1]) for kind in shown]
        panel.legend(handles=lines, loc="upper right", fontsize="small")
    panel.set_axis_off()
    panel.set_title(f"{sample.image_id}: {truth.count:,} nuclei", fontsize="medium")
    return figure


__all__ = ["plot_sample"]
