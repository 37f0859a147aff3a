from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
import torch

from benchmark.host.allocator import VARIABLE
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
from benchmark.host.allocator import use_huge_pages
if sys.argv[1] == "huge":
    use_huge_pages()
import torch
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(1 << 24)  # 64 MiB, 16,384 pages of 4 KiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
def test_large_tensors_lie_in_huge_pages() -> None:
    modes = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not modes.is_file() or "[never]" in modes.read_text():
        pytest.skip("the system has no huge pages")
    environment = {key: value for key, value in os.environ.items() if key != VARIABLE}

    def faults(how: str) -> int:
        command = [sys.executable, "-c", FAULTS, how]
        return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)

    if "[always]" in modes.read_text():
        assert faults("huge") < 20_000
    else:
        assert faults("huge") < faults("as it comes") / 5
