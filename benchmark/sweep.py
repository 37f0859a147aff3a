"""Do a sweep: every run that is not done, one after the other; a failure does not stop the others."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.estimate import estimated_minutes
from benchmark.spec import RunSpec, Target
from benchmark.store import RunStore, atomic
from benchmark.sweep_spec import SweepSpec

if TYPE_CHECKING:  # the module imports torch
    from benchmark.run import Machine


def is_done(spec: RunSpec, targets: list[Target], runs: Path) -> bool:
    """Tell whether a run is stored with an evaluation on every target."""
    store = RunStore(runs, spec.run_id)
    return store.record_file.exists() and all(
        any(store.path.glob(f"evaluations/{target}/*/evaluation.json")) for target in targets
    )


def run_sweep(file: Path, machine: Machine, *, dry_run: bool) -> int:
    """Run a sweep in this process, one run after the other.

    A run that fails is noted with its traceback in ``failure.txt`` of its directory, and the others go on.

    Returns:
        0 if every run is done, 1 otherwise.
    """
    plan = SweepSpec.load(file).runs()
    if dry_run:
        print_plan(plan, machine.runs)
        return 0
    failed: list[str] = []
    for i, (spec, targets) in enumerate(plan, start=1):
        done = is_done(spec, targets, machine.runs)
        print(f"[{i}/{len(plan)}] {_line(spec, targets)}: {'done' if done else 'to do'}", flush=True)
        if not done and not attempt(spec, targets, machine):
            failed.append(spec.run_id)
    if failed:
        print(f"{len(failed)} of {len(plan)} runs failed: {', '.join(failed)}")
    return 1 if failed else 0


def print_plan(plan: list[tuple[RunSpec, list[Target]]], runs: Path) -> None:
    """Print every run, whether it is done, and how long the others may train, as far as that is known."""
    known, unknown, done = 0.0, 0, 0
    for i, (spec, targets) in enumerate(plan, start=1):
        if is_done(spec, targets, runs):
            done += 1
            state = "done"
        else:
            minutes = estimated_minutes(spec, runs)
            state = "to do, training time unknown" if minutes is None else f"to do, about {minutes:.0f} min of training"
            unknown += minutes is None
            known += minutes or 0.0
        print(f"[{i}/{len(plan)}] {_line(spec, targets)}: {state}")
    print(f"{len(plan)} runs, {done} done; training left: about {known / 60:.1f} h" + _unknown(unknown))


def _unknown(count: int) -> str:
    return f", and {count} runs of unknown length (no stored run of the same method and settings)" if count else ""


def _line(spec: RunSpec, targets: list[Target]) -> str:
    return f"{spec.run_id} -> {', '.join(map(str, targets))}"


def attempt(spec: RunSpec, targets: list[Target], machine: Machine) -> bool:
    """Execute a run; note its traceback in ``failure.txt`` and return False if it fails."""
    from benchmark.report import print_result
    from benchmark.run import execute

    note = machine.runs / spec.run_id / "failure.txt"
    try:
        print_result(execute(spec, targets, machine))
    except Exception as error:  # one failing run never stops the others
        with atomic(note, "w") as stored:
            stored.write(traceback.format_exc())
        print(f"failed: {error}\n  traceback in {note}", flush=True)
        return False
    note.unlink(missing_ok=True)
    return True
