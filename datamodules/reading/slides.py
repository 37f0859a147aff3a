"""Whole slides: their magnification, square tiles at any magnification, and regions of any size.

Only the parts of the file that overlap a tile are in memory.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.reading.files import check_name
from datamodules.reading.magnification import MPP_AT_1X, PLAUSIBLE, REMEDY, combine, is_plausible
from datamodules.reading.rasters import Raster
from datamodules.reading.slide_files import open_slide
from postproc.errors import DataError

Image = NDArray[np.uint8]

MAX_REGION = 8192
"""Longest side, in pixels, that is read for one tile."""
LEAST = 2.0
"""Smallest magnification of a slide: its pixels have at most 5 microns, half a nucleus."""
SATURATION = 0.08
"""Minimum saturation (HSV) of tissue: bare slide has 0.03 to 0.07 in H&E of several scanners, eosin at least 0.1."""
VALUE = 0.05
"""Minimum value (HSV) of tissue: the saturation of nearly black pixels is meaningless."""


class Slide:
    """A whole slide.

    Args:
        path: File in any format that tiffslide or OpenSlide reads (SVS, NDPI, SCN, MRXS, OME-TIFF, ...).
        magnification: Objective magnification that overrides the one in the file.

    Attributes:
        name: File name without its suffix.
        magnification: Magnification of the full resolution.
        mpp: Microns per pixel of the full resolution.
        size: (width, height) of the full resolution, in pixels.

    Raises:
        ConfigError: If the package that reads the slide is not installed.
        DataError: If the file is missing, damaged, truncated, not an RGB slide or larger than any slide, or if its
            magnification is missing, implausible or contradictory.
    """

    def __init__(self, path: Path, *, magnification: float | None = None) -> None:
        self.path = Path(path)
        self.name = self.path.stem
        if not self.path.is_file():
            raise DataError(f"{self.path}: no such file")
        check_name(self.path)
        self._file = open_slide(self.path)
        try:
            self.size: tuple[int, int] = self._file.sizes[0]
            self.magnification = self._magnification(magnification)
            sides = self._file.sides
            known = magnification is None and sides and is_plausible(MPP_AT_1X * len(sides) / sum(sides))
            self.mpp = sum(sides) / len(sides) if known else MPP_AT_1X / self.magnification
        except BaseException:
            self.close()
            raise

    def grid(self, magnification: float, side: int) -> tuple[int, int]:
        """Return the number of complete tiles of `side` pixels at a magnification, (columns, rows)."""
        step = self._step(magnification, side)
        return int(self.size[0] / step), int(self.size[1] / step)

    def has(self, magnification: float) -> bool:
        """Return whether a magnification is available: at most the slide's own, with a tolerance of a tenth."""
        return magnification <= 1.1 * self.magnification

    def corner(self, magnification: float, side: int, column: int, row: int) -> tuple[int, int]:
        """Return the upper left corner (x, y) of a tile of the grid, in pixels of the full resolution."""
        step = self._step(magnification, side)
        return round(column * step), round(row * step)

    def level(self, magnification: float) -> int:
        """Return the smallest level of the pyramid that has at least a magnification (the largest level, if none)."""
        wanted = 1.01 * self.magnification / magnification
        return max((k for k, factor in enumerate(self._file.downsamples) if factor <= wanted), default=0)

    def tile(self, magnification: float, side: int, corner: tuple[int, int]) -> Image:
        """Read a tile, averaged over the area of each pixel.

        Args:
            magnification: Magnification of the tile.
            side: Side of the tile, in pixels.
            corner: Upper left corner (x, y) in pixels of the full resolution.

        Returns:
            uint8 (side, side, 3).

        Raises:
            DataError: If this part of the file is damaged, or the slide has no level near the magnification.
        """
        level = self.level(magnification)
        extent = round(self._step(magnification, side) / self._file.downsamples[level])
        if extent > MAX_REGION:
            raise DataError(
                f"{self.path}: a tile at {magnification:g}x takes {extent} px of its level {level}, and it has no "
                "smaller one; convert it to a pyramidal TIFF"
            )
        width, height = self._file.sizes[level]
        # the last column of a level may be one pixel narrower than the full resolution suggests
        x = min(int(corner[0] / self._file.downsamples[level]), max(width - extent, 0))
        y = min(int(corner[1] / self._file.downsamples[level]), max(height - extent, 0))
        region = self.region(level, y, x, y + extent, x + extent)
        if region.shape[:2] != (side, side):
            smaller = extent > side
            region = cv2.resize(region, (side, side), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
        return np.ascontiguousarray(region)

    def region(self, level: int, top: int, left: int, bottom: int, right: int) -> Image:
        """Read a region of a level, uint8 (bottom - top, right - left, 3).

        Raises:
            DataError: If this part of the file is damaged.
        """
        scale = self._file.downsamples[level]
        corner = (math.ceil(left * scale), math.ceil(top * scale))
        return self._call(lambda: self._file.read(corner, level, (right - left, bottom - top)))

    def raster(self, factor: float) -> SlideRaster:
        """Return the smallest level of the pyramid from which the slide can be reduced by a factor.

        Args:
            factor: Pixels of the wanted size per pixel of the full resolution.
        """
        wanted = 1.01 / factor
        level = max((k for k, down in enumerate(self._file.downsamples) if down <= wanted), default=0)
        return SlideRaster(self, level, self._file.sizes[level])

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _step(self, magnification: float, side: int) -> float:
        """Return the side of a tile, in pixels of the full resolution."""
        return side * self.magnification / magnification

    def _call(self, call: Callable[[], Image]) -> Image:
        """Call the library, which may raise anything on damaged files."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about scanner metadata that is not used here
                return call()
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
            raise DataError(
                f"{self.path}: cannot be read, it may be damaged ({reason}); copy or download it again"
            ) from error

    def _magnification(self, magnification: float | None) -> float:
        """Return the magnification: the user's, otherwise the objective's, otherwise that of the pixel size."""
        if magnification is not None:
            return self._plausible(magnification, "the magnification given")
        power, sides = self._file.power, self._file.sides
        if power is None and sides and set(sides) == {1.0}:
            raise DataError(f"{self.path}: it states 1 micron per pixel, as writers do that know none. {REMEDY}")
        found = combine(self.path, power, sides)
        if found is None:
            raise DataError(f"{self.path}: it states neither objective power nor microns per pixel. {REMEDY}")
        if power is None:
            return self._plausible(found, f"its {MPP_AT_1X / found:g} microns per pixel mean a magnification that")
        return self._plausible(power, "its objective power")

    def _plausible(self, value: float, what: str) -> float:
        if not LEAST <= value <= PLAUSIBLE[1]:
            raise DataError(
                f"{self.path}: {what} is {value:g}x, not between {LEAST:g}x and {PLAUSIBLE[1]:g}x. {REMEDY}"
            )
        return value


class SlideRaster(Raster):
    """A level of the pyramid of a slide.

    Args:
        slide: The slide, which remains open.
        level: Level of the pyramid.
        size: Its (width, height) in pixels.
    """

    def __init__(self, slide: Slide, level: int, size: tuple[int, int]) -> None:
        self._slide = slide
        self._level = level
        self.shape = (size[1], size[0])

    def read(self, top: int, left: int, bottom: int, right: int) -> Image:
        """Return a region, uint8 (h, w, 3).

        Raises:
            DataError: If this part of the file is damaged.
        """
        return self._slide.region(self._level, top, left, bottom, right)


def tissue_share(image: Image) -> float:
    """Return the share of tissue pixels, by their saturation and value in HSV.

    Args:
        image: uint8 (H, W, 3), RGB.
    """
    largest = image.max(axis=2).astype(np.float32)
    spread = largest - image.min(axis=2)
    return float(((spread >= SATURATION * largest) & (largest >= VALUE * 255)).mean())


__all__ = ["SATURATION", "VALUE", "Slide", "SlideRaster", "tissue_share"]
