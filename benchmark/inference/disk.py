"""Maps on disk that are read and written by region, so that their pages never count as used memory."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from postproc.codec import Maps
from postproc.errors import DataError
from postproc.pixels.clusters import Box

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


def read_maps(maps: dict[str, DiskArray], box: Box) -> Maps:
    """Read a region of all maps."""
    return {name: array.read(box) for name, array in maps.items()}
