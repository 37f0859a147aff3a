"""Indexes of models: YAML files that name models, where to get them, and their hashes.

nucbench ships one, of the models in its package; ``NUCBENCH_MODELS`` names another one, a file or an address.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar
from urllib.parse import urljoin, urlsplit

import yaml
from pydantic import ConfigDict, Field

from benchmark.host.machine import cache_folder
from benchmark.results.model_folder import SHIPPED, Description
from datamodules.reading.archive import ARCHIVE_SUFFIXES
from datamodules.reading.plain_files import LARGEST, read_yaml
from datamodules.reading.schema import STRICT, Name, check
from postproc.errors import ConfigError, DataError, InputWarning, short

FORMAT = 1
"""Version of an index."""
SHIPPED_INDEX = SHIPPED / "index.yaml"
VARIABLE = "NUCBENCH_MODELS"
"""Environment variable with the file or address of another index."""
TIMEOUT = 10.0
"""Seconds to wait for the server of an index."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_WEB = ("https://", "http://")

Bytes = Annotated[int, Field(strict=True, ge=1, le=10**12)]


@dataclass(frozen=True)
class Entry:
    """A model in an index.

    Attributes:
        summary: One sentence.
        method: Registry name of its method.
        types: Names of its nucleus types 1..T.
        trained_on: Training sets, each ``dataset.split``.
        licence: Licence of the weights.
        size: Bytes of the archive, or of the weights in `folder`.
        sha256: SHA-256 of the same file.
        archive: Address of an archive of the model folder, or its path relative to the index.
        folder: The model folder, relative to the index, instead of an archive.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    summary: Name
    method: Name
    types: tuple[Name, ...]
    trained_on: tuple[Name, ...]
    licence: Name
    size: Bytes
    sha256: Name
    archive: Name | None = None
    folder: Name | None = None

    def __post_init__(self) -> None:
        """Check what the types do not.

        Raises:
            ConfigError: If the hash is none, or there is not one source of a known kind.
        """
        if not _SHA256.fullmatch(self.sha256):
            raise ConfigError(f"sha256 is {short(self.sha256)}, expected 64 hexadecimal digits in lower case")
        if (self.archive is None) == (self.folder is None):
            raise ConfigError("it needs one of archive and folder")
        if self.archive is None:
            return
        if "://" in self.archive and not self.archive.startswith(_WEB):
            raise ConfigError(f"archive is {short(self.archive)}, expected an address with https:// or http://")
        if not self.file.lower().endswith(ARCHIVE_SUFFIXES) or self.file.startswith("."):
            raise ConfigError(f"archive is {short(self.archive)}, expected a file {', '.join(ARCHIVE_SUFFIXES)}")

    @property
    def file(self) -> str:
        """Name of the archive."""
        return PurePosixPath(urlsplit(self.archive or "").path).name


@dataclass(frozen=True)
class _Content:
    """Content of an index.

    Attributes:
        format: Version.
        models: Name -> entry, not yet checked.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    format: int
    models: dict[Name, Any]


@dataclass(frozen=True)
class Listed:
    """A model as an index lists it.

    Attributes:
        name: Its name.
        entry: What the index states.
        index: File or address of the index.
    """

    name: str
    entry: Entry
    index: str

    @property
    def source(self) -> str:
        """Address or path of the archive or folder."""
        place = self.entry.archive or self.entry.folder or ""
        if self.index.startswith(_WEB):
            return urljoin(self.index, place)
        return place if place.startswith(_WEB) else str(Path(self.index).expanduser().parent / place)

    @property
    def is_remote(self) -> bool:
        """Whether it has to be downloaded."""
        return self.source.startswith(_WEB)


def shipped_index() -> dict[str, Listed]:
    """Return the models of the index that nucbench ships."""
    return read_index(str(SHIPPED_INDEX))


def own_index(index: str | None = None) -> dict[str, Listed]:
    """Return the models of the user's index.

    Args:
        index: File or address; None = that of `VARIABLE`, no models without it.

    Raises:
        ConfigError: If the file does not exist.
        DataError: If the index is unavailable or malformed, or has a model with the name of a shipped one.
    """
    index = index or os.environ.get(VARIABLE, "")
    if not index:
        return {}
    models = read_index(index)
    for name in models.keys() & shipped_index().keys():
        raise DataError(f"{index}: models.{name} has the name of a model that nucbench includes; rename it")
    return models


