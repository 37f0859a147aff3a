"""Maps on disk that are read and written by region, so that their pages never count as used memory."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from postproc.codec import Maps
from postproc.errors import DataError
from postproc.pixels.clusters import Box
from postproc.windows import Window

Array = NDArray[Any]


class DiskArray:
    """An array (C, H, W) in a file, initially 0. It can be pickled; each process opens the file when it uses it.

    Args:
        path: File, created with zeros if missing.
        shape: (C, H, W).
        dtype: Dtype of the elements.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int], dtype: Any) -> None:
        self.path = path
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._descriptor: int | None = None
        if not path.exists():
            with path.open("wb") as file:
                file.truncate(self.nbytes)

    @property
    def nbytes(self) -> int:
        """Size of the file in bytes."""
        return math.prod(self.shape) * int(self.dtype.itemsize)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_descriptor": None}

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_RDWR)
        return self._descriptor

    def _offset(self, channel: int, row: int, column: int) -> int:
        return ((channel * self.shape[1] + row) * self.shape[2] + column) * int(self.dtype.itemsize)

    def read(self, box: Box) -> Array:
        """Return a copy of a region, (C, h, w)."""
        top, left, bottom, right = box
        result = np.empty((self.shape[0], bottom - top, right - left), self.dtype)
        file = self._open()
        for channel, rows in enumerate(result):
            if right - left == self.shape[2]:
                _fill(file, rows, self._offset(channel, top, 0))
            else:
                for y, row in enumerate(rows, start=top):
                    _fill(file, row, self._offset(channel, y, left))
        return result

    def write(self, top: int, left: int, values: Array) -> None:
        """Write a region, (C, h, w)."""
        file = self._open()
        for channel, rows in enumerate(np.ascontiguousarray(values, self.dtype)):
            for y, row in enumerate(rows, start=top):
                os.pwrite(file, row.data, self._offset(channel, y, left))

    def close(self) -> None:
        """Close the file in this process."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _fill(file: int, target: Array, offset: int) -> None:
    """Fill `target` from a file; a single read can return fewer bytes than requested."""
    view = target.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(view):
        count = os.preadv(file, [view[done:]], offset + done)
        if count == 0:
            raise DataError(f"a temporary file ended at byte {offset + done}; is the disk full?")
        done += count


class DiskStitcher:
    """Writes the kept part of the dense maps of each tile to files, and reports complete rows of the image.

    Args:
        folder: Folder of the files; those of an earlier stitcher are overwritten.
        shape: (H, W) of the image.
        done: Called with the maps and the number of complete rows after each row of tiles.
    """

    def __init__(self, folder: Path, shape: tuple[int, int], done: Callable[[dict[str, DiskArray], int], None]) -> None:
        self._folder = folder
        self._shape = shape
        self._done = done
        self.maps: dict[str, DiskArray] = {}

    def add(self, window: Window, output: Maps) -> None:
        """Write the kept part of a tile.

        Raises:
            DataError: If there is not enough disk space for the maps.
        """
        if not self.maps:
            self._allocate(output)
        top, left, bottom, right = window.keep
        rows = slice(top - window.top, bottom - window.top)
        columns = slice(left - window.left, right - window.left)
        for name, tile in output.items():
            self.maps[name].write(top, left, tile[:, rows, columns])
        if right == self._shape[1]:
            self._done(self.maps, bottom)

    def _allocate(self, output: Maps) -> None:
        needed = sum(tile.shape[0] * tile.dtype.itemsize for tile in output.values()) * self._shape[0] * self._shape[1]
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise DataError(
                f"{self._folder}: decoding needs {needed / 2**30:.1f} GiB for the maps of the image, but only "
                f"{free / 2**30:.1f} GiB are free; write to a larger disk"
            )
        for name, tile in output.items():
            self.maps[name] = DiskArray(self._folder / f"{name}.raw", (tile.shape[0], *self._shape), tile.dtype)

    def finish(self) -> Maps:
        """Return nothing: the maps are in `maps`."""
        return {}


def read_maps(maps: dict[str, DiskArray], box: Box) -> Maps:
    """Read a region of all maps."""
    return {name: array.read(box) for name, array in maps.items()}
