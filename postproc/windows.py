"""Tile geometry of networks, and stitching of their outputs over a whole image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from postproc.codec import Array, Maps


@dataclass(frozen=True, slots=True)
class Geometry:
    """Valid input sizes of a network and the output size of each, in pixels per side.

    An input of n px is valid when ``n >= minimum`` and ``n % multiple == remainder``; the output has
    ``n - 2 * margin`` px. Networks with valid convolutions have a margin. Padded ones have margin 0; their `context` is
    the width of the output border that padding affects, by which tiles overlap and which they drop.

    Attributes:
        margin: Pixels lost on each side by valid convolutions.
        multiple: Step between valid input sizes.
        remainder: Valid input sizes are congruent to this modulo `multiple`.
        context: Pixels of the *output* on each side that are dropped where tiles meet.
        minimum: Smallest valid input size.
        whole_image: The method needs the whole image as one input (classical pipelines).
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
            ValueError: If the network does not accept that size.
        """
        if self.valid_input(size) != size:
            raise ValueError(f"input of {size} px is not valid; the next valid size is {self.valid_input(size)}")
        return size - 2 * self.margin


@dataclass(frozen=True, slots=True)
class Window:
    """The area of an image that one tile's output covers, and the part of it that is kept.

    All bounds are in pixels of the image. They may extend beyond it, where the image is mirrored.

    Attributes:
        top: First row of the tile's output.
        left: First column of the tile's output.
        height: Rows of the tile's output.
        width: Columns of the tile's output.
        keep: (top, left, bottom, right) of the part inside the image that is taken from this tile only;
            the `keep` parts of all windows tile the image without overlap.
    """

    top: int
    left: int
    height: int
    width: int
    keep: tuple[int, int, int, int]


class Stitcher(Protocol):
    """Collects the outputs of tiles into the maps of one image."""

    def begin(self, plan: Sequence[Window]) -> Sequence[Window]:
        """Return the tiles of a plan that are needed; they are added in this order."""

    def add(self, window: Window, output: Maps) -> None:
        """Add the output of one tile; dense maps are (C, window.height, window.width)."""

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

    def begin(self, plan: Sequence[Window]) -> Sequence[Window]:
        """Return all tiles."""
        return plan

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
        """Return the maps of the whole image."""
        return self._maps


__all__ = ["Array", "DenseStitcher", "Geometry", "Stitcher", "Window"]