def read_index(index: str) -> dict[str, Listed]:
    """Read an index: name -> model.

    Args:
        index: File or address.

    Raises:
        ConfigError: If the file does not exist.
        DataError: If the address does not answer and never did, or the index is malformed.
    """
    if index.startswith(_WEB):
        return _of_address(index)
    file = Path(index).expanduser()
    if not file.is_file():
        raise ConfigError(
            f"{index} does not exist; --index and {VARIABLE} name an index of models: a YAML file or its address"
        )
    return _parse(file, index)


def _parse(file: Path, index: str) -> dict[str, Listed]:
    try:
        content = read_yaml(file, DataError)
    except DataError as error:
        raise DataError(str(error).replace(str(file), index)) from None
    if isinstance(content, Mapping) and content.get("format") != FORMAT:
        raise DataError(f"{index}: format is {short(content.get('format'))}, expected {FORMAT}")
    found = {}
    for name, each in check(_Content, content, index, DataError).models.items():
        if not _NAME.fullmatch(name):
            raise DataError(f"{index}: {name_rule(name)}")
        listed = Listed(name, check(Entry, each, f"{index}: models.{name}", DataError), index)
        if listed.entry.folder is not None and listed.is_remote:
            raise DataError(f"{index}: models.{name}: a folder cannot be downloaded; give an archive")
        found[name] = listed
    return found


@cache
def _of_address(index: str) -> dict[str, Listed]:
    """Read an index from its address, or its last copy if the address does not answer."""
    folder = cache_folder() / "indexes"
    copy = folder / f"{hashlib.sha256(index.encode()).hexdigest()[:16]}.yaml"
    try:
        content = _download(index)
    except OSError as error:  # as those of requests are
        from benchmark.data.download import reason_of

        if not copy.is_file():
            raise DataError(
                f"{index}: the index of models cannot be downloaded ({reason_of(error)}); check the network, or give a "
                "copy of the file"
            ) from None
        warnings.warn(f"{index} cannot be downloaded ({reason_of(error)}); using the copy {copy}", InputWarning, 2)
        return _parse(copy, index)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        new = Path(temporary) / copy.name
        new.write_bytes(content)
        found = _parse(new, index)
        new.replace(copy)
    return found


def _download(index: str) -> bytes:
    import requests

    with requests.get(index, timeout=TIMEOUT, stream=True) as response:
        if index.startswith("https:") and not response.url.startswith("https:"):
            raise DataError(f"{index}: refused, because it redirects to {response.url}, which is not encrypted")
        response.raise_for_status()
        content = b"".join(_up_to(response, LARGEST + 1))
    if len(content) > LARGEST:
        raise DataError(f"{index} is larger than {LARGEST:,} bytes, too large for an index")
    return content


def _up_to(response: Any, most: int) -> list[bytes]:
    chunks: list[bytes] = []
    for chunk in response.iter_content(1 << 16):
        chunks.append(chunk)
        most -= len(chunk)
        if most <= 0:
            break
    return chunks


def name_rule(name: str) -> str:
    """Return why a name is no name of a model in an index; empty if it is one."""
    if _NAME.fullmatch(name):
        return ""
    return f"the model name {short(name)} needs 1 to 80 letters, digits, dots, dashes and underscores"


def entry_text(model: Description, name: str, archive: Path, sha256: str, summary: str) -> str:
    """Return an index with one model, as YAML.

    Args:
        model: Description of the model.
        name: Its name.
        archive: Archive of its folder.
        sha256: SHA-256 of the archive.
        summary: One sentence.
    """
    sets = ", ".join(model.trained_on)
    entry = Entry(
        summary or f"{model.method} trained on {sets}",
        model.method,
        model.types,
        model.trained_on,
        model.licence,
        archive.stat().st_size,
        sha256,
        archive=archive.name,
    )
    content = {k: v for k, v in dataclasses.asdict(entry).items() if v is not None}
    content |= {"types": list(entry.types), "trained_on": list(entry.trained_on)}
    index = {"format": FORMAT, "models": {name: content}}
    return yaml.safe_dump(index, sort_keys=False, allow_unicode=True, width=10_000)


__all__ = [
    "FORMAT", "SHIPPED_INDEX", "VARIABLE", "Entry", "Listed", "entry_text", "name_rule", "own_index", "read_index",
    "shipped_index",
]  # fmt: skip
