"""Normalise the colours of tiles to a target image (Reinhard et al. 2001)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.reading.files import read_rgb
from models.base.stain import lab_statistics, transfer_colour

Image = NDArray[np.uint8]
Colours = tuple[tuple[float, ...], ...]
"""Mean and standard deviation of L*, a* and b*."""


def target_colours(target: Path) -> Colours:
    """Return mean and standard deviation of L*, a* and b* of an image, to six digits.

    Raises:
        DataError: If the image cannot be read.
    """
    with one_thread():
        statistics = lab_statistics(_batch(read_rgb(target)))[0]
    return tuple(tuple(round(float(value), 6) for value in row) for row in statistics)


def normalise(tile: Image, colours: Colours) -> Image:
    """Adjust a tile, uint8 (H, W, 3), to the mean and standard deviation of L*, a* and b* of a target."""
    with one_thread():
        images = _batch(tile)
        moved = transfer_colour(images, lab_statistics(images), torch.tensor(colours))[0]
    return (255 * moved).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread, because rounding of sums over pixels depends on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _batch(image: Image) -> torch.Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1)[None].copy()).float() / 255


__all__ = ["normalise", "one_thread", "target_colours"]
