"""Bounds of time and memory for readers of damaged files."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SECONDS = 10
"""Most seconds that a reader may take with one file of some kB."""
MEMORY = 400_000_000
"""Most bytes by which reading such files may make the process grow."""


@contextmanager
def bounded(name: str) -> Iterator[None]:
    """Fail what takes too long or too much memory."""

    def late(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"{name}: still reading after {SECONDS} seconds")

    former = signal.signal(signal.SIGALRM, late)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert grown < MEMORY, f"{name}: took {grown / 1e6:.0f} MB"
