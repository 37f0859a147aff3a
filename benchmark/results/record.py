"""What ``record.json`` of a run directory must hold, so that its model can be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict

from benchmark.host.files import read_json
from datamodules.reading.schema import OPEN, Name, Positive, Seed, Text, check
from postproc.errors import ConfigError, DataError


@dataclass(frozen=True)
class RecordedTask:
    """Types and microns per pixel of the training images."""

    __pydantic_config__: ClassVar[ConfigDict] = OPEN

    types: tuple[Name, ...]
    mpp: Positive | None


@dataclass(frozen=True)
class Record:
    """Keys that prediction and export need."""

    __pydantic_config__: ClassVar[ConfigDict] = OPEN

    protocol: Name
    seed: Seed
    magnification: Positive | None
    task: RecordedTask
    overrides: Mapping[str, Any]
    training: Mapping[str, Any]
    data: Mapping[str, Any]
    also: tuple[Mapping[str, Any], ...] = ()


def read_record(path: Path) -> dict[str, Any]:
    """Read a ``record.json``.

    Raises:
        DataError: If it is unreadable, or a key is missing or has a wrong value.
    """
    content = read_json(path, "Run it again.")
    check(Record, content, str(path), DataError)
    return content


@dataclass(frozen=True)
class _Texts:
    note: Text = ""
    licence: Text = ""


def check_texts(**texts: str) -> None:
    """Check texts of the user before they are written into a record, which no table could read otherwise.

    Raises:
        ConfigError: If one has control characters other than tabs and line breaks, or is too long.
    """
    check(_Texts, texts, "the command line", ConfigError)


__all__ = ["Record", "RecordedTask", "check_texts", "read_record"]
