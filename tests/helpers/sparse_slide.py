"""A slide of any size in a small file: nearly all of its tiles are the same few bytes of white glass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import tifffile

SIDE = 512
Tile = np.ndarray[Any, np.dtype[np.uint8]]


def write_sparse_slide(path: Path, shape: tuple[int, int], tissue: Mapping[tuple[int, int], Tile], mpp: float) -> None:
    """Write a slide as Aperio scanners do.

    Args:
        path: The file.
        shape: (H, W) in pixels, multiples of 8192.
        tissue: Top and left edge in pixels, multiples of 8192, -> image of 8192 x 8192 px or less.
        mpp: Microns per pixel.
    """
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for factor in (1, 4, 16):
            height, width = (side // factor for side in shape)
            text = f"Aperio Image Library v12\r\n{shape[1]}x{shape[0]} ({SIDE}x{SIDE})"
            text += f"|MPP = {mpp}" if factor == 1 else f" -> {width}x{height}"
            about: dict[str, Any] = {"photometric": "rgb", "compression": "zlib", "metadata": None, "description": text}
            tiles = _tiles((height, width), tissue, factor)
            file.write(tiles, shape=(height, width, 3), dtype=np.uint8, tile=(SIDE, SIDE), **about)
            if factor == 1:
                file.write(np.full((64, 64, 3), 245, np.uint8), **about)  # the thumbnail is the second page


def _tiles(shape: tuple[int, int], tissue: Mapping[tuple[int, int], Tile], factor: int) -> Iterator[bytes]:
    white = imagecodecs.zlib_encode(np.full((SIDE, SIDE, 3), 245, np.uint8).tobytes())
    cut: dict[tuple[int, int], bytes] = {}
    for (top, left), image in tissue.items():
        size = (image.shape[1] // factor, image.shape[0] // factor)
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if factor > 1 else image
        for y in range(0, small.shape[0], SIDE):
            for x in range(0, small.shape[1], SIDE):
                tile = np.full((SIDE, SIDE, 3), 245, np.uint8)
                part = small[y : y + SIDE, x : x + SIDE]
                tile[: part.shape[0], : part.shape[1]] = part
                place = (top // factor + y) // SIDE, (left // factor + x) // SIDE
                cut[place] = imagecodecs.zlib_encode(tile.tobytes())
    for row in range(-(-shape[0] // SIDE)):
        for column in range(-(-shape[1] // SIDE)):
            yield cut.get((row, column), white)
