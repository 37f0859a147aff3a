"""Stitch maps of tiles on disk, and skip tiles without tissue or from before an interruption."""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from benchmark.inference.disk import DiskArray
from benchmark.inference.workplace import Workplace
from postproc.codec import Maps
from postproc.errors import DataError
from postproc.pixels.clusters import Box
from postproc.windows import Window

Wanted = Callable[[Box], bool]
"""Tells whether a box of the image may have nuclei."""


def everywhere(box: Box) -> bool:
    """Return True: nuclei may be anywhere."""
    return True


class DiskStitcher:
    """Writes the kept part of the dense maps of each tile to files, and reports complete rows of the image.

    Maps of tiles that are not wanted remain 0, and take no space on disk.

    Args:
        place: Files; maps of complete tiles in it are kept.
        shape: (H, W) of the image.
        done: Called with the maps and the number of complete rows, at the start and whenever it has increased.
        wanted: Tells which tiles to compute, by the part that is kept of each.
        moved: Called with the number of complete and of all wanted tiles.
    """

    def __init__(
        self,
        place: Workplace,
        shape: tuple[int, int],
        done: Callable[[dict[str, DiskArray], int], None],
        wanted: Wanted = everywhere,
        moved: Callable[[int, int], None] = lambda complete, total: None,
    ) -> None:
        self._place = place
        self._shape = shape
        self._done = done
        self._wanted = wanted
        self._moved = moved
        self._maps: dict[str, DiskArray] = {}
        self._missing: deque[Window] = deque()
        self._complete = -1
        self._boxes = np.zeros((0, 4), np.int64)

    def begin(self, plan: Sequence[Window]) -> list[Window]:
        """Return the tiles to compute, in the given order."""
        chosen = [window for window in plan if self._wanted(window.keep)]
        self._boxes = np.array([window.keep for window in chosen], np.int64).reshape(-1, 4)
        self._missing = deque(window for window in chosen if window.keep not in self._place.tiles)
        self._maps = self._place.maps(self._shape)
        self._report()
        return list(self._missing)

    def covers(self, box: Box) -> bool:
        """Tell whether a box has pixels of wanted tiles."""
        top, left, bottom, right = self._boxes.T
        return bool(((top < box[2]) & (bottom > box[0]) & (left < box[3]) & (right > box[1])).any())

    def add(self, window: Window, output: Maps) -> None:
        """Write the kept part of a tile.

        Raises:
            DataError: If there is not enough disk space for the maps.
        """
        if not self._maps:
            self._allocate(output)
        top, left, bottom, right = window.keep
        rows = slice(top - window.top, bottom - window.top)
        columns = slice(left - window.left, right - window.left)
        for name, tile in output.items():
            self._maps[name].write(top, left, tile[:, rows, columns])
        self._place.note_tile(window.keep)
        self._missing.popleft()
        self._report()

    def _report(self) -> None:
        complete = self._missing[0].keep[0] if self._missing else self._shape[0]
        if complete > self._complete:
            self._complete = complete
            self._done(self._maps, complete)
        self._moved(len(self._boxes) - len(self._missing), len(self._boxes))

    def _allocate(self, output: Maps) -> None:
        tiles = np.array([window.keep for window in self._missing], np.int64)
        pixels = int(((tiles[:, 2] - tiles[:, 0]) * (tiles[:, 3] - tiles[:, 1])).sum())
        labels = np.dtype(np.int32).itemsize
        needed = (sum(tile.shape[0] * tile.dtype.itemsize for tile in output.values()) + labels) * pixels
        free = shutil.disk_usage(self._place.folder).free
        if needed > free:
            raise DataError(
                f"{self._place.folder}: decoding needs {needed / 2**30:.1f} GiB for the maps of the image, but only "
                f"{free / 2**30:.1f} GiB are free; write to a larger disk"
            )
        kinds = {name: (tile.shape[0], tile.dtype) for name, tile in output.items()}
        self._maps = self._place.create_maps(kinds, self._shape)

    def finish(self) -> Maps:
        """Return nothing: the maps are in the files."""
        return {}


__all__ = ["DiskStitcher", "Wanted", "everywhere"]
