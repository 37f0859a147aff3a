"""Whole slides read through tiffslide: their magnification, and square tiles at any magnification.

Only the parts of the file that overlap a tile are in memory.
"""

from __future__ import annotations

import math
import warnings
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.reading.files import check_name
from datamodules.reading.magnification import (
    MPP_AT_1X,
    PLAUSIBLE,
    REMEDY,
    all_positive,
    combine,
    is_plausible,
    positive,
)
from datamodules.reading.rasters import MAX_SEGMENT, MAX_SIDE
from postproc.errors import ConfigError, DataError

if TYPE_CHECKING:
    from tiffslide import TiffSlide

Image = NDArray[np.uint8]

MAX_REGION = 8192
"""Longest side, in pixels, that is read for one tile."""
SATURATION = 0.08
"""Minimum saturation (HSV) of tissue: bare slide has 0.03 to 0.07 in H&E of several scanners, eosin at least 0.1."""
VALUE = 0.05
"""Minimum value (HSV) of tissue: the saturation of nearly black pixels is meaningless."""


class Slide:
    """A whole slide.

    Args:
        path: File in any format that tiffslide reads (SVS, NDPI, SCN, generic pyramidal TIFF, ...).
        magnification: Objective magnification that overrides the one in the file.

    Attributes:
        name: File name without its suffix.
        magnification: Magnification of the full resolution.
        size: (width, height) of the full resolution, in pixels.

    Raises:
        ConfigError: If tiffslide is not installed.
        DataError: If the file is missing, damaged, truncated, not an RGB slide or larger than any slide, or if its
            magnification is missing, implausible or contradictory.
    """

    def __init__(self, path: Path, *, magnification: float | None = None) -> None:
        self.path = Path(path)
        self.name = self.path.stem
        if not self.path.is_file():
            raise DataError(f"{self.path}: no such file")
        check_name(self.path)
        self._slide = _open(self.path)
        try:
            properties = self._call(lambda slide: slide.properties)
            self._downsamples = tuple(float(factor) for factor in self._call(lambda slide: slide.level_downsamples))
            self._sizes = tuple(self._call(lambda slide: slide.level_dimensions))
            self.size: tuple[int, int] = self._sizes[0]
            self._call(self._check_levels)
            self.magnification = self._magnification(properties, magnification)
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
        return max((k for k, factor in enumerate(self._downsamples) if factor <= wanted), default=0)

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
        extent = round(self._step(magnification, side) / self._downsamples[level])
        if extent > MAX_REGION:
            raise DataError(
                f"{self.path}: a tile at {magnification:g}x takes {extent} px of its level {level}, and it has no "
                "smaller one; convert it to a pyramidal TIFF"
            )
        width, height = self._sizes[level]
        # the last column of a level may be one pixel narrower than the full resolution suggests
        x = min(int(corner[0] / self._downsamples[level]), max(width - extent, 0))
        y = min(int(corner[1] / self._downsamples[level]), max(height - extent, 0))
        at = (math.ceil(x * self._downsamples[level]), math.ceil(y * self._downsamples[level]))
        region = self._call(lambda slide: slide.read_region(at, level, (extent, extent), as_array=True))
        if region.shape[:2] != (side, side):
            smaller = extent > side
            region = cv2.resize(region, (side, side), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
        return np.ascontiguousarray(region[..., :3])

    def close(self) -> None:
        """Close the file."""
        with suppress(Exception):  # the library cannot close everything if the file was never read
            self._slide.close()

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _step(self, magnification: float, side: int) -> float:
        """Return the side of a tile, in pixels of the full resolution."""
        return side * self.magnification / magnification

    def _call(self, call: Any) -> Any:
        """Call the library, which may raise anything on damaged files."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about scanner metadata that is not used here
                return call(self._slide)
        except DataError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
            raise DataError(
                f"{self.path}: cannot be read, it may be damaged ({reason}); copy or download it again"
            ) from error

    def _check_levels(self, slide: TiffSlide) -> None:
        """Refuse files that are truncated, claim implausible sizes, or cannot be read in parts."""
        series = slide.ts_tifffile.series[slide.properties.get("tiffslide.series-index", 0)]
        end = self.path.stat().st_size
        for level, (width, height) in enumerate(self._sizes):
            if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
                raise DataError(f"{self.path}: its level {level} claims {width} x {height} px; it is not a slide")
        for level in series.levels:
            for page in level.pages:
                self._check_page(page.aspage(), end)

    def _check_page(self, page: Any, end: int) -> None:
        channels = int(page.samplesperpixel)
        if page.dtype != np.uint8 or channels not in (3, 4):
            raise DataError(f"{self.path}: {page.dtype} px of {channels} channels; convert it to RGB of 8 bits each")
        segment = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
        if not 0 < int(segment[0]) * int(segment[1]) * channels <= MAX_SEGMENT:
            raise DataError(
                f"{self.path}: stored in parts of {segment[1]} x {segment[0]} px, too large to be read one by one; "
                "convert it to a TIFF with tiles of about 256 px"
            )
        across, down = -(-page.imagewidth // int(segment[1])), -(-page.imagelength // int(segment[0]))
        planes = channels if page.planarconfig == 2 else 1
        offsets, counts = np.array(page.dataoffsets, np.int64), np.array(page.databytecounts, np.int64)
        if len(offsets) < across * down * planes or len(offsets) != len(counts) or (offsets + counts > end).any():
            raise DataError(f"{self.path}: the file is truncated; copy or download it again")

    def _magnification(self, properties: Any, magnification: float | None) -> float:
        """Return the magnification: the user's, otherwise the objective's, otherwise that of the pixel size."""
        if magnification is not None:
            return self._plausible(magnification, "the magnification given")
        power = positive(properties.get("tiffslide.objective-power"))
        found = combine(self.path, power, all_positive(properties.get(f"tiffslide.mpp-{axis}") for axis in "xy"))
        if found is None:
            raise DataError(f"{self.path}: it states neither objective power nor microns per pixel. {REMEDY}")
        if power is None:
            return self._plausible(found, f"its {MPP_AT_1X / found:g} microns per pixel mean a magnification that")
        return self._plausible(power, "its objective power")

    def _plausible(self, value: float, what: str) -> float:
        if not is_plausible(value):
            raise DataError(
                f"{self.path}: {what} is {value:g}x, not between {PLAUSIBLE[0]:g}x and {PLAUSIBLE[1]:g}x. {REMEDY}"
            )
        return value


def tissue_share(image: Image) -> float:
    """Return the share of tissue pixels, by their saturation and value in HSV.

    Args:
        image: uint8 (H, W, 3), RGB.
    """
    largest = image.max(axis=2).astype(np.float32)
    spread = largest - image.min(axis=2)
    return float(((spread >= SATURATION * largest) & (largest >= VALUE * 255)).mean())


def _open(path: Path) -> TiffSlide:
    try:
        from tiffslide import TiffSlide
    except ImportError as error:
        raise ConfigError("whole slides are read through tiffslide: pip install 'nucbench[slides]'") from error
    try:
        return TiffSlide(path)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        raise DataError(f"{path}: not a readable slide ({reason}); copy or download it again") from error


__all__ = ["SATURATION", "VALUE", "Slide", "tissue_share"]
