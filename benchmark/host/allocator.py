"""Huge memory pages for large tensors on CPUs."""

from __future__ import annotations

import os

VARIABLE = "THP_MEM_ALLOC_ENABLE"
"""If set, torch requests pages of 2 MiB for tensors of at least that size; read at the first allocation."""


def use_huge_pages() -> None:
    """Make torch allocate large tensors in huge pages, as NumPy does; call it before the first use of torch.

    The system fills each page with zeros at the first access. With pages of 4 KiB, a network that allocates hundreds of
    MB at a time, such as HoVer-Net on large tiles, spends more time on this than on arithmetic. A value set by the user
    is kept.
    """
    os.environ.setdefault(VARIABLE, "1")
