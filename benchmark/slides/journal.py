"""Journal of the examined places of a slide, so that a killed `nucbench tiles` can resume."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from postproc.errors import DataError


@dataclass(frozen=True)
class Place:
    """An examined place of a slide.

    Attributes:
        magnification: Magnification of the tile.
        level: Level of the pyramid of the slide.
        x: Left edge in pixels of the full resolution.
        y: Top edge in pixels of the full resolution.
        tissue: Share of tissue pixels.
        kept: Whether it became a tile; the image is written before the place is recorded.
    """

    magnification: float
    level: int
    x: int
    y: int
    tissue: float
    kept: bool


class Journal:
    """Examined places of one slide, in order.

    An incomplete line left by a kill is dropped; its place is examined again.

    Args:
        path: JSON lines file, created if missing.
        about: Properties that determine the places: the file of the slide, and options of the user.

    Attributes:
        places: Recorded places.
        done: Whether all places are examined.
        outdated: Places of an earlier journal with other properties, which this journal replaces.
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
        """Return the places of a journal, and whether it is complete.

        Raises:
            DataError: If it is damaged.
        """
        _, places, done, _ = _read(path)
        return places, done

    def add(self, place: Place) -> None:
        """Record a place."""
        self.places.append(place)
        self._line(json.dumps(asdict(place)))

    def finish(self) -> None:
        """Record that all places are examined."""
        self.done = True
        self._line("done")

    def _line(self, text: str) -> None:
        self._file.write(f"{text}\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _read(path: Path) -> tuple[str, list[Place], bool, int]:
    """Return the first line, the places, whether the journal is complete, and the size of complete lines in bytes."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []  # text after the last line break is incomplete
    if not lines:
        return "", [], False, 0
    try:
        head, *notes = (line.decode("utf-8") for line in lines)
        done = bool(notes) and notes[-1] == "done"
        places = [Place(**json.loads(note)) for note in (notes[:-1] if done else notes)]
    except (UnicodeDecodeError, ValueError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error}); delete it to cut the slide again") from error
    return head, places, done, sum(len(line) + 1 for line in lines)


__all__ = ["Journal", "Place"]
