"""Check that a command does not overwrite its own input files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from postproc.errors import ConfigError

OVERLAY = "_overlay.png"
"""Suffix of overlay images."""


def check_outputs(outputs: Iterable[Path], inputs: Iterable[Path], *, remedy: str = "give another --out") -> None:
    """Raise an error if an output file is also an input file.

    Files are compared by device and inode (as in `os.path.samefile`), which covers different spellings of a path,
    symbolic links, hard links and case-insensitive file systems.

    Args:
        outputs: Files that may be written; they need not exist.
        inputs: Files that are read.
        remedy: Remedy for the message.

    Raises:
        ConfigError: If an output would overwrite an input; the message names both.
    """
    read: dict[tuple[int, int], Path] = {}
    for path in inputs:
        identity = _identity(path)
        if identity is not None:
            read[identity] = path
    for path in outputs:
        identity = _identity(path)
        if identity in read:
            source = read[identity]
            same = "" if source == path else f" ({path})"
            raise ConfigError(f"{source} would be overwritten by a result{same}; {remedy}")


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of the file at a path, or None if it does not exist."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


__all__ = ["OVERLAY", "check_outputs"]
