"""Time a job."""

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
"""Seconds after which a job is not repeated again."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """Milliseconds of one job over several runs, after an uncounted one.

    Attributes:
        job: Name of the job.
        size: Size of the input: side of the image in pixels, or batch and crop.
        nuclei: Number of nuclei in the image.
        median_ms: Median over the runs.
        fastest_ms: Fastest run.
        slowest_ms: Slowest run.
        runs: Counted runs.
        threads: Threads of torch.
        by: Implementation: nucbench, or a package with its version.
        to_reach_ms: Target time (`benchmark.speed.reach`).
        samples_per_second: Training samples per second, for jobs with training samples.
        share: Share of the time of a whole sample, for the steps of a sample.
        nucbench_ms: Median of the same job in nucbench, in the same run.
        agreement: Agreement of both results, in the unit of `agreement_in`.
        agreement_in: Measure of `agreement`.
        note: Remark.
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
    """Time a call, after an uncounted one that compiles code and fills caches.

    Pending GPU work is awaited before the clock starts and before it stops.

    Args:
        job: Name of the job.
        size: Size of the input.
        nuclei: Number of nuclei in the input.
        call: The job.
        repeats: Maximum number of counted runs.
        warm: Function to run first; default: the job itself.
        patience: Seconds after which no further run starts; at least one run is counted.
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
    """Wait for pending GPU work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextmanager
def single_thread() -> Iterator[None]:
    """Limit torch and OpenCV to one thread within a block."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
