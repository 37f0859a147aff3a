"""Files of whole slides: opened by tiffslide, or by OpenSlide if it reads more."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from datamodules.reading.magnification import all_positive, ome_scale, positive
from datamodules.reading.rasters import MAX_SEGMENT, MAX_SIDE
from postproc.errors import ConfigError, DataError

Image = NDArray[np.uint8]

TIFF_SLIDES = (".svs", ".ndpi", ".scn")
"""Suffixes of slides that tiffslide reads; it also reads TIFF and OME-TIFF."""
OPENSLIDE_ONLY = (".mrxs", ".vms", ".vmu", ".svslide", ".bif")
"""Suffixes of slides that only OpenSlide reads: MIRAX, Hamamatsu VMS and VMU, Sakura, Ventana."""
SLIDE_SUFFIXES = TIFF_SLIDES + OPENSLIDE_ONLY
"""Suffixes of files that are always slides."""


class SlideFile(ABC):
    """An open slide.

    Attributes:
        sizes: (width, height) of each level of the pyramid in pixels, the full resolution first.
        downsamples: Pixels of the full resolution per pixel of each level.
        power: Power of the objective; None if unknown.
        sides: Width and height of a pixel of the full resolution in microns, those that are known.
    """

    sizes: tuple[tuple[int, int], ...]
    downsamples: tuple[float, ...]
    power: float | None
    sides: list[float]

    @abstractmethod
    def read(self, corner: tuple[int, int], level: int, size: tuple[int, int]) -> Image:
        """Return a region, uint8 (h, w, 3).

        Args:
            corner: Upper left corner (x, y) in pixels of the full resolution.
            level: Level of the pyramid.
            size: (w, h) in pixels of the level.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the file."""


class TiffSlideFile(SlideFile):
    """A slide that tiffslide reads.

    Args:
        path: The file.

    Raises:
        DataError: If the file is truncated, claims implausible sizes, or cannot be read in parts.
    """

    def __init__(self, path: Path) -> None:
        from tiffslide import TiffSlide

        self._path = path
        self._slide = TiffSlide(path)
        try:
            properties = self._slide.properties
            self.downsamples = tuple(float(factor) for factor in self._slide.level_downsamples)
            self.sizes = tuple(self._slide.level_dimensions)
            self._check_levels(properties.get("tiffslide.series-index", 0))
            self.power = positive(properties.get("tiffslide.objective-power"))
            self.sides = all_positive(properties.get(f"tiffslide.mpp-{axis}") for axis in "xy")
            if self.power is None and not self.sides and self._slide.ts_tifffile.is_ome:
                self.power, self.sides = ome_scale(self._slide.ts_tifffile)
        except BaseException:
            self.close()
            raise

    def read(self, corner: tuple[int, int], level: int, size: tuple[int, int]) -> Image:
        """Return a region."""
        region = self._slide.read_region(corner, level, size, as_array=True)
        return np.asarray(region[..., :3], np.uint8)

    def close(self) -> None:
        """Close the file."""
        with suppress(Exception):  # the library cannot close everything if the file was never read
            self._slide.close()

    def _check_levels(self, number: int) -> None:
        series = self._slide.ts_tifffile.series[number]
        end = self._path.stat().st_size
        for level, (width, height) in enumerate(self.sizes):
            if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
                raise DataError(f"{self._path}: its level {level} claims {width} x {height} px; it is not a slide")
        for level in series.levels:
            for page in level.pages:
                self._check_page(page.aspage(), end)

    def _check_page(self, page: Any, end: int) -> None:
        channels = int(page.samplesperpixel)
        if page.dtype != np.uint8 or channels not in (3, 4):
            raise DataError(f"{self._path}: {page.dtype} px of {channels} channels; convert it to RGB of 8 bits each")
        segment = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
        if not 0 < int(segment[0]) * int(segment[1]) * channels <= MAX_SEGMENT:
            raise DataError(
                f"{self._path}: stored in parts of {segment[1]} x {segment[0]} px, too large to be read one by one; "
                "convert it to a TIFF with tiles of about 256 px"
            )
        across, down = -(-page.imagewidth // int(segment[1])), -(-page.imagelength // int(segment[0]))
        planes = channels if page.planarconfig == 2 else 1
        offsets, counts = np.array(page.dataoffsets, np.int64), np.array(page.databytecounts, np.int64)
        if len(offsets) < across * down * planes or len(offsets) != len(counts) or (offsets + counts > end).any():
            raise DataError(f"{self._path}: the file is truncated; copy or download it again")


class OpenSlideFile(SlideFile):
    """A slide that OpenSlide reads; parts that were not scanned are white.

    Args:
        path: The file.

    Raises:
        DataError: If it claims implausible sizes.
    """

    def __init__(self, path: Path) -> None:
        from openslide import OpenSlide

        self._slide = OpenSlide(path)
        properties = self._slide.properties
        self.downsamples = tuple(float(factor) for factor in self._slide.level_downsamples)
        self.sizes = tuple((int(width), int(height)) for width, height in self._slide.level_dimensions)
        for level, size in enumerate(self.sizes):
            if not all(0 < side <= MAX_SIDE for side in size):
                raise DataError(f"{path}: its level {level} claims {size[0]} x {size[1]} px; it is not a slide")
        self.power = positive(properties.get("openslide.objective-power"))
        self.sides = all_positive(properties.get(f"openslide.mpp-{axis}") for axis in "xy")

    def read(self, corner: tuple[int, int], level: int, size: tuple[int, int]) -> Image:
        """Return a region."""
        pixels = np.asarray(self._slide.read_region(corner, level, size))
        region = np.ascontiguousarray(pixels[..., :3])
        region[pixels[..., 3] == 0] = 255
        return region

    def close(self) -> None:
        """Close the file."""
        self._slide.close()


def open_slide(path: Path) -> SlideFile:
    """Open a slide.

    Raises:
        ConfigError: If the package that reads it is not installed.
        DataError: If it cannot be read.
    """
    only = path.suffix.lower() in OPENSLIDE_ONLY
    try:
        import_module("openslide" if only else "tiffslide")
    except ImportError as error:
        if only:
            what, extra = f"{path.suffix} slides are read through OpenSlide", "openslide"
        else:
            what, extra = "whole slides are read through tiffslide", "slides"
        raise ConfigError(f"{what}: pip install 'nucbench[{extra}]'") from error
    if only:
        with _damage(path):
            return OpenSlideFile(path)
    with _damage(path):
        try:
            return TiffSlideFile(path)
        except DataError:
            raise
        except Exception:
            with suppress(Exception):  # the first error is the one to report
                return OpenSlideFile(path)
            raise


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Report whatever libraries raise on damaged files as a `DataError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about scanner metadata that is not used here
            yield
    except DataError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        raise DataError(f"{path}: not a readable slide ({reason}); copy or download it again") from error


def is_slide(path: Path, large: int) -> bool:
    """Tell whether a file is a whole slide: by its suffix, or a TIFF with a pyramid and more than `large` pixels.

    Args:
        path: The file.
        large: Pixels of the full resolution above which a pyramid is a slide.
    """
    suffix = path.suffix.lower()
    if suffix in SLIDE_SUFFIXES:
        return True
    if suffix not in (".tif", ".tiff"):
        return False
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            if int(page.imagelength) * int(page.imagewidth) <= large or page.samplesperpixel not in (3, 4):
                return False
            return len(file.series[0].levels) > 1
    except Exception:  # decoders raise many types on damaged files; reading the image reports the fault
        return False


__all__ = ["OPENSLIDE_ONLY", "SLIDE_SUFFIXES", "TIFF_SLIDES", "SlideFile", "is_slide", "open_slide"]
