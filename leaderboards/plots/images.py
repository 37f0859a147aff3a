"""Bar chart of each image and method (Naylor 2018, figure 6)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from leaderboards.papers.kumar_images import KumarImages
from leaderboards.plots.style import PALETTE, Drawn, Stored, by_mean, heading, new_figure, picture_name
from leaderboards.statistics.entries import Entry, Field
from leaderboards.statistics.intervals import METRICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_IMAGES = 32
MOST_BARS = 120
"""Most bars in a panel; narrower bars cannot be distinguished in print."""

LEGEND = 115
"""Characters per line of the legend."""


def draw_images(stored: Stored) -> Iterator[Drawn]:
    """Yield a picture per dataset and protocol: one panel per metric, one group of bars per image."""
    for field in stored.fields:
        metrics = [metric for metric in METRICS if by_mean(field.entries, metric.column)]
        if not metrics:
            continue
        name = picture_name("images", field)
        images = len({image for entry in field.entries for image in entry.values.index})
        if images > MOST_IMAGES:
            yield Drawn(name, None, f"{images} images are too many for a bar chart; see the box plot")
            continue
        first = next(c for c in ("aji", "pq", "dice") if by_mean(field.entries, c))
        ranked = by_mean(field.entries, first)
        shown = ranked[: max(2, min(len(PALETTE), MOST_BARS // images))]
        some = "" if len(shown) == len(ranked) else f"the best {len(shown)} of {len(ranked)} rows by {first.upper()}"
        note = f"only {some} are shown" if some else ""
        yield Drawn(name, _figure(field, shown, [(m.title, m.column) for m in metrics], some), note)


def _figure(field: Field, shown: Sequence[Entry], metrics: list[tuple[str, str]], note: str) -> Any:
    images = ordered({image for entry in shown for image in entry.values.index})
    columns = max(1, min(4, LEGEND // (max(len(entry.label) for entry in shown) + 8)))
    legend_lines = -(-len(shown) // columns)
    figure = new_figure(0.95 + 1.35 * len(metrics) + 0.16 * legend_lines)
    figure.suptitle(f"{heading(field)}: {note}" if note else heading(field))
    panels = figure.subplots(len(metrics), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (title, column) in zip(panels, metrics, strict=True):
        _panel(panel, shown, list(images), column)
        panel.set_ylabel(title)
    names = list(images.values())
    panels[-1].set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    return figure


def _panel(panel: Axes, shown: Sequence[Entry], images: list[str], column: str) -> None:
    width = 0.8 / len(shown)
    for k, entry in enumerate(shown):
        values = entry.values.reindex(index=images, columns=[column])[column].to_numpy()
        at = np.arange(len(images)) + (k - (len(shown) - 1) / 2) * width
        panel.bar(at, values, width * 0.92, color=PALETTE[k], label=entry.label, linewidth=0)
    panel.set_ylim(0, 1)
    panel.set_xlim(-0.6, len(images) - 0.4)
    panel.grid(axis="y", color="#dddddd", linewidth=0.5)
    panel.set_axisbelow(True)
    panel.tick_params(axis="x", length=0)


def ordered(images: set[str]) -> dict[str, str]:
    """Return images (``dataset/split/image``) in the order of the picture, each with its displayed name.

    Test images of Kumar are ordered by organ and named as in the DIST paper, others are in natural order.
    """
    organs = {f"kumar/test/{part.images[0]}": part.title for part in KumarImages.parts if len(part.images) == 1}
    if images <= set(organs):
        return {image: name for image, name in organs.items() if image in images}
    if images <= set(organs.values()):
        return {name: name for name in organs.values() if name in images}
    found = sorted(images, key=lambda image: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", image)])
    return {image: image.rsplit("/", 1)[-1] for image in found}
