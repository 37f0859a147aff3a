"""Density of the sizes of nuclei, annotated and predicted (Naylor 2018, figure 7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from leaderboards.plots.predictions import missing_predictions, read_annotated, read_prediction
from leaderboards.plots.style import PALETTE, Drawn, Stored, by_mean, full_label, heading, new_figure, picture_name
from leaderboards.statistics.entries import Field
from postproc.errors import NucbenchError

if TYPE_CHECKING:
    from postproc.instances import Instances

CUT = 2000.0
"""End of the curves, in pixels, as in the paper."""

TALLEST = 2.5
"""Height of the plot relative to the annotation's curve; peaks of tiny fragments would flatten the other curves."""

MOST_LINES = 7
DASHES = ("-", "--", "-.", ":")


def draw_sizes(stored: Stored) -> Iterator[Drawn]:
    """Yield a picture per dataset and protocol: one curve for the annotation and for each row."""
    for field in stored.fields:
        ranked = [entry for entry in by_mean(field.entries, "pq") if entry.runs]
        if not ranked:
            continue
        name = picture_name("sizes", field)
        reasons = {entry.label: missing_predictions(stored.runs, entry) for entry in ranked}
        found = [entry for entry in ranked if not reasons[entry.label]]
        shown = found[:MOST_LINES]
        notes = [reason for reason in reasons.values() if reason]
        notes += [f"only the best {MOST_LINES} of {len(found)} rows by PQ are shown"] if len(found) > MOST_LINES else []
        if not shown:
            yield Drawn(name, None, "; ".join(notes))
            continue
        images = sorted({image for entry in shown for image in entry.values.index})
        try:
            truth = [sample.truth for sample in read_annotated(stored.data, images).values()]
        except NucbenchError as error:
            yield Drawn(name, None, str(error))
            continue
        sizes = {"Annotation": areas(truth)}
        for entry in shown:
            sizes[full_label(field, entry)] = areas(
                [read_prediction(stored.runs, entry, image) for image in entry.values.index]
            )
        yield Drawn(name, _figure(field, {k: v for k, v in sizes.items() if len(v) > 1}), "; ".join(notes))


def areas(found: list[Instances]) -> NDArray[np.float64]:
    """Return the areas, in pixels, of the nuclei of some images; nuclei without an outline are left out."""
    counts = [np.bincount(each.labels.ravel())[1:] for each in found if each.labels is not None]
    every = np.concatenate(counts) if counts else np.zeros(0)
    return every[every > 0].astype(float)


def density(sizes: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Gaussian kernel density of sizes, mirrored at 0 because sizes are not negative.

    The bandwidth follows Silverman's rule, which a few huge components (merged nuclei) do not widen.

    Args:
        sizes: (N,) areas in pixels; at least two.
        at: (M,) points at which to evaluate the density, in pixels.

    Returns:
        (M,) density per pixel.
    """
    quartiles = np.quantile(sizes, [0.25, 0.75])
    spread = min(float(sizes.std(ddof=1)), float(np.diff(quartiles)[0]) / 1.34)
    width = max(0.9 * spread * len(sizes) ** (-1 / 5), 1.0)
    total = np.zeros_like(at)
    for chunk in np.array_split(sizes, max(1, len(sizes) // 2000)):
        for mirrored in (chunk, -chunk):
            total += np.exp(-0.5 * ((at[:, None] - mirrored) / width) ** 2).sum(axis=1)
    return np.asarray(total / (len(sizes) * width * np.sqrt(2 * np.pi)))


def _figure(field: Field, sizes: Mapping[str, NDArray[np.float64]]) -> Any:
    end = min(CUT, max(float(np.quantile(each, 0.995)) for each in sizes.values()))
    at = np.linspace(0, end, 500)
    figure = new_figure(3.0)
    panel = figure.subplots()
    for k, (label, each) in enumerate(sizes.items()):
        color = "black" if k == 0 else PALETTE[(k - 1) % len(PALETTE)]
        text = f"{label}: {len(each):,} nuclei, median {np.median(each):.0f} px"
        line: dict[str, Any] = {
            "linewidth": 1.8 if k == 0 else 1.2,
            "linestyle": "-" if k == 0 else DASHES[k % len(DASHES)],
        }
        panel.plot(at, density(each, at) * 1000, color=color, label=text, zorder=3 if k == 0 else 2, **line)
    panel.set_title(f"{heading(field)}: sizes of nuclei")
    panel.set_xlabel(f"area, px (cut at {end:,.0f})")
    highest, shown = panel.dataLim.y1 * 1.05, TALLEST * float(density(next(iter(sizes.values())), at).max()) * 1000
    panel.set_ylabel("density per 1,000 px" + (" (taller peaks cut)" if highest > shown else ""))
    panel.set_xlim(0, end)
    panel.set_ylim(0, min(highest, shown))
    panel.legend(frameon=False, loc="upper right")
    return figure
