"""Where the runs of a sweep are done: in this process, or in processes beside each other on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import IO

from benchmark.sweeps.job import Job, attempt

POLL_SECONDS = 0.2

STOP_SECONDS = 30.0
"""What a run has for finishing its step and writing a checkpoint when the sweep is stopped."""


def run_inline(jobs: Sequence[Job]) -> None:
    """Do one run after the other in this process."""
    for number, job in enumerate(jobs, start=1):
        print(f"[{number}/{len(jobs)}] {job.describe()}", flush=True)
        attempt(job)


def run_local(jobs: Sequence[Job], processes: int | None = None) -> None:
    """Do the runs in processes of their own: a crash or a lack of memory ends one run and nothing else.

    What a run prints goes to ``output.txt`` of its directory. Each process has its own GPU where there are some, and
    its share of the cores. Interrupting stops all of them; their runs go on from their checkpoints when they are asked
    for again.

    Args:
        jobs: The runs.
        processes: Runs beside each other; None = one per GPU, and one on a machine without.
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
            start_new_session=True,  # Ctrl-C reaches this process alone, which stops the others
        )
    pipe: IO[str] | None = process.stdin
    assert pipe is not None
    try:
        pipe.write(job.to_json())
        pipe.close()
    except BrokenPipeError:
        pass  # it has died already; its exit status tells
    return process


def finish(job: Job, status: int) -> str:
    """Return what became of a run whose process has ended, and note a violent end as a failure.

    Args:
        job: The run.
        status: Exit status; minus the signal that ended the process.
    """
    output = job.folder / "output.txt"
    if status < 0:
        name = signal.Signals(-status).name
        likely = ", as happens when memory runs out" if -status == signal.SIGKILL else ""
        job.note_failure(f"The process of this run was ended by {name}{likely}. What it printed is in {output}.\n")
    return f"{job.state.value} ({output})"


def stop(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Ask processes that are still running to stop, and end those that do not, with all that they have started."""
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
    """Return the variables that give a process its GPU and its share of the cores."""
    variables = {}
    if gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else [str(gpu) for gpu in range(gpus)]
        variables["CUDA_VISIBLE_DEVICES"] = names[slot % len(names)]
    if "OMP_NUM_THREADS" not in os.environ:
        variables["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // processes))
    return variables


def gpu_count() -> int:
    """Return the number of GPUs that torch sees."""
    import torch

    return torch.cuda.device_count()
