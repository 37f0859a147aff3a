"""Output maps of a network before decoding, with image, annotation and result.

The layout follows figure 3 of Graham 2019, figures 4 and 8 of Naylor 2018 and figure 2 of Sahasrabudhe 2020. Maps are
passed as arrays: `benchmark.commands.maps` runs the network, so this module does not need torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmark.results.pictures import densest_window
from leaderboards.plots.overlays import centres_inside, draw_outlines
from leaderboards.plots.style import WIDTH, Drawn, new_figure, wrap
from postproc.instances import Instances

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIDE = 250
"""Side of the crop shown, in pixels."""
COLUMNS = 4
SEQUENTIAL = "viridis"
DIVERGING = "PuOr"
"""Colour maps suitable for all kinds of colour vision (Nunez et al. 2018; ColorBrewer)."""

Kind = Literal["share", "amount", "signed"]


@dataclass(frozen=True)
class MapPanel:
    """One map.

    Attributes:
        title: Description of the output.
        values: float (H, W), with the size of the image.
        kind: ``share`` = in [0, 1]; ``amount`` = non-negative; ``signed`` = diverging colours around 0.
        unit: Unit of the values, for the colour bar; empty = none.
    """

    title: str
    values: NDArray[np.float32]
    kind: Kind
    unit: str = ""


@dataclass(frozen=True)
class MapPicture:
    """Contents of one picture of maps.

    Attributes:
        name: File name without extension.
        heading: Title of the picture.
        image: uint8 (H, W, 3).
        truth: Annotated nuclei; None if there is no annotation.
        found: Nuclei after decoding.
        result: Title of the result: the row's name in tables.
        panels: The maps.
    """

    name: str
    heading: str
    image: NDArray[np.uint8]
    truth: Instances | None
    found: Instances
    result: str
    panels: tuple[MapPanel, ...]


def draw_maps(picture: MapPicture, side: int = SIDE) -> Drawn:
    """Draw image, annotation, maps and result for the crop with the most annotated (else found) nuclei.

    Args:
        picture: Contents of the picture.
        side: Side of the crop, in pixels.
    """
    window = densest_window(picture.truth if picture.truth is not None else picture.found, side)
    shown = picture.image[window]
    count = 2 + (picture.truth is not None) + len(picture.panels)
    rows = -(-count // COLUMNS)
    columns = -(-count // rows)
    width = WIDTH * max(columns, 3) / COLUMNS
    figure = new_figure(0.35 + rows * (0.27 + 0.8 * width / columns * shown.shape[0] / shown.shape[1]), width)
    figure.suptitle(picture.heading)
    axes = iter(figure.subplots(rows, columns, squeeze=False).ravel())
    _image(next(axes), shown, "Image", None, window)
    if picture.truth is not None:
        _image(next(axes), shown, "Annotation", picture.truth, window)
    for panel in picture.panels:
        _map(figure, next(axes), panel, window)
    _image(next(axes), shown, wrap(f"Result: {picture.result}"), picture.found, window)
    for rest in axes:
        rest.set_axis_off()
    return Drawn(picture.name, figure)


def limits(panel: MapPanel, window: tuple[slice, slice]) -> tuple[float, float]:
    """Return the colour limits of a map; those of a signed map are symmetric around 0."""
    if panel.kind == "share":
        return 0.0, 1.0
    values = panel.values[window]
    finite = values[np.isfinite(values)]
    largest = float(np.abs(finite).max(initial=0.0)) or 1.0
    return (-largest, largest) if panel.kind == "signed" else (0.0, largest)


def _image(
    axis: Axes, shown: NDArray[np.uint8], title: str, nuclei: Instances | None, window: tuple[slice, slice]
) -> None:
    axis.imshow(shown, interpolation="nearest")
    axis.set_title(title)
    if nuclei is not None:
        draw_outlines(axis, nuclei, window)
        if not _any_inside(nuclei, window):
            _say(axis, "no nuclei in this crop")
    axis.set_axis_off()


def _map(figure: Any, axis: Axes, panel: MapPanel, window: tuple[slice, slice]) -> None:
    low, high = limits(panel, window)
    colors = DIVERGING if panel.kind == "signed" else SEQUENTIAL
    drawn = axis.imshow(panel.values[window], cmap=colors, vmin=low, vmax=high, interpolation="nearest")
    axis.set_title(wrap(panel.title, 24))
    axis.set_axis_off()
    bar = figure.colorbar(drawn, ax=axis, fraction=0.05, pad=0.03, aspect=18)
    bar.outline.set_linewidth(0.4)
    bar.ax.tick_params(labelsize=6, length=2, width=0.4, pad=1.5)
    bar.ax.locator_params(nbins=5)
    if panel.unit:
        bar.set_label(panel.unit, fontsize=6.5, labelpad=2)
    if not panel.values[window].any():
        _say(axis, "0 everywhere in this crop")


def _say(axis: Axes, text: str) -> None:
    """Write a text across an empty panel, which would look like an error otherwise."""
    box = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 2}
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", fontsize=7, bbox=box)


def _any_inside(nuclei: Instances, window: tuple[slice, slice]) -> bool:
    if nuclei.labels is not None:
        return bool(nuclei.labels[window].any())
    return bool(centres_inside(nuclei, window).any())


__all__ = ["MapPanel", "MapPicture", "draw_maps", "limits"]
