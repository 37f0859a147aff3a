"""Executors of sweeps on this machine: in this process, or in several parallel processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import IO

from benchmark.host.cores import usable_cores
from benchmark.host.threads import THREADS, is_set_by_user
from benchmark.sweeps.job import Job, attempt

POLL_SECONDS = 0.2

STOP_SECONDS = 30.0
"""Time for a run to finish its step and write a checkpoint when the sweep is stopped."""


def run_inline(jobs: Sequence[Job]) -> None:
    """Do the runs one after another in this process."""
    for number, job in enumerate(jobs, start=1):
        print(f"[{number}/{len(jobs)}] {job.describe()}", flush=True)
        attempt(job)


def run_local(jobs: Sequence[Job], processes: int | None = None) -> None:
    """Do each run in a separate process, so that a crash or lack of memory ends only that run.

    The output of a run is appended to ``output.txt`` in its directory. Each process gets one GPU, if there are any, and
    an equal share of the cores. An interrupt stops all processes; the same sweep later resumes their runs from their
    checkpoints.

    Args:
        jobs: The runs.
        processes: Number of parallel runs; None = one per GPU, or one without a GPU.
    """
    gpus = gpu_count()
    processes = processes or max(1, gpus)
    waiting = list(enumerate(jobs, start=1))
    running: dict[int, tuple[int, Job, subprocess.Popen[str]]] = {}  # by slot
    try:
        while waiting or running:
            for slot in range(processes):
                if slot not in running and waiting:
                    number, job = waiting.pop(0)
                    print(f"[{number}/{len(jobs)}] {job.describe()}: started", flush=True)
                    running[slot] = (number, job, start(job, environment(slot, processes, gpus)))
            for slot, (number, job, process) in list(running.items()):
                if process.poll() is not None:
                    del running[slot]
                    print(f"[{number}/{len(jobs)}] {job.describe()}: {finish(job, process.returncode)}", flush=True)
            time.sleep(POLL_SECONDS)
    finally:
        stop([process for _, _, process in running.values()])


def start(job: Job, variables: dict[str, str]) -> subprocess.Popen[str]:
    """Start a process that does one run."""
    job.folder.mkdir(parents=True, exist_ok=True)
    with (job.folder / "output.txt").open("a", encoding="utf-8") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmark.sweeps.job"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | variables,
            text=True,
            start_new_session=True,  # Ctrl-C reaches only this process, which stops the others
        )
    pipe: IO[str] | None = process.stdin
    assert pipe is not None
    try:
        pipe.write(job.to_json())
        pipe.close()
    except BrokenPipeError:
        pass  # the process has already ended; `finish` reports its exit status
    return process


def finish(job: Job, status: int) -> str:
    """Return the state of a run whose process has ended; record an end by a signal as a failure.

    Args:
        job: The run.
        status: Exit status; negative: minus the number of the signal that ended the process.
    """
    output = job.folder / "output.txt"
    if status < 0:
        name = signal.Signals(-status).name
        likely = ", probably because memory ran out" if -status == signal.SIGKILL else ""
        job.note_failure(f"The process of this run was ended by {name}{likely}. Its output is in {output}.\n")
    return f"{job.state.value} ({output})"


def stop(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Ask running processes to stop, then kill those that do not, together with their child processes."""
    for end_it, patience in ((subprocess.Popen.terminate, STOP_SECONDS), (_kill_all_of, 10.0)):
        for process in processes:
            if process.poll() is None:
                end_it(process)
        end = time.monotonic() + patience
        while time.monotonic() < end and any(process.poll() is None for process in processes):
            time.sleep(POLL_SECONDS)


def _kill_all_of(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)


def environment(slot: int, processes: int, gpus: int) -> dict[str, str]:
    """Return the environment variables that select the GPU and the share of the cores of a process."""
    variables = {}
    if gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else [str(gpu) for gpu in range(gpus)]
        variables["CUDA_VISIBLE_DEVICES"] = names[slot % len(names)]
    if not is_set_by_user(THREADS):
        variables[THREADS] = str(max(1, usable_cores() // processes))
    return variables


def gpu_count() -> int:
    """Return the number of GPUs that torch sees."""
    import torch

    return torch.cuda.device_count()
