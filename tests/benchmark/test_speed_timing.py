from __future__ import annotations

import subprocess
import sys
import time

import cv2
import pytest
import torch

from benchmark.speed.timing import measure, single_thread


def test_the_first_run_is_not_counted() -> None:
    calls: list[float] = []

    def slow_at_first() -> None:
        calls.append(time.perf_counter())
        time.sleep(0.2 if len(calls) == 1 else 0.01)

    timing = measure("job", "1 px", 3, slow_at_first, 4, by="me")
    assert len(calls) == 5
    assert timing.runs == 4
    assert 10 <= timing.fastest_ms <= timing.median_ms <= timing.slowest_ms < 200
    assert (timing.job, timing.size, timing.nuclei, timing.by) == ("job", "1 px", 3, "me")


def test_what_warms_up_may_be_another_call() -> None:
    calls: list[str] = []
    timing = measure("job", "", 0, lambda: calls.append("job"), 2, warm=lambda: calls.append("small"))
    assert calls == ["small", "job", "job"]
    assert timing.runs == 2


def test_slow_jobs_are_repeated_less() -> None:
    assert measure("job", "", 0, lambda: time.sleep(0.02), 50, patience=0.05).runs in (2, 3)
    assert measure("job", "", 0, lambda: time.sleep(0.02), 50, patience=0.0).runs == 1


def test_one_thread_inside_and_as_many_as_before_outside() -> None:
    before = torch.get_num_threads(), cv2.getNumThreads()
    seen = []

    def fail() -> None:
        with single_thread():
            seen.append((torch.get_num_threads(), cv2.getNumThreads()))
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011  # any error
        fail()
    assert seen == [(1, 1)]
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before


FAULTS = """
import resource, sys
import numpy as np
from benchmark.allocator import keep_memory
kept = keep_memory() if sys.argv[1] == "kept" else False
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(1 << 23)  # 64 MiB, 16,384 pages
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_memory_is_kept() -> None:
    def faults(how: str) -> tuple[int, int]:
        done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        kept, number = done.stdout.split()
        return int(kept), int(number)

    kept, few = faults("kept")
    if not kept:
        pytest.skip("the C library has no mallopt")
    assert few < faults("given back")[1] / 5
