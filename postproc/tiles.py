"""Tile geometry of networks, and stitching of their outputs over a whole image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from postproc.codec import Array, Maps


@dataclass(frozen=True, slots=True)
class Geometry:
    """Which input sizes a network takes and how much of them it gives back, in px of one side.

    An input of n px is valid when ``n >= minimum`` and ``n % multiple == remainder``; the output has
    ``n - 2 * margin`` px. Networks with valid convolutions have a margin; padded ones have margin 0, and `context`
    says how many px at a tile's border lack the surroundings that they would have had in a larger tile, so that
    tiles overlap by that much and drop it.

    Attributes:
        margin: Px lost on each side by valid convolutions.
        multiple: Step between valid input sizes.
        remainder: Valid input sizes are congruent to this modulo `multiple`.
        context: Px of the *output* on each side that are dropped where tiles meet.
        minimum: Smallest valid input size.
        whole_image: The method must see the whole image at once (classical pipelines).
    """

    margin: int = 0
    multiple: int = 1
    remainder: int = 0
    context: int = 0
    minimum: int = 1
    whole_image: bool = False

    def valid_input(self, size: int) -> int:
        """Return the smallest valid input size that is at least `size` px."""
        size = max(size, self.minimum)
        return size + (self.remainder - size) % self.multiple

    def output(self, size: int) -> int:
        """Return the output size of a valid input of `size` px.

        Raises:
            ValueError: If the network does not take that size.
        """
        if self.valid_input(size) != size:
            raise ValueError(f"input of {size} px is not valid; the next valid size is {self.valid_input(size)}")
        return size - 2 * self.margin


@dataclass(frozen=True, slots=True)
class Window:
    """Part of an image that one tile's output covers, and the part of it that is kept.

    All bounds are px of the image; they may reach beyond it, where the image is mirrored.

    Attributes:
        top: First row of the tile's output.
        left: First column of the tile's output.
        height: Rows of the tile's output.
        width: Columns of the tile's output.
        keep: (top, left, bottom, right) of the part that this tile alone is responsible for, inside the image;
            the `keep` parts of all windows tile the image without overlap.
    """

    top: int
    left: int
    height: int
    width: int
    keep: tuple[int, int, int, int]


class Stitcher(Protocol):
    """Collects the outputs of tiles into the maps of one image."""

    def add(self, window: Window, output: Maps) -> None:
        """Take the output of one tile; dense maps are (C, window.height, window.width)."""

    def finish(self) -> Maps:
        """Return the maps of the whole image."""


class DenseStitcher:
    """Copies the kept part of each tile's dense maps into maps of the image's size.

    Args:
        shape: (H, W) of the image.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._maps: Maps = {}

    def add(self, window: Window, output: Maps) -> None:
        """Copy the kept part of a tile; maps are allocated on the first tile, with its dtype and channels."""
        top, left, bottom, right = window.keep
        rows = slice(top - window.top, bottom - window.top)
        columns = slice(left - window.left, right - window.left)
        for name, tile in output.items():
            if name not in self._maps:
                self._maps[name] = np.zeros((tile.shape[0], *self._shape), tile.dtype)
            self._maps[name][:, top:bottom, left:right] = tile[:, rows, columns]

    def finish(self) -> Maps:
        """Return the maps; those of all tiles together."""
        return self._maps


__all__ = ["Array", "DenseStitcher", "Geometry", "Stitcher", "Window"]
