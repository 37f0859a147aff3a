"""Outlines of the best four methods over a crop of an image (Graham 2019, figure 7; Naylor 2018, figure 8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmark.results.pictures import contours, densest_window
from leaderboards.plots.predictions import Annotated, missing_predictions, read_annotated, read_prediction
from leaderboards.plots.style import WIDTH, Drawn, Stored, by_mean, heading, new_figure, picture_name, wrap
from leaderboards.statistics.entries import Entry, Field
from postproc.errors import NucbenchError
from postproc.instances import Instances
from postproc.pixels.labels import relabel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BEST = 4
SIDE = 250
"""Side of the crop shown, in pixels."""

COLORS = ("#FFEE00", "#00E5FF", "#7CFF4F", "#FFFFFF", "#FF9F1C")
"""Colours of the outlines, so that neighbours differ; all are lighter than any stained nucleus."""


def draw_overlays(stored: Stored) -> Iterator[Drawn]:
    """Yield a picture per dataset and protocol: image, annotation, and the best methods by mean PQ."""
    for field in stored.fields:
        ranked = [entry for entry in by_mean(field.complete or field.entries, "pq") if entry.runs]
        if not ranked:
            continue
        name = picture_name("overlays", field)
        reasons = {entry.label: missing_predictions(stored.runs, entry) for entry in ranked}
        best = [entry for entry in ranked if not reasons[entry.label]][:BEST]
        notes = [reason for reason in reasons.values() if reason]
        if not best:
            yield Drawn(name, None, "; ".join(notes))
            continue
        image = typical_image(best[0])
        try:
            sample = read_annotated(stored.data, [image])[image]
        except NucbenchError as error:
            yield Drawn(name, None, str(error))
            continue
        found = {entry: read_prediction(stored.runs, entry, image) for entry in best}
        yield Drawn(name, _figure(field, image, sample, found), "; ".join(notes))


def typical_image(entry: Entry) -> str:
    """Return the image with the median PQ of a method (the lower of two)."""
    values = entry.values["pq"].dropna().sort_values(kind="stable")
    return str(values.index[(len(values) - 1) // 2])


def distinct_colors(centers: NDArray[np.float32]) -> list[int]:
    """Return a colour (index into `COLORS`) per nucleus that differs from its nearest predecessors.

    Args:
        centers: float (N, 2) as (x, y) in pixels.
    """
    chosen: list[int] = []
    for k, center in enumerate(centers):
        near = np.argsort(((centers[:k] - center) ** 2).sum(axis=1), kind="stable")[: len(COLORS) - 1]
        taken = {chosen[i] for i in near.tolist()}
        chosen.append(next(c for c in ((k + step) % len(COLORS) for step in range(len(COLORS))) if c not in taken))
    return chosen


def _figure(field: Field, image: str, sample: Annotated, found: dict[Entry, Instances]) -> Any:
    window = densest_window(sample.truth, SIDE)
    shown = sample.image[window]
    panels: list[tuple[str, Instances | None]] = [("Image", None), ("Annotation", sample.truth)]
    for entry, instances in found.items():
        panels.append((f"{wrap(entry.label)}, PQ {float(entry.values['pq'][image]):.3f}", instances))
    columns = 3 if len(panels) > 4 else len(panels)
    rows = -(-len(panels) // columns)
    side = min(WIDTH / columns, WIDTH / 3)
    figure = new_figure(rows * (side * shown.shape[0] / shown.shape[1] + 0.2) + 0.3, max(columns * side, 4.8))
    figure.suptitle(f"{heading(field)}: {image.rsplit('/', 1)[-1]} (PQ of the whole image)")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, (title, nuclei) in zip(axes, panels, strict=False):
        panel.imshow(shown, interpolation="nearest")
        panel.set_title(title)
        if nuclei is not None:
            draw_outlines(panel, nuclei, window)
    for panel in axes:
        panel.set_axis_off()
    return figure


def centres_inside(instances: Instances, window: tuple[slice, slice]) -> NDArray[np.bool_]:
    """Return which centres are within a window of the image, bool (N,).

    Args:
        instances: Nuclei of the whole image.
        window: The window, as slices of rows and columns.
    """
    x, y = instances.centroids().T
    rows, columns = window
    inside: NDArray[np.bool_] = (x >= columns.start) & (x < columns.stop) & (y >= rows.start) & (y < rows.stop)
    return inside


def draw_outlines(panel: Axes, instances: Instances, window: tuple[slice, slice]) -> None:
    """Draw the outlines (or centres, for points) of the nuclei in a window of an image.

    Args:
        panel: Axes that show this window.
        instances: Nuclei of the whole image.
        window: The window, as slices of rows and columns.
    """
    if instances.labels is None:
        x, y = instances.centroids().T
        inside = centres_inside(instances, window)
        panel.plot(x[inside] - window[1].start, y[inside] - window[0].start, "o", color=COLORS[0], markersize=3)
        return
    part: NDArray[np.int32] = np.ascontiguousarray(instances.labels[window])
    labels, _, _ = relabel(part)
    shown = Instances((labels.shape[0], labels.shape[1]), labels=labels)
    for line, color in zip(contours(shown), distinct_colors(shown.centroids()), strict=True):
        closed = np.concatenate([line, line[:1]])
        panel.plot(*closed.T, color=COLORS[color], linewidth=0.9, solid_joinstyle="round")
    panel.set_xlim(-0.5, labels.shape[1] - 0.5)
    panel.set_ylim(labels.shape[0] - 0.5, -0.5)
