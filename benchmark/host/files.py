"""Atomic file writes, folder locks and JSON."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock, Timeout

from benchmark.host.faults import FULL
from datamodules.reading.plain_files import read_json_object
from datamodules.reading.temporary import new_file
from postproc.errors import BusyError, ConfigError, DataError


@contextmanager
def atomic(path: Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file next to `path` that replaces it if the block ends without an error.

    Its permissions follow the umask.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    encoding = None if "b" in mode else "utf-8"
    handle, temporary = new_file(path.parent, f".{path.name}.", ".part")
    try:
        with os.fdopen(handle, mode, encoding=encoding, newline=None if "b" in mode else "") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def held(folder: Path, doing: str, wait: float = 0.0) -> Iterator[None]:
    """Lock a folder, created if missing, against writing by a second process.

    Args:
        folder: The folder.
        doing: Activity of the process that holds the lock, for the message: ``working on``.
        wait: Seconds to wait for the other process.

    Raises:
        BusyError: If another process holds the lock.
        ConfigError: If there is a file of that name, or the folder cannot be created.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; give the name of a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in FULL:
            raise
        reason = error.strerror
        raise ConfigError(f"the folder {folder} cannot be created ({reason}); give one where you may write") from None
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        raise BusyError(f"another process is {doing} {folder}; wait for it or stop it") from None
    try:
        yield
    finally:
        lock.release()


def file_hash(path: Path, algorithm: str = "sha256") -> str:
    """Return the hash of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically, with keys in the given order."""
    with atomic(path, "w") as file:
        json.dump(content, file, indent=2, default=_plain)
        file.write("\n")


def read_json(path: Path, remedy: str = "") -> dict[str, Any]:
    """Read a JSON file.

    Args:
        path: The file.
        remedy: Remedy if it cannot be read, for the message.

    Raises:
        DataError: If the file is missing, far too large, nested too deeply, or not a JSON object.
    """
    return read_json_object(path, DataError, remedy)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be stored as JSON")
