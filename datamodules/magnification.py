"""Draw tiles labelled with their magnification: the self-supervision of the attention method.

Sahasrabudhe et al., MICCAI 2020, sections 4.1 and 4.2. Nothing here reads an annotation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.sample import Sample
from postproc.codec import Targets
from postproc.errors import DataError

Image = NDArray[np.uint8]

LEVELS = (10.0, 20.0, 40.0)
"""Magnifications that the classifier tells apart."""


@dataclass(frozen=True)
class MagnificationDrawer:
    """Draws a crop at a magnification that is chosen uniformly, turned and mirrored at random.

    Attributes:
        crop: Side of the crop in px, whatever its magnification.
        levels: Magnifications to choose among; those above the image's own cannot be had and are left out.
        native: Magnification assumed where the image's is unknown.
    """

    crop: int
    levels: tuple[float, ...] = LEVELS
    native: float = 40.0

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Targets:
        """Return ``image``, uint8 (3, crop, crop), and ``magnification``, int64 (), an index into `levels`.

        Raises:
            DataError: If the image's magnification is below all levels.
        """
        native = sample.magnification or self.native
        reachable = [i for i, level in enumerate(self.levels) if level <= native]
        if not reachable:
            raise DataError(
                f"{sample.image_id}: the image has magnification {native:g}, but tiles at "
                f"{min(self.levels):g} or more are needed. Leave it out of the training set."
            )
        chosen = reachable[int(rng.integers(len(reachable)))]
        tile = draw_tile(sample.image, self.crop, self.levels[chosen] / native, rng)
        tile = turn(tile, int(rng.integers(8)))
        return {
            "image": np.ascontiguousarray(tile.transpose(2, 0, 1)),
            "magnification": np.array(chosen, np.int64),
        }


def draw_tile(image: Image, crop: int, scale: float, rng: np.random.Generator) -> Image:
    """Cut a random window out of an image and shrink it.

    Args:
        image: uint8 (H, W, 3).
        crop: Side of the result in px.
        scale: Px of the result per px of the image, at most 1.
        rng: Source of the position.

    Returns:
        uint8 (crop, crop, 3), averaged over the area that each px covers; mirrored at the lower and right
        border where the image is too small.
    """
    side = round(crop / scale)
    height, width = image.shape[:2]
    top = int(rng.integers(0, max(height - side, 0) + 1))
    left = int(rng.integers(0, max(width - side, 0) + 1))
    window = image[top : top + side, left : left + side]
    size = [min(crop, max(1, round(extent * scale))) for extent in window.shape[:2]]
    if window.shape[:2] != tuple(size):
        window = cv2.resize(window, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    missing: list[Any] = [(0, crop - extent) for extent in size]
    return np.pad(window, [*missing, (0, 0)], mode="symmetric") if max(missing) > (0, 0) else window


def turn(image: Image, kind: int) -> Image:
    """Return one of the eight rotations and reflections of a square image, ``kind`` in 0..7."""
    turned = np.rot90(image, kind % 4)
    return turned[:, ::-1] if kind >= 4 else turned


__all__ = ["LEVELS", "MagnificationDrawer", "draw_tile", "turn"]
