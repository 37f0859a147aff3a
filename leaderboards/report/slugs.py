"""File names of pages: safe on every system and unique per name."""

from __future__ import annotations

import hashlib
import re

_SAFE = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*(?:/[a-z0-9]+(?:[._-][a-z0-9]+)*)*")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:[./].*)?")
"""Device names reserved by Windows."""

LONGEST = 100


def slug(name: str) -> str:
    """Return a file name (without extension) of ``[a-z0-9._-]``.

    Names of lower-case words with single separators are kept. ``/`` becomes ``--``, which no such name can contain.
    Any other name is cleaned and ends in ``__`` and its hash, which no such name can contain either. So two names
    never share a file, even on case-insensitive file systems, and the file of a name does not depend on the other
    names.

    Args:
        name: Any text.
    """
    if len(name) <= LONGEST and _SAFE.fullmatch(name) and not _RESERVED.fullmatch(name):
        return name.replace("/", "--")
    cleaned = re.sub(r"[^a-z0-9]+", "-", name.lower())[: LONGEST // 2].strip("-")
    return f"{cleaned or 'page'}__{hashlib.sha256(name.encode()).hexdigest()[:16]}"


__all__ = ["LONGEST", "slug"]
