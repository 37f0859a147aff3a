"""A slide at a glance: thumbnail with the outline of the tissue, the density of nuclei by type, and a scale bar."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmark.forward.scaling import ScaledRaster
from benchmark.inference.nuclei import Nuclei
from benchmark.inference.sizes import X, Y
from benchmark.results.legend import length_text, scale_bar
from benchmark.results.pictures import PALETTE, write_png
from datamodules.reading.slides import Slide

SIDE = 2000
"""Maximum side in pixels."""
BAND = 128
"""Rows that are read at once."""
OPACITY = 0.5
"""Opacity of one nucleus in a pixel; more nuclei are more opaque."""
DOT = 2.0
"""Radius of the dot of a nucleus in microns, at least one pixel in all."""
OUTLINE = (0, 110, 0)
"""RGB of the outline of the tissue."""


def write_overview(path: Path, slide: Slide, mask: NDArray[np.bool_] | None, nuclei: Nuclei) -> None:
    """Write the picture as PNG.

    Args:
        path: The file.
        slide: The slide.
        mask: Tissue, bool (h, w), covers the slide; None = everywhere.
        nuclei: The nuclei, in pixels of the full resolution.
    """
    width, height = slide.size
    factor = min(1.0, SIDE / max(width, height))
    canvas = _thumbnail(slide, factor)
    _draw_nuclei(canvas, nuclei, factor, round(DOT * factor / slide.mpp))
    if mask is not None:
        _draw_outline(canvas, mask)
    _draw_scale_bar(canvas, slide.mpp / factor)
    write_png(path, canvas)


def _thumbnail(slide: Slide, factor: float) -> NDArray[np.uint8]:
    small = ScaledRaster(slide.raster(factor), factor, (slide.size[1], slide.size[0]))
    height, width = small.shape
    return np.concatenate([small.read(y, 0, min(y + BAND, height), width) for y in range(0, height, BAND)])


def _draw_nuclei(canvas: NDArray[np.uint8], nuclei: Nuclei, factor: float, radius: int) -> None:
    """Blend each pixel with the mean colour of the nuclei whose dots it belongs to."""
    height, width = canvas.shape[:2]
    centres = (nuclei.sizes[nuclei.order][:, [Y, X]] + 0.5) * factor
    y, x = np.clip(centres.astype(np.int64), 0, [height - 1, width - 1]).T
    place = y * width + x
    kinds = np.zeros(len(place), np.int64) if nuclei.types is None else nuclei.types[nuclei.order]
    planes = [np.bincount(place, PALETTE[kinds % len(PALETTE), c], height * width) for c in range(3)]
    planes.append(np.bincount(place, minlength=height * width))
    layers = np.stack(planes, axis=-1).reshape(height, width, 4).astype(np.float32)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)).astype(np.float32)
    layers = cv2.filter2D(layers, -1, disc, borderType=cv2.BORDER_CONSTANT)
    count = np.rint(layers[..., 3:])
    opacity = 1 - (1 - OPACITY) ** count
    canvas[:] = np.rint((1 - opacity) * canvas + opacity * layers[..., :3] / np.maximum(count, 1))


def _draw_outline(canvas: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
    height, width = canvas.shape[:2]
    size = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    lines: Any = cv2.findContours(size, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)[0]
    cv2.drawContours(canvas, lines, -1, OUTLINE, 2)


def _draw_scale_bar(canvas: NDArray[np.uint8], mpp: float) -> None:
    """Draw a round scale bar, at most a quarter as long as the picture, in the lower left."""
    height, width = canvas.shape[:2]
    bar = scale_bar(width, mpp, 0.25)
    if bar is None:
        return
    (microns, length), edge = bar, max(2, width // 50)
    text = length_text(microns)
    size = max(0.4, width / 1600)
    bottom = height - edge
    cv2.rectangle(canvas, (edge, bottom - max(2, width // 250)), (edge + length, bottom), (0, 0, 0), -1)
    at = (edge, bottom - max(6, width // 100))
    cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), max(1, round(2 * size)), cv2.LINE_AA)


__all__ = ["write_overview"]
