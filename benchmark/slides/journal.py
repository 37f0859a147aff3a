"""What has been looked at in a slide, line by line, so that a killed `nucbench tiles` goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from postproc.errors import DataError


@dataclass(frozen=True)
class Place:
    """A place of a slide that has been looked at.

    Attributes:
        magnification: Of the tile.
        level: Level of the slide's pyramid.
        x: Left edge in px of the full resolution.
        y: Upper edge in px of the full resolution.
        tissue: Share of px that are tissue.
        kept: Whether it became a tile; the image is written before the place is noted.
    """

    magnification: float
    level: int
    x: int
    y: int
    tissue: float
    kept: bool


class Journal:
    """The places of one slide in the order in which they were looked at.

    A line that a kill has torn is dropped; its place is looked at again.

    Args:
        path: The file, JSON lines; created where missing.
        about: What the places depend on: the file of the slide, and what the user says of it.

    Attributes:
        places: What has been noted.
        done: True once nothing is left to look at.
        outdated: The places of a journal of another file of that name, which this one takes the place of.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = path
        self.places: list[Place] = []
        self.done = False
        self.outdated: list[Place] = []
        head = json.dumps(dict(about))
        known, places, done, whole = _read(path)
        if known == head:
            self.places, self.done = places, done
            with path.open("r+b") as file:
                file.truncate(whole)
        else:
            self.outdated = places
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{head}\n", encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")

    @staticmethod
    def read(path: Path) -> tuple[list[Place], bool]:
        """Return the places that a journal has noted, and whether they are all.

        Raises:
            DataError: If it is damaged.
        """
        _, places, done, _ = _read(path)
        return places, done

    def add(self, place: Place) -> None:
        """Note a place."""
        self.places.append(place)
        self._line(json.dumps(asdict(place)))

    def finish(self) -> None:
        """Note that nothing is left to look at."""
        self.done = True
        self._line("done")

    def _line(self, text: str) -> None:
        self._file.write(f"{text}\n")
        self._file.flush()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _read(path: Path) -> tuple[str, list[Place], bool, int]:
    """Return the first line, the places, whether they are all, and the bytes of whole lines."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []  # what follows the last line break is torn
    if not lines:
        return "", [], False, 0
    try:
        head, *notes = (line.decode("utf-8") for line in lines)
        done = bool(notes) and notes[-1] == "done"
        places = [Place(**json.loads(note)) for note in (notes[:-1] if done else notes)]
    except (UnicodeDecodeError, ValueError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error}); delete it to look at that slide anew") from error
    return head, places, done, sum(len(line) + 1 for line in lines)


__all__ = ["Journal", "Place"]
