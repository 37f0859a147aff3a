"""Draw tiles labelled with their magnification: the self-supervision of the attention method.

Sahasrabudhe et al., MICCAI 2020, sections 4.1 and 4.2. No annotation is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.drawing.crops import Area
from datamodules.reading.sample import Sample
from postproc.codec import Targets
from postproc.errors import DataError

Image = NDArray[np.uint8]

LEVELS = (10.0, 20.0, 40.0)
"""Magnifications that the classifier distinguishes."""


@dataclass(frozen=True, slots=True)
class Tile(Sample):
    """A tile of a whole slide, which is an example of its own magnification only."""


@dataclass(frozen=True)
class MagnificationDrawer:
    """Determines the possible magnifications of an image; `draw_batch` chooses among them per batch.

    Magnifications cannot be chosen per image, since a batch must contain each equally often (section 4.2).

    Attributes:
        crop: Side of the crop, in pixels, at any magnification.
        levels: Magnifications to choose from; those above the image's own are unavailable and skipped.
        native: Magnification assumed if the image's is unknown.
    """

    crop: int
    levels: tuple[float, ...] = LEVELS
    native: float = 40.0

    def __call__(self, sample: Sample, rng: np.random.Generator, area: Area | None = None) -> Targets:
        """Return the input of `draw_batch`; `area` is ignored, since crops need no nucleus.

        Returns:
            ``image``, uint8 (H, W, 3), the whole image, not copied; ``scales``, float64 (L,), pixels of the crop per
            pixel of the image at each of `levels`, NaN if unavailable; ``crop``, int64 (); ``seed``, int64 (), for all
            randomness of this item.

        Raises:
            DataError: If none of the levels is available for the image.
        """
        native = sample.magnification or self.native
        levels = np.array(self.levels)
        reachable = levels == native if isinstance(sample, Tile) else levels <= native
        if not reachable.any():
            raise DataError(
                f"{sample.image_id}: the image has magnification {native:g}, but tiles at "
                f"{', '.join(f'{level:g}' for level in self.levels)} are needed. Remove it from the training set."
            )
        return {
            "image": sample.image,
            "scales": np.where(reachable, levels / native, np.nan),
            "crop": np.array(self.crop, np.int64),
            "seed": np.array(rng.integers(2**63, dtype=np.int64)),
        }


def draw_batch(drafts: Sequence[Targets]) -> list[Targets]:
    """Draw the crops of a batch, each magnification equally often, with random rotations and reflections.

    Args:
        drafts: Output of `MagnificationDrawer` for each image of the batch.

    Returns:
        For each image ``image``, uint8 (3, crop, crop), and ``magnification``, int64 (), an index into the levels.
    """
    rngs = [np.random.default_rng(int(draft["seed"])) for draft in drafts]
    scales = np.array([draft["scales"] for draft in drafts])
    levels = share_out(np.isfinite(scales), first=int(rngs[0].integers(scales.shape[1])))
    items: list[Targets] = []
    for draft, rng, level in zip(drafts, rngs, levels, strict=True):
        tile = draw_tile(draft["image"], int(draft["crop"]), float(draft["scales"][level]), rng)
        tile = turn(tile, int(rng.integers(8)))
        items.append(
            {"image": np.ascontiguousarray(tile.transpose(2, 0, 1)), "magnification": np.array(level, np.int64)}
        )
    return items


def share_out(reachable: NDArray[np.bool_], first: int) -> list[int]:
    """Assign each image of a batch one of its available levels, so that levels are as balanced as possible.

    Images with the fewest choices come first, and each takes the level that was taken least so far. This minimises the
    count of the most frequent level if the choices are nested (those of an image are a subset of those of any image
    with more choices), as with magnifications up to an image's own.

    Args:
        reachable: bool (B, L), at least one True in each row.
        first: The level that is preferred in ties, followed by the next ones in turn.

    Returns:
        B levels; if all are reachable, each occurs B // L or B // L + 1 times.
    """
    count = reachable.shape[1]
    taken = [0] * count
    levels = [0] * len(reachable)
    for image in np.argsort(reachable.sum(axis=1), kind="stable"):
        choices = np.flatnonzero(reachable[image])
        level = min((int(k) for k in choices), key=lambda k: (taken[k], (k - first) % count))
        levels[image] = level
        taken[level] += 1
    return levels


def draw_tile(image: Image, crop: int, scale: float, rng: np.random.Generator) -> Image:
    """Cut a random window out of an image and shrink it.

    Args:
        image: uint8 (H, W, 3).
        crop: Side of the result, in pixels.
        scale: Pixels of the result per pixel of the image, at most 1.
        rng: Source of the position.

    Returns:
        uint8 (crop, crop, 3), averaged over the area that each pixel covers; mirrored at the lower and right
        border if the image is too small.
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


__all__ = ["LEVELS", "MagnificationDrawer", "Tile", "draw_batch", "draw_tile", "share_out", "turn"]
