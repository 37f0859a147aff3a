"""Intermediate results of one image on disk, from which an interrupted command resumes.

The folder has maps of the network (`DiskArray`), a provisional label map and three journals: tiles whose maps are
complete, outlines of nuclei, and decoded regions. Journals are text of whole lines; a line that a kill has cut off is
dropped, and its tile or region is processed again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.host.files import read_json, write_json
from benchmark.inference.disk import DiskArray
from postproc.errors import ConfigError, DataError, NucbenchError
from postproc.pixels.clusters import Box

HEAD = "work.json"
"""File with the properties that determine the results."""
MAPS = "maps.json"
"""File with channels and dtypes of the maps."""
TILES = "tiles.jsonl"
"""File with the box of each tile whose maps are complete."""
FORMAT = 1


class Workplace:
    """Folder of the intermediate results of one image; open with `hold`.

    Args:
        folder: The folder.
        about: Properties that determine the results, as JSON types. Results with other properties are deleted.

    Attributes:
        folder: The folder.
        tiles: Boxes of the complete tiles.

    Raises:
        ConfigError: If the folder has other contents.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.folder = folder
        head = json.loads(json.dumps({"format": FORMAT, **about}))
        if not self._matches(head):
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
            write_json(folder / HEAD, head)
        self.tiles = {_box(each) for each in read_lines(folder / TILES)}
        self._file = (folder / TILES).open("a", encoding="utf-8")

    @classmethod
    @contextmanager
    def hold(cls, folder: Path, about: Mapping[str, Any]) -> Iterator[Workplace]:
        """Open a folder; delete it at the end, or after an error that the same command would meet again."""
        place = cls(folder, about)
        try:
            yield place
        except NucbenchError:
            place.delete()
            raise
        finally:
            place.close()
        place.delete()

    def _matches(self, head: dict[str, Any]) -> bool:
        if not self.folder.exists():
            return False
        if not (self.folder / HEAD).is_file():
            if not self.folder.is_dir() or any(self.folder.iterdir()):
                raise ConfigError(
                    f"{self.folder} exists and was not written by nucbench; move it, or give another --out"
                )
            return False
        try:
            return read_json(self.folder / HEAD) == head
        except DataError:
            return False

    def maps(self, shape: tuple[int, int]) -> dict[str, DiskArray]:
        """Return the maps of complete tiles; empty if there are none.

        Args:
            shape: (H, W) of the maps in pixels.
        """
        if not self.tiles:
            return {}
        kinds = read_json(self.folder / MAPS)
        return {name: self._array(name, channels, shape, dtype) for name, (channels, dtype) in kinds.items()}

    def create_maps(
        self, kinds: Mapping[str, tuple[int, np.dtype[Any]]], shape: tuple[int, int]
    ) -> dict[str, DiskArray]:
        """Create empty maps.

        Args:
            kinds: Name -> number of channels, and dtype.
            shape: (H, W) in pixels.
        """
        write_json(self.folder / MAPS, {name: [channels, dtype.str] for name, (channels, dtype) in kinds.items()})
        return {name: self._array(name, channels, shape, dtype) for name, (channels, dtype) in kinds.items()}

    def _array(self, name: str, channels: int, shape: tuple[int, int], dtype: Any) -> DiskArray:
        return DiskArray(self.folder / f"{name}.raw", (channels, *shape), dtype)

    def note_tile(self, box: Box) -> None:
        """Record that the maps of a tile are complete."""
        self.tiles.add(box)
        self._file.write(f"{json.dumps(box)}\n")
        self._file.flush()

    def close(self) -> None:
        """Close the journal of tiles."""
        self._file.close()

    def delete(self) -> None:
        """Delete the folder."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def read_lines(path: Path) -> Iterator[Any]:
    """Yield the JSON values of a journal, and cut off an incomplete last line."""
    if not path.exists():
        return
    whole = 0
    with path.open("rb") as file:
        for line in file:
            try:
                value = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                value = None
            if value is None:
                break
            whole += len(line)
            yield value
    with path.open("r+b") as file:
        file.truncate(whole)


def _box(values: list[int]) -> Box:
    top, left, bottom, right = values
    return top, left, bottom, right


__all__ = ["Workplace", "read_lines"]
