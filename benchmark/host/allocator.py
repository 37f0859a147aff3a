"""Large tensors in huge pages, on CPUs."""

from __future__ import annotations

import os

VARIABLE = "THP_MEM_ALLOC_ENABLE"
"""With it, torch asks for pages of 2 MiB for tensors of that size and more; read at the first allocation."""


def use_huge_pages() -> None:
    """Let torch lay large tensors into huge pages, as NumPy does with arrays; call it before torch is first used.

    The system fills each page with zeros when it is first touched, and a network that computes on hundreds of MB at a
    time, as HoVer-Net does on large tiles, spends more time in that than in arithmetic when pages have 4 KiB. What the
    user has set stays.
    """
    os.environ.setdefault(VARIABLE, "1")
