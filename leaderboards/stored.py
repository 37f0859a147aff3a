"""Checks of ``record.json`` and ``evaluation.json`` before tables use them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from datamodules.reading.plain_files import read_json_object
from datamodules.reading.schema import OPEN, Count, CountOrNone, Flag, Name, Seed, Text, check
from postproc.errors import DataError, short

FORMAT = 1
"""Layout of ``record.json`` that this version reads."""

AGAIN = "Store the run again."
"""Remedy for a broken record."""

SOURCES = {"predictions": "foreign predictions", "adopted": "adopted weights"}
"""Value of ``source`` in a record, other than ``run`` -> text in tables."""

Minutes = Annotated[float, Field(strict=True, ge=0, le=1e9, allow_inf_nan=False)]


@dataclass(frozen=True)
class Train:
    """Training sets of a run: ``dataset.split``, and further sets of that form."""

    __pydantic_config__: ClassVar[ConfigDict] = OPEN

    dataset: Name
    split: Name
    also: tuple[Name, ...] | None = None

    @property
    def name(self) -> str:
        """The sets, with further sets in alphabetical order."""
        return "+".join([f"{self.dataset}.{self.split}", *sorted(self.also or ())])


@dataclass(frozen=True)
class Training:
    """How a run was trained."""

    __pydantic_config__: ClassVar[ConfigDict] = OPEN

    steps: CountOrNone | None = None
    minutes: Minutes | None = None
    weights: Text | None = None
    hardware: Text | None = None
    precision: Text | None = None


@dataclass(frozen=True)
class Data:
    """Metadata of the images on which a run was trained."""

    __pydantic_config__: ClassVar[ConfigDict] = OPEN

    synthetic: Flag | None = None


@dataclass(frozen=True)
class StoredRun:
    """A ``record.json``."""

    __pydantic_config__: ClassVar[ConfigDict] = OPEN

    run_id: Name
    method: Name
    protocol: Name
    seed: Seed
    train: Train | None = None
    training: Training | None = None
    variants: Mapping[str, Name] | None = None
    options: Mapping[str, Any] | None = None
    overrides: Mapping[str, Any] | None = None
    data: Data | None = None
    source: Name = "run"
    note: Text = ""

    @property
    def differences(self) -> dict[str, Any]:
        """Differences from the paper's run: options, recipe settings and synthetic stand-ins."""
        synthetic = {"images": "synthetic"} if self.data and self.data.synthetic else {}
        return {**(self.options or {}), **(self.overrides or {}), **synthetic}


@dataclass(frozen=True)
class StoredEvaluation:
    """An ``evaluation.json``."""

    __pydantic_config__: ClassVar[ConfigDict] = OPEN

    dataset: Name
    split: Name
    variant: Name
    title: Name
    images: Count
    types: tuple[Name, ...] | None = None
    seen: CountOrNone | Flag | None = None
    seen_images: Mapping[Name, Name] | None = None
    similar_images: Mapping[Name, Name] | None = None
    synthetic: Flag | None = None

    @property
    def refused(self) -> str:
        """Why tables leave out the scores: the model was trained on some of the images; otherwise empty."""
        if not self.seen:
            return ""
        number = str(len(self.seen_images)) if self.seen_images else "some" if self.seen is True else str(self.seen)
        return f"{number} of its images were trained on{_first(self.seen_images)}"

    @property
    def doubt(self) -> str:
        """A note on images that look like training images; empty if there are none."""
        if not self.similar_images:
            return ""
        number = f"{len(self.similar_images)} of {self.images} images of {self.dataset}.{self.split}"
        return f"{number} may be re-encoded or rescaled training images{_first(self.similar_images)}"


def _first(pairs: Mapping[str, str] | None) -> str:
    first = next(iter((pairs or {}).items()), None)
    return f", for example {first[0]} = {first[1]}" if first else ""


def stored_run(record: Mapping[str, Any], path: Path) -> StoredRun:
    """Check the content of a ``record.json``.

    Args:
        record: Its content.
        path: The file, for messages.

    Raises:
        DataError: If it has another format, lacks a key or has an invalid value.
    """
    if record.get("format") != FORMAT:
        raise DataError(f"{path}: format is {short(record.get('format'))}, this version reads {FORMAT}. {AGAIN}")
    return check(StoredRun, record, str(path), DataError)


def stored_evaluation(path: Path) -> StoredEvaluation:
    """Read an ``evaluation.json``.

    Raises:
        DataError: If it is unreadable, lacks a key or has an invalid value.
    """
    return check(StoredEvaluation, read_json_object(path, DataError, AGAIN), str(path), DataError)


__all__ = ["AGAIN", "SOURCES", "StoredEvaluation", "StoredRun", "Training", "stored_evaluation", "stored_run"]
