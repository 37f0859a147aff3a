"""What ``record.json`` and ``evaluation.json`` must hold, so that tables can take them."""

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
"""What to do about a broken record."""

Minutes = Annotated[float, Field(strict=True, ge=0, le=1e9, allow_inf_nan=False)]


@dataclass(frozen=True)
class Train:
    """What a run was trained on: ``dataset.split``, and further sets of that form."""

    __pydantic_config__: ClassVar[ConfigDict] = OPEN

    dataset: Name
    split: Name
    also: tuple[Name, ...] | None = None

    @property
    def name(self) -> str:
        """The sets, the further ones in alphabetical order."""
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
    """What is known of the images that a run was trained on."""

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
        """What makes the run another one than the paper's: options, recipe settings, and stand-ins for data."""
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
    synthetic: Flag | None = None


def stored_run(record: Mapping[str, Any], path: Path) -> StoredRun:
    """Check the content of a ``record.json``.

    Args:
        record: Its content.
        path: The file, for messages.

    Raises:
        DataError: If it has another format, or lacks a key or has a wrong value.
    """
    if record.get("format") != FORMAT:
        raise DataError(f"{path}: format is {short(record.get('format'))}, this version reads {FORMAT}. {AGAIN}")
    return check(StoredRun, record, str(path), DataError)


def stored_evaluation(path: Path) -> StoredEvaluation:
    """Read an ``evaluation.json``.

    Raises:
        DataError: If it is unreadable, or lacks a key or has a wrong value.
    """
    return check(StoredEvaluation, read_json_object(path, DataError, AGAIN), str(path), DataError)


__all__ = ["AGAIN", "StoredEvaluation", "StoredRun", "Training", "stored_evaluation", "stored_run"]
