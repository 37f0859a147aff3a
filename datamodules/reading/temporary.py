"""New files under names of their own, with the rights that the user's umask gives."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

RANDOM = r"[a-z0-9_]{8}"
"""What stands between prefix and suffix of a temporary name, as a regular expression."""


def new_file(folder: Path, prefix: str, suffix: str) -> tuple[int, Path]:
    """Create a file that was not there, open for reading and writing.

    ``tempfile.mkstemp`` makes files that nobody else may read, and the umask can only be read by setting it, which
    other threads would see. Here the system itself applies it.

    Args:
        folder: Where the file is created.
        prefix: What its name begins with.
        suffix: What its name ends with.

    Returns:
        The descriptor, which the caller closes, and the path.
    """
    while True:
        path = folder / f"{prefix}{secrets.token_hex(4)}{suffix}"
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666), path
        except FileExistsError:
            continue


__all__ = ["RANDOM", "new_file"]
