"""No command writes over a file that it reads."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from postproc.errors import ConfigError

OVERLAY = "_overlay.png"
"""End of the names of pictures with outlines."""


def check_outputs(outputs: Iterable[Path], inputs: Iterable[Path], *, remedy: str = "give another --out") -> None:
    """Refuse to start where a file to be written is one that is read.

    Files are compared as the system knows them (as `os.path.samefile` does), so that other spellings of a path,
    symbolic links, hard links, and file systems that ignore capitals make no difference.

    Args:
        outputs: Files that may be written; those that do not exist yet replace nothing.
        inputs: Files that are read.
        remedy: What the user can do.

    Raises:
        ConfigError: If an output would replace an input; the message names both.
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
    """Return device and inode of the file that a path leads to, None where there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


__all__ = ["OVERLAY", "check_outputs"]
