"""New files with unique names and the permissions of the user's umask."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

RANDOM = r"[a-z0-9_]{8}"
"""Regular expression of the part between prefix and suffix of a temporary name."""


def new_file(folder: Path, prefix: str, suffix: str) -> tuple[int, Path]:
    """Create a new file and open it for reading and writing.

    ``tempfile.mkstemp`` creates files that only the user can read, and the umask can only be read by setting it, which
    affects other threads. Here the operating system applies it.

    Args:
        folder: Folder of the file.
        prefix: Start of its name.
        suffix: End of its name.

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
