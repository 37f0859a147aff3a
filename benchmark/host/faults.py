"""Readable messages for system errors: full disk, out of memory, inaccessible file."""

from __future__ import annotations

import errno
import os

FULL = {errno.ENOSPC, errno.EDQUOT}
CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}

_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "defaultcpuallocator",
    "std::bad_alloc",
)


def in_words(error: BaseException) -> str | None:
    """Return a message with the remedy for a system error, or None for any other error.

    Args:
        error: The exception.
    """
    if isinstance(error, OSError) and error.errno in FULL:
        where = f" of {os.fspath(error.filename)}" if isinstance(error.filename, str | os.PathLike) else ""
        return f"the disk{where} is full ({error.strerror}). Complete results are kept: free space and try again."
    if _is_lack_of_memory(error):
        return (
            f"memory ran out: {_first_line(error)}. Use a smaller --batch-size or --crop, fewer --workers, or a "
            "machine with more memory; complete results are kept."
        )
    if isinstance(error, OSError) and error.filename is not None:
        remedy = "; check its permissions, or give another place" if error.errno in CLOSED else ""
        return f"{error.filename}: {error.strerror}{remedy}"
    return None


def _is_lack_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _NO_MEMORY)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__


__all__ = ["in_words"]
