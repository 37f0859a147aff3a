"""Read images and label maps by region, so that only a part of them is in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from datamodules.reading.files import IMAGE_SUFFIXES, TO_8_BITS, read_rgb
from datamodules.reading.tiff_pages import first_page, image_pages
from postproc.errors import DataError

Array = NDArray[Any]

MAX_SEGMENT = 1 << 28
"""Largest tile or strip that is decoded, in bytes; files with larger ones are not read by region."""
MAX_SIDE = 1 << 20
"""Longest side of an image, in pixels; whole slides have less than a fifth of it."""
CACHE = 96 << 20
"""Size of the cache of decoded tiles, in bytes, so that neighbouring regions do not decode them again."""
_TABLES = (6, 7, 34892, 33007)
"""Compressions of TIFF (JPEG) whose tiles share tables."""


class Raster(ABC):
    """An image that can be read by region.

    Attributes:
        shape: (H, W) in pixels.
    """

    shape: tuple[int, int]

    @abstractmethod
    def read(self, top: int, left: int, bottom: int, right: int) -> Array:
        """Return the pixels of a region inside the image, (h, w) or (h, w, 3); callers must not modify it."""

    def close(self) -> None:  # noqa: B027  # what is in memory has nothing to close
        """Close the file."""


class ArrayRaster(Raster):
    """An image in memory.

    Args:
        array: (H, W) or (H, W, C).
    """

    def __init__(self, array: Array) -> None:
        self._array = array
        self.shape = (array.shape[0], array.shape[1])

    def read(self, top: int, left: int, bottom: int, right: int) -> Array:
        """Return a view of a region."""
        return self._array[top:bottom, left:right]


class NpyRaster(Raster):
    """A label map in a .npy file.

    Args:
        path: The file.

    Raises:
        DataError: If it is damaged, truncated or not a 2-D map of whole numbers.
    """

    def __init__(self, path: Path) -> None:
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # numpy may raise anything on a damaged header, including tokenize.TokenError
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise DataError(
                f"{path}: cannot be read, it may be damaged ({reason}); copy or download it again"
            ) from error
        if not isinstance(array, np.memmap):
            raise DataError(f"{path}: holds several arrays; a label map is one array")
        if array.ndim != 2 or array.dtype.kind not in "iu":
            raise DataError(f"{path}: holds {array.dtype} {array.shape}; a label map is 2-D with whole numbers")
        self._arguments = {"filename": path, "dtype": array.dtype, "shape": array.shape, "offset": array.offset}
        self._order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
        self.shape = (array.shape[0], array.shape[1])

    def read(self, top: int, left: int, bottom: int, right: int) -> Array:
        """Return a copy of a region; the file is mapped only during this call, so that its pages are released."""
        mapped: Array = np.memmap(mode="r", order=self._order, **self._arguments)  # type: ignore[call-overload]
        return np.array(mapped[top:bottom, left:right])


class _WholeOnlyError(DataError):
    """A TIFF that cannot be read by region, but possibly as a whole."""


class TiffRaster(Raster):
    """The first image of a TIFF, which is the full resolution of a pyramid, in tiles or strips.

    Images are converted like by `datamodules.reading.files.read_rgb`: uint8 RGB, alpha dropped, greyscale repeated.

    Args:
        path: The file.
        labels: Read a label map, (H, W) of whole numbers, instead of an image.

    Raises:
        DataError: If the file is damaged or truncated, of another kind, or has tiles or strips of more than
            `MAX_SEGMENT` bytes.
    """

    def __init__(self, path: Path, *, labels: bool = False) -> None:
        self._path = path
        self._labels = labels
        try:
            self._file = tifffile.TiffFile(path)
            found = first_page(self._file) if labels else image_pages(self._file, path)
            self._pages = found.pages
            self._page = found.pages[0]
            if not labels and found.orientation != 1:
                raise _WholeOnlyError(
                    f"{path}: stored rotated or mirrored (orientation {found.orientation}); save it upright"
                )
            self._prepare()
            found.tell(path)
        except DataError:
            self.close()
            raise
        except Exception as error:  # decoders may raise anything on damaged files
            self.close()
            raise self._damaged(error) from error

    def _prepare(self) -> None:
        page = self._page
        self.shape = (int(page.imagelength), int(page.imagewidth))
        if not all(0 < side <= MAX_SIDE for side in self.shape):
            raise DataError(f"{self._path}: claims {self.shape[0]} x {self.shape[1]} px")
        if self._labels:
            if page.dtype is None or page.dtype.kind not in "iu" or page.samplesperpixel != 1:
                raise DataError(f"{self._path}: a label map has one whole number per pixel")
        elif page.dtype != np.uint8:
            raise DataError(f"{self._path}: {page.dtype} pixels; images must have 8 bits per channel. {TO_8_BITS}")
        elif page.photometric not in (0, 1, 2, 6) or page.samplesperpixel not in (1, 2, 3, 4):
            raise DataError(
                f"{self._path}: colours stored as {page.photometric!r} in {page.samplesperpixel} channels; "
                "convert it to RGB or greyscale"
            )
        if page.is_tiled:
            self._segment = (int(page.tilelength), int(page.tilewidth))
        else:
            self._segment = (min(int(page.rowsperstrip), self.shape[0]), self.shape[1])
        channels = int(page.samplesperpixel) if page.planarconfig == 1 else 1
        planes = int(page.samplesperpixel) if page.planarconfig == 2 else 1  # of one page
        self._planes = planes * len(self._pages)
        size = self._segment[0] * self._segment[1] * channels * page.dtype.itemsize
        if not 0 < size <= MAX_SEGMENT:
            raise _WholeOnlyError(
                f"{self._path}: its {'tiles' if page.is_tiled else 'strips'} have {size} bytes, more than "
                f"{MAX_SEGMENT}, and cannot be read by region; convert it to a TIFF with tiles of about 256 px"
            )
        self._across = -(-self.shape[1] // self._segment[1])
        self._down = -(-self.shape[0] // self._segment[0])
        end = self._path.stat().st_size
        layout = page.shape, page.dtype, page.compression, page.is_tiled, page.tile, page.rowsperstrip
        self._segments = []
        for each in self._pages:
            if (each.shape, each.dtype, each.compression, each.is_tiled, each.tile, each.rowsperstrip) != layout:
                raise DataError(f"{self._path}: its channels are stored in different ways; save it as RGB")
            segments = list(zip(each.dataoffsets, each.databytecounts, strict=True))
            segments = segments[: self._across * self._down * planes]
            if len(segments) < self._across * self._down * planes or any(
                count == 0 or offset + count > end for offset, count in segments
            ):
                raise DataError(f"{self._path}: the file is truncated; copy or download it again")
            tables = (
                {"jpegtables": each.jpegtables, "jpegheader": each.jpegheader} if each.compression in _TABLES else {}
            )
            self._segments += [(each, tables, number, *place) for number, place in enumerate(segments)]
        self._cache: OrderedDict[int, Array] = OrderedDict()
        self._cached = 0

    def read(self, top: int, left: int, bottom: int, right: int) -> Array:
        """Decode the tiles of a region and combine them.

        Raises:
            DataError: If one of them is damaged.
        """
        height, width = self._segment
        result: Array | None = None
        for row in range(top // height, -(-bottom // height)):
            for column in range(left // width, -(-right // width)):
                tile = self._tile(row * self._across + column)
                if result is None:
                    result = np.empty((bottom - top, right - left, *tile.shape[2:]), tile.dtype)
                y, x = row * height, column * width
                rows = slice(max(top, y), min(bottom, y + height))
                columns = slice(max(left, x), min(right, x + width))
                result[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = tile[
                    rows.start - y : rows.stop - y, columns.start - x : columns.stop - x
                ]
        if result is None:
            raise ValueError(f"region {(top, left, bottom, right)} is empty")
        return result

    def _tile(self, number: int) -> Array:
        """Return a tile, from the cache if available."""
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        planes = [self._decode(number + plane * self._across * self._down) for plane in range(self._planes)]
        tile = planes[0] if self._planes == 1 else np.concatenate(planes, axis=-1)
        tile = tile[..., 0] if self._labels else self._rgb(tile)
        self._cache[number] = tile
        self._cached += tile.nbytes
        while self._cached > CACHE and len(self._cache) > 1:
            self._cached -= self._cache.popitem(last=False)[1].nbytes
        return tile

    def _decode(self, number: int) -> Array:
        page, tables, index, offset, count = self._segments[number]
        try:
            decode = page.decode  # reads from the file when it is created
            handle = self._file.filehandle
            handle.seek(offset)
            decoded, _, _ = decode(handle.read(count), index, **tables)
        except Exception as error:  # decoders may raise anything on damaged files
            raise self._damaged(error) from error
        array: Array = np.asarray(decoded)[0]
        rows = min(self._segment[0], self.shape[0] - number // self._across % self._down * self._segment[0])
        needed = self._segment if self._page.is_tiled else (rows, self.shape[1])
        missing = (max(0, needed[0] - array.shape[0]), max(0, needed[1] - array.shape[1]))
        if any(missing):  # some writers crop the tiles at the border of the image
            array = np.pad(array, ((0, missing[0]), (0, missing[1]), (0, 0)))
        return array

    def _rgb(self, tile: Array) -> Array:
        if self._page.photometric == 0:
            tile = 255 - tile
        if tile.shape[2] < 3:
            tile = np.repeat(tile[..., :1], 3, axis=2)
        return np.ascontiguousarray(tile[..., :3])

    def _damaged(self, error: Exception) -> DataError:
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        return DataError(f"{self._path}: cannot be read, it may be damaged ({reason}); copy or download it again")

    def close(self) -> None:
        """Close the file."""
        with suppress(AttributeError):
            self._file.close()


def image_raster(path: Path) -> Raster:
    """Open an image: a TIFF by region, other kinds of files as a whole.

    A TIFF that cannot be read by region, because of its strips or its orientation, is also read as a whole, within the
    limits of `read_rgb`.

    Raises:
        DataError: If the file is missing, damaged, too large for its kind, or of another kind.
    """
    _check_file(path)
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise DataError(f"{path}: image files end in {', '.join(IMAGE_SUFFIXES)}; convert it to one of them")
    if path.suffix.lower() not in (".tif", ".tiff"):
        return ArrayRaster(read_rgb(path))
    try:
        return TiffRaster(path)
    except _WholeOnlyError:
        return ArrayRaster(read_rgb(path))


def label_raster(path: Path) -> Raster | None:
    """Open a label map that can be read by region (.npy, .tif); None for other kinds of files.

    Raises:
        DataError: If the file is missing, damaged or not a label map.
    """
    _check_file(path)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return NpyRaster(path)
    return TiffRaster(path, labels=True) if suffix in (".tif", ".tiff") else None


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty; copy or download it again")
