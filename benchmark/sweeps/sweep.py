"""Do a sweep: every run that is not done; a failure does not stop the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.data.presence import is_there
from benchmark.host.machine import Machine
from benchmark.options import check_options
from benchmark.registry import method_class
from benchmark.sweeps.estimate import estimated_minutes, plan
from benchmark.sweeps.executors import run_inline, run_local
from benchmark.sweeps.job import RETRIED, Job, State
from benchmark.sweeps.paper_length import PaperLength
from benchmark.sweeps.slurm import run_slurm
from benchmark.sweeps.slurm_options import Executor, SlurmOptions
from benchmark.sweeps.spec import SweepSpec
from postproc.errors import ConfigError


def run_sweep(
    file: Path,
    machine: Machine,
    *,
    executor: Executor = "inline",
    processes: int | None = None,
    slurm: SlurmOptions | None = None,
    retry_failed: bool = False,
    dry_run: bool = False,
) -> int:
    """Do the runs of a sweep that are not done, and say what became of each.

    The traceback of a failed run is stored in ``failure.txt`` of its directory. A run whose input was missing or wrong
    is tried again by the next call; other failures would recur and are tried again only with `retry_failed`.

    Args:
        file: Sweep file.
        machine: Where things are.
        executor: Where the runs are done.
        processes: Runs beside each other, of executor ``local``.
        slurm: What to ask for, of executor ``slurm``.
        retry_failed: Do runs again that have failed.
        dry_run: Only print the plan.

    Returns:
        0 if every run is done, 1 otherwise; of a dry run, 0 if every dataset is there.

    Raises:
        ConfigError: If the file, an option of a method or one of the executor is wrong; nothing has been started then.
    """
    if processes is not None and processes < 1:
        raise ConfigError(f"--processes must be 1 or more, not {processes}")
    if slurm is not None:
        slurm.check()
    sweep = SweepSpec.load(file)
    jobs = [Job(spec, tuple(targets), machine, file.stem) for spec, targets in sweep.runs()]
    stated = sweep.paper_lengths()
    for job in jobs:  # a misspelt option is known before the first training, not hours later
        check_options(method_class(job.spec.method), job.spec.options)
    if dry_run:
        print_plan(jobs, stated)
        return 1 if print_missing(jobs) else 0
    chosen = [job for job in jobs if _is_wanted(job, retry_failed=retry_failed)]
    print(f"{len(jobs)} runs, {len(chosen)} to do", flush=True)
    if executor == "inline":
        run_inline(chosen)
    elif executor == "local":
        run_local(chosen, processes)
    else:
        run_slurm(chosen, slurm or SlurmOptions())
    return summarise(jobs)


def summarise(jobs: Sequence[Job]) -> int:
    """Print how many runs are done and name the others; return 0 if all are done, 1 otherwise."""
    states = [job.state for job in jobs]
    done = states.count(State.DONE)
    print(f"{done} of {len(jobs)} runs done")
    for job, state in zip(jobs, states, strict=True):
        if state is State.FAILED:
            print(f"failed: {job.spec.run_id}\n  {_last_line(job.failure)}\n  traceback in {job.failure}")
        elif state is State.TO_DO:
            print(f"not done: {job.spec.run_id}")
    if any(state is State.FAILED and not job.is_retried for job, state in zip(jobs, states, strict=True)):
        print("--retry-failed runs what has failed again")
    return 0 if done == len(jobs) else 1


def _is_wanted(job: Job, *, retry_failed: bool) -> bool:
    state = job.state
    return state is State.TO_DO or (state is State.FAILED and (retry_failed or job.is_retried))


def _last_line(failure: Path) -> str:
    """Return the last line of a note that says what went wrong."""
    lines = [line for line in failure.read_text(encoding="utf-8").strip().splitlines() if line != RETRIED]
    return lines[-1] if lines else ""


def print_missing(jobs: Sequence[Job]) -> list[str]:
    """Print and return the datasets that runs to do need and that are not there."""
    needed: dict[str, Path] = {}
    for job in jobs:
        if job.state is not State.DONE:
            names = [target.dataset for target in (*job.spec.training_sets, *job.targets)]
            needed |= {name: job.machine.data / name for name in names}
    missing = [name for name, folder in needed.items() if not is_there(folder)]
    for name in missing:
        print(f"missing: {needed[name]}; nucbench prepare {name} gets it or says how")
    return missing


def print_plan(jobs: Sequence[Job], stated: Mapping[str, PaperLength]) -> None:
    """Print every run, how it stands, how many steps it takes, and how long those to do may train, as far as known.

    Args:
        jobs: The runs.
        stated: Run id -> how long the paper trains, where the sweep file states it.
    """
    known, unknown, done = 0.0, 0, 0
    for i, job in enumerate(jobs, start=1):
        length = plan(job.spec, job.machine.data)
        text = f"{job.state.value}, {length.text()}"
        if job.spec.run_id in stated:
            text += f" [{stated[job.spec.run_id].text(length.steps, length.epochs)}]"
        if job.state is State.DONE:
            done += 1
        else:
            minutes = estimated_minutes(job.spec, job.machine.runs, job.machine.data)
            text += ", training time unknown" if minutes is None else f", about {minutes:.0f} min of training"
            unknown += minutes is None
            known += minutes or 0.0
        print(f"[{i}/{len(jobs)}] {job.describe()}: {text}")
    print(f"{len(jobs)} runs, {done} done; training left: about {known / 60:.1f} h" + _unknown(unknown))


def _unknown(count: int) -> str:
    return f", and {count} runs of unknown length (no stored run of the same method and settings)" if count else ""
