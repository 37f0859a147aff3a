"""File names of pages: safe on every system, and never the same for two names."""

from __future__ import annotations

import hashlib
import re

_SAFE = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*(?:/[a-z0-9]+(?:[._-][a-z0-9]+)*)*")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:[./].*)?")
"""Names of devices, which Windows keeps for itself."""

LONGEST = 100


def slug(name: str) -> str:
    """Return a file name (without extension) of ``[a-z0-9._-]``.

    Names of lower-case words with single separators stay as they are, ``/`` becomes ``--``, which no such name can
    hold; any other name is cleaned and ends in ``__`` and a hash of it, which no such name can hold either. So two
    names never share a file, on file systems without upper case neither, and a name keeps its file whatever the others
    are.

    Args:
        name: Any text.
    """
    if len(name) <= LONGEST and _SAFE.fullmatch(name) and not _RESERVED.fullmatch(name):
        return name.replace("/", "--")
    cleaned = re.sub(r"[^a-z0-9]+", "-", name.lower())[: LONGEST // 2].strip("-")
    return f"{cleaned or 'page'}__{hashlib.sha256(name.encode()).hexdigest()[:16]}"


__all__ = ["LONGEST", "slug"]
