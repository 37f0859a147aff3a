"""``trained_images.json``: hashes of the images that a model was trained on, in a run directory or model folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, StringConstraints

from benchmark.host.files import write_json
from datamodules.reading.pixel_hash import ImageHash, look_alike
from datamodules.reading.plain_files import read_json_object
from datamodules.reading.schema import OPEN, Name, check
from postproc.errors import DataError

TRAINED_IMAGES = "trained_images.json"
"""Name of the file."""
FORMAT = 1
"""Layout of the file."""
LARGEST = 1_000_000_000
"""Largest file that is read, in bytes: about 130 for each image, or 7 million tiles."""

Line = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-f]{64} ([0-9a-f]{16}|-) \d{1,9}x\d{1,9}$")]
"""Hashes of one image: SHA-256 of the pixels, appearance (``-`` for images of one colour), height x width."""


@dataclass(frozen=True)
class _Content:
    __pydantic_config__: ClassVar[ConfigDict] = OPEN

    format: int
    sets: Mapping[Name, Mapping[Name, Line]]


class Match(NamedTuple):
    """A training image that equals or resembles another image.

    Attributes:
        name: ``dataset.split/image`` of the training image.
        exact: True for the same pixels, False for a similar appearance.
    """

    name: str
    exact: bool


@dataclass(frozen=True)
class TrainedImages:
    """Hashes of training images.

    Attributes:
        sets: ``dataset.split`` -> image id -> hashes.
    """

    sets: Mapping[str, Mapping[str, ImageHash]]

    @classmethod
    def read(cls, path: Path) -> TrainedImages:
        """Read a file of `write`.

        Raises:
            DataError: If it is unreadable, was written by another version, or has an invalid value.
        """
        remedy = f"Write it again with tools/trained_images.py {path.parent}."
        content = check(_Content, read_json_object(path, DataError, remedy, LARGEST), str(path), DataError)
        if content.format != FORMAT:
            raise DataError(f"{path}: format is {content.format}, this version reads {FORMAT}. {remedy}")
        return cls({name: {k: _parsed(v) for k, v in images.items()} for name, images in content.sets.items()})

    def write(self, path: Path) -> None:
        """Write the hashes, one image per line."""
        sets = {name: {key: _line(value) for key, value in images.items()} for name, images in self.sets.items()}
        content: dict[str, Any] = {"format": FORMAT, "sets": sets}
        write_json(path, content)

    def match(self, image: ImageHash) -> Match | None:
        """Return the training image that equals an image, otherwise the one that resembles it most, if any."""
        name = self._exact.get(image.pixels)
        if name is not None:
            return Match(name, True)
        names, appearances, ratios = self._appearances
        closest = look_alike(image, appearances, ratios)
        return Match(names[int(closest[0])], False) if len(closest) else None

    @cached_property
    def _named(self) -> list[tuple[str, ImageHash]]:
        return [(f"{name}/{key}", value) for name, images in self.sets.items() for key, value in images.items()]

    @cached_property
    def _exact(self) -> dict[str, str]:
        return {value.pixels: name for name, value in reversed(self._named)}

    @cached_property
    def _appearances(self) -> tuple[list[str], NDArray[np.uint64], NDArray[np.float64]]:
        shown = [(name, value, value.appearance) for name, value in self._named if value.appearance is not None]
        appearances = np.array([appearance for _, _, appearance in shown], np.uint64)
        ratios = np.array([value.height / value.width for _, value, _ in shown], np.float64)
        return [name for name, _, _ in shown], appearances, ratios


NOTHING_TRAINED = TrainedImages({})
"""Hashes of a method that trains nothing, or whose training images are unknown."""


def _line(value: ImageHash) -> str:
    appearance = "-" if value.appearance is None else f"{value.appearance:016x}"
    return f"{value.pixels} {appearance} {value.height}x{value.width}"


def _parsed(line: str) -> ImageHash:
    pixels, appearance, size = line.split(" ")
    height, width = (max(int(side), 1) for side in size.split("x"))
    return ImageHash(pixels, None if appearance == "-" else int(appearance, 16), height, width)


__all__ = ["NOTHING_TRAINED", "TRAINED_IMAGES", "Match", "TrainedImages"]
