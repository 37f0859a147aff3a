"""Stored results of hyper-parameter searches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict

from datamodules.reading.plain_files import read_json_object
from datamodules.reading.schema import OPEN, Count, Name, Number, check
from postproc.errors import DataError


@dataclass(frozen=True)
class StoredSearch:
    """Result of a search, ``search/<study>.json``."""

    __pydantic_config__: ClassVar[ConfigDict] = OPEN

    method: Name
    settings: Mapping[str, Number | Name | None]
    params: Mapping[str, Mapping[str, Number | None]]
    dataset: Name | None = None
    trials: Count | None = None
    combinations: Count | None = None
    score: Number | None = None
    run: Name | None = None


def read_search(path: Path) -> dict[str, Any]:
    """Read the result of a search.

    Raises:
        DataError: If the file is unreadable or not a search result.
    """
    content = read_json_object(path, DataError, "Publish the search again.")
    check(StoredSearch, content, str(path), DataError)
    return content


__all__ = ["StoredSearch", "read_search"]
