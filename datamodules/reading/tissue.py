"""Where a slide has tissue: a mask from a low level of its pyramid, or from a file."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from datamodules.reading.files import read_rgb
from datamodules.reading.rasters import Raster
from datamodules.reading.slides import VALUE
from postproc.errors import DataError
from postproc.pixels.components import without_small

Mask = NDArray[np.bool_]

MPP = 16.0
"""Microns per pixel of the mask: a nucleus has half a pixel, a gland several."""
LEAST_SATURATION, MOST_SATURATION = 0.05, 0.1
"""Range of the threshold of saturation. Otsu's threshold lies between glass and tissue; it is too high where pale and
dark tissue differ more than glass and pale tissue, and eosin has at least 0.1. On glass alone it is the middle of
noise."""
SMALLEST_MM2 = 0.01
"""Smallest piece of tissue, and smallest hole in tissue, in square millimetres."""
MARGIN = 2
"""Pixels by which tissue is extended, so that nuclei at its border are complete."""
ASPECT = 1.02
"""Largest ratio between the proportions of a mask and of its slide."""


class Tissue:
    """Tissue of a slide.

    Args:
        mask: bool (h, w), covers the whole slide; True = tissue.
        extent: (H, W) of the image in whose pixels `touches` is asked.
    """

    def __init__(self, mask: Mask, extent: tuple[int, int]) -> None:
        self.mask = mask
        self.share = float(mask.mean())
        self._scale = (mask.shape[0] / extent[0], mask.shape[1] / extent[1])
        self._count: NDArray[np.int64] = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
        self._count[1:, 1:] = mask.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)

    def touches(self, box: tuple[int, int, int, int]) -> bool:
        """Tell whether a box (top, left, bottom, right) has tissue."""
        top, left = (int(start * scale) for start, scale in zip(box[:2], self._scale, strict=True))
        bottom, right = (
            min(max(int(np.ceil(end * scale)), start + 1), size)
            for end, scale, start, size in zip(box[2:], self._scale, (top, left), self.mask.shape, strict=True)
        )
        count = self._count
        return bool(count[bottom, right] - count[top, right] - count[bottom, left] + count[top, left])


def find_tissue(small: Raster, mpp: float) -> Mask:
    """Find the tissue of a slide by its saturation: threshold of Otsu within limits, then small parts are removed.

    Args:
        small: The slide at about `MPP`.
        mpp: Microns per pixel of `small`.

    Returns:
        bool (h, w), True = tissue.
    """
    height, width = small.shape
    saturation = np.zeros(small.shape, np.uint8)
    for top in range(0, height, 256):
        bottom = min(top + 256, height)
        saturation[top:bottom] = _saturation(small.read(top, 0, bottom, width))
    saturation = np.asarray(cv2.medianBlur(saturation, 5), np.uint8)
    otsu = float(threshold_otsu(saturation)) / 255 if saturation.min() < saturation.max() else 1.0
    found = saturation > 255 * min(max(otsu, LEAST_SATURATION), MOST_SATURATION)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    closed = cv2.morphologyEx(found.astype(np.uint8), cv2.MORPH_CLOSE, disc) > 0
    smallest = math.ceil(SMALLEST_MM2 * (1000 / mpp) ** 2)
    whole = ~without_small(~without_small(closed, smallest, 8), smallest, 8)
    wider = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * MARGIN + 1, 2 * MARGIN + 1))
    return np.asarray(cv2.dilate(whole.astype(np.uint8), wider) > 0)


def read_tissue(path: Path, extent: tuple[int, int]) -> Mask:
    """Read a tissue mask of any size: black = no tissue.

    Args:
        path: Image file.
        extent: (H, W) of the slide.

    Raises:
        DataError: If the file cannot be read, or does not have the proportions of the slide.
    """
    mask = np.asarray(read_rgb(path).any(axis=2))
    ratio = mask.shape[0] / mask.shape[1] / (extent[0] / extent[1])
    if not 1 / ASPECT <= ratio <= ASPECT and abs(mask.shape[0] - extent[0] * mask.shape[1] / extent[1]) > 1:
        raise DataError(
            f"{path}: {mask.shape[0]} x {mask.shape[1]} px do not have the proportions of the slide, "
            f"{extent[0]} x {extent[1]} px; give a mask of the whole slide"
        )
    return mask


def _saturation(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the saturation in HSV, uint8 (h, w); 0 where the value is too low for a colour."""
    largest = image.max(axis=2).astype(np.float32)
    spread = largest - image.min(axis=2)
    return np.where(largest >= VALUE * 255, 255 * spread / np.maximum(largest, 1), 0).astype(np.uint8)


__all__ = ["MPP", "Tissue", "find_tissue", "read_tissue"]
