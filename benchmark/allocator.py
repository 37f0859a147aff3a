"""Keep freed memory for the next tensor, on CPUs."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
"""Parameters of mallopt(3)."""
_STEP = 64 << 20
"""Bytes by which the heap grows at least."""


def keep_memory() -> bool:
    """Tell the C library to keep the memory of large arrays that were freed, and give it to the next ones.

    As it comes, glibc returns it to the system at once and asks for it anew, and the system fills every page with
    zeros when it is first touched. Networks that compute on hundreds of MB at a time, as HoVer-Net does on large tiles,
    spend more time in that than in arithmetic. The price is that the process stays as large as it has ever been.

    Returns:
        Whether the C library took it; those of other systems than Linux do not know how.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, -1), mallopt(_TOP_PAD, _STEP)])
