"""Submit the runs of a sweep as one SLURM array with submitit."""

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
from benchmark.host.processes import start_process
from benchmark.sweeps.job import Job, State, attempt
from benchmark.sweeps.slurm_options import SlurmOptions
from postproc.errors import ConfigError, DataError

if TYPE_CHECKING:
    import submitit

POLL_SECONDS = 5.0

REQUEUE = signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]
"""Signal that SLURM sends before the time limit, as set by submitit."""


class ArrayTask:
    """One run as a task of an array, called by submitit, and again after a preemption or the time limit."""

    def __call__(self, text: str) -> bool:
        """Do the run that `Job.to_json` describes; return whether it is done.

        The time limit (signal of submitit) and SIGUSR1 write a checkpoint and queue the run again. SIGTERM, from a
        cancellation or a preemption, writes a checkpoint and ends; after a preemption SLURM itself queues the job again
        if the partition is configured to.

        Raises:
            SystemExit: If a signal stops the run.
        """
        start_process()  # SLURM may be configured not to pass the environment on
        queue_again = signal.getsignal(REQUEUE)  # the handler of submitit, which would exit in the middle of a step
        signals.listen(REQUEUE)
        try:
            return attempt(Job.from_json(text))
        except signals.Stopped as stop:
            if stop.number != signal.SIGTERM and callable(queue_again):
                queue_again(stop.number, None)  # calls `checkpoint` and ends this process
            raise SystemExit(stop.status) from None

    def checkpoint(self, text: str) -> submitit.helpers.DelayedSubmission:
        """Queue the run again; it resumes from its last checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, text)


def run_slurm(jobs: Sequence[Job], options: SlurmOptions) -> None:
    """Submit the runs that are not queued yet as one array, and wait for all of them.

    After an interrupt the jobs stay in the queue.

    Args:
        jobs: The runs.
        options: Resources to request.

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
    """Wait until all jobs have left the queue, and print the state of each."""
    waiting = list(jobs)
    while waiting:
        queued = queue()
        for job in list(waiting):
            if _submitted(job) in queued:
                continue
            waiting.remove(job)
            if job.state is State.TO_DO:
                print(f"ended before it was done; run the same sweep to resume: {job.describe()}", flush=True)
            else:
                print(f"{job.state.value}: {job.describe()}", flush=True)
        if waiting:
            time.sleep(POLL_SECONDS)


def queue() -> set[str]:
    """Return the ids of the pending and running jobs of this user, array tasks as ``<array>_<task>``.

    Raises:
        ConfigError: If the commands of SLURM are missing or do not answer.
    """
    command = ["squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i %T"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except FileNotFoundError:
        raise ConfigError("--executor slurm needs SLURM, but squeue was not found; use --executor local") from None
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
    """Return the job id of the last submission of a run; empty = never submitted."""
    try:
        return str(read_json(_ticket(job))["job"])
    except (DataError, KeyError):
        return ""
