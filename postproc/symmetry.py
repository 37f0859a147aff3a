"""The eight symmetries of the square, for averaging predictions over mirrored and rotated images."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from postproc.codec import Array


@dataclass(frozen=True, slots=True)
class Symmetry:
    """Mirroring from left to right, then quarter turns counter-clockwise.

    Attributes:
        mirrored: Whether columns are reversed first.
        turns: Number of quarter turns, 0 to 3, as those of `np.rot90`.
    """

    mirrored: bool
    turns: int

    def undo(self, maps: Array) -> Array:
        """Move the pixels of the maps of a transformed image, (..., H', W'), back to (..., H, W)."""
        back = np.rot90(maps, -self.turns, axes=(-2, -1))
        return back[..., ::-1] if self.mirrored else back

    def undo_vectors(self, vectors: Array) -> Array:
        """Move and turn back the vectors of a transformed image.

        Args:
            vectors: (2, H', W'), the components to the right and downwards.

        Returns:
            (2, H, W).
        """
        right, down = self.undo(vectors)
        for _ in range(self.turns):  # a quarter turn takes right to up and down to right
            right, down = -down, right
        return np.stack([-right if self.mirrored else right, down])

    def undo_directions(self, rays: Array) -> Array:
        """Move back the pixels and directions of a transformed image.

        Args:
            rays: (N, H', W'), a value for each of N directions, from the right clockwise; N is a multiple of 4.

        Returns:
            (N, H, W).
        """
        count = len(rays)
        direction = np.arange(count)
        if self.mirrored:
            direction = count // 2 - direction
        return self.undo(rays)[(direction - self.turns * count // 4) % count]


SYMMETRIES = tuple(Symmetry(mirrored, turns) for mirrored, turns in itertools.product((False, True), range(4)))
"""All of them; the first changes nothing."""

__all__ = ["SYMMETRIES", "Symmetry"]
