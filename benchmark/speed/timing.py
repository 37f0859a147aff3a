"""Time one job, and what is known about the time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import torch

OURS = "nucbench"
PATIENCE = 5.0
"""Seconds after which a job is not repeated any more."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """Milliseconds that one job took, over several runs after one that is not counted.

    Attributes:
        job: What was done.
        size: On what: side of the image in px, or batch and crop.
        nuclei: In that image.
        median_ms: Median over the runs.
        fastest_ms: Fastest run.
        slowest_ms: Slowest run.
        runs: Counted runs.
        threads: Threads that torch was given.
        by: Who did it: nucbench, or a package with its version.
        to_reach_ms: What was set out to be reached (`benchmark.speed.reach`).
        samples_per_second: Training samples, where the job makes or takes some.
        share: Part of the whole sample's time, of the steps that a sample goes through.
        nucbench_ms: Median of the same job by nucbench, in the same run.
        agreement: How far the results of both agree, in the unit of `agreement_in`.
        agreement_in: What `agreement` measures.
        note: What else must be known.
    """

    job: str
    size: str
    nuclei: int
    median_ms: float
    fastest_ms: float
    slowest_ms: float
    runs: int
    threads: int
    by: str = OURS
    to_reach_ms: float | None = None
    samples_per_second: float | None = None
    share: float | None = None
    nucbench_ms: float | None = None
    agreement: float | None = None
    agreement_in: str = ""
    note: str = ""


def measure(
    job: str,
    size: str,
    nuclei: int,
    call: Callable[[], Any],
    repeats: int,
    *,
    warm: Callable[[], Any] | None = None,
    patience: float = PATIENCE,
    **more: Any,
) -> Timing:
    """Time a call; what compiles code and fills caches goes before it and is not counted.

    Work that a GPU has only been told to do is waited for, before the clock starts and before it stops.

    Args:
        job: Name of the job.
        size: Of what it works on.
        nuclei: In what it works on.
        call: The job.
        repeats: Most counted runs.
        warm: What to run first; default: the job itself.
        patience: Seconds after which no further run begins; there is always one.
        **more: Further fields of the `Timing`.
    """
    (warm or call)()
    seconds: list[float] = []
    while len(seconds) < repeats and (not seconds or sum(seconds) < patience):
        finish()
        start = time.perf_counter()
        call()
        finish()
        seconds.append(time.perf_counter() - start)
    middle, fastest, slowest = (1000 * float(f(seconds)) for f in (np.median, min, max))
    return Timing(job, size, nuclei, middle, fastest, slowest, len(seconds), torch.get_num_threads(), **more)


def finish() -> None:
    """Wait for what a GPU has been told to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextmanager
def single_thread() -> Iterator[None]:
    """Give torch and OpenCV one thread for the length of a block."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
