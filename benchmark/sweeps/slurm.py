"""The runs of a sweep as one SLURM array (submitit)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.host import signals
from benchmark.host.files import read_json, write_json
from benchmark.sweeps.job import Job, State, attempt
from benchmark.sweeps.slurm_options import SlurmOptions
from postproc.errors import ConfigError, DataError

if TYPE_CHECKING:
    import submitit

POLL_SECONDS = 5.0

REQUEUE = signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]
"""What submitit has SLURM send ahead of the time limit."""


class ArrayTask:
    """One run as a task of an array: what submitit calls, and calls again after a preemption or the time limit."""

    def __call__(self, text: str) -> bool:
        """Do the run that `Job.to_json` describes; return whether it is done.

        The time limit (submitit's signal) and SIGUSR1 leave a checkpoint and queue the run again. SIGTERM leaves a
        checkpoint and ends: it comes from whoever cancels the job, and from a preemption, after which SLURM itself
        queues the job again where the partition says so.

        Raises:
            SystemExit: If a signal stops the run.
        """
        queue_again = signal.getsignal(REQUEUE)  # submitit's; it would leave in the middle of a step
        signals.listen(REQUEUE)
        try:
            return attempt(Job.from_json(text))
        except signals.Stopped as stop:
            if stop.number != signal.SIGTERM and callable(queue_again):
                queue_again(stop.number, None)  # calls `checkpoint` and ends this process
            raise SystemExit(stop.status) from None

    def checkpoint(self, text: str) -> submitit.helpers.DelayedSubmission:
        """Queue the run again; it goes on from its last checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, text)


def run_slurm(jobs: Sequence[Job], options: SlurmOptions) -> None:
    """Submit the runs that are not in the queue yet as one array, and wait for all of them.

    Interrupting leaves the jobs in the queue.

    Args:
        jobs: The runs.
        options: What to ask SLURM for.

    Raises:
        ConfigError: If SLURM or submitit is missing, or SLURM refuses the options.
    """
    if not jobs:
        return
    queued = queue()
    known = {job.spec.run_id: _submitted(job) for job in jobs}
    fresh = [job for job in jobs if known[job.spec.run_id] not in queued]
    for job in jobs:
        if job not in fresh:
            print(f"in the queue as {known[job.spec.run_id]}: {job.describe()}")
    if fresh:
        _submit(fresh, options)
    if options.wait:
        _wait(jobs)


def _submit(jobs: Sequence[Job], options: SlurmOptions) -> None:
    try:
        import submitit
    except ImportError:
        raise ConfigError("--executor slurm needs submitit: pip install 'nucbench[slurm]'") from None
    folder = jobs[0].machine.runs / "slurm"
    executor = submitit.AutoExecutor(folder=folder, cluster="slurm", slurm_max_num_timeout=100)
    executor.update_parameters(**options.parameters())
    try:
        submitted = executor.map_array(ArrayTask(), [job.to_json() for job in jobs])
    except submitit.core.utils.FailedJobError as error:
        raise ConfigError(f"SLURM refused the sweep: {error}") from error
    for job, task in zip(jobs, submitted, strict=True):
        write_json(_ticket(job), {"job": task.job_id})
        print(f"submitted as {task.job_id}: {job.describe()}")
    print(f"output of the jobs: {folder}", flush=True)


def _wait(jobs: Sequence[Job]) -> None:
    """Wait until no job is in the queue, telling what becomes of each."""
    waiting = list(jobs)
    while waiting:
        queued = queue()
        for job in list(waiting):
            if _submitted(job) in queued:
                continue
            waiting.remove(job)
            if job.state is State.TO_DO:
                print(f"ended before it was done, call the sweep again to go on: {job.describe()}", flush=True)
            else:
                print(f"{job.state.value}: {job.describe()}", flush=True)
        if waiting:
            time.sleep(POLL_SECONDS)


def queue() -> set[str]:
    """Return the ids of this user's jobs that wait or run, array tasks as ``<array>_<task>``.

    Raises:
        ConfigError: If SLURM's commands are missing or do not answer.
    """
    command = ["squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i %T"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except FileNotFoundError:
        raise ConfigError("--executor slurm: this machine has no command squeue; use --executor local") from None
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        detail = getattr(error, "stderr", "") or str(error)
        raise ConfigError(f"SLURM does not answer: {detail.strip()}") from error
    lines = (line.split() for line in answer.stdout.splitlines() if line.strip())
    return {name for name, state, *_ in lines if state in ALIVE}


ALIVE = {
    "PENDING", "RUNNING", "SUSPENDED", "CONFIGURING", "COMPLETING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED",
    "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SPECIAL_EXIT",
}  # fmt: skip
"""States of jobs that have not ended."""


def _ticket(job: Job) -> Path:
    return job.folder / "slurm.json"


def _submitted(job: Job) -> str:
    """Return the id under which a run was last submitted; empty = never."""
    try:
        return str(read_json(_ticket(job))["job"])
    except (DataError, KeyError):
        return ""
