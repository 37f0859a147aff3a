"""One run of a sweep: its definition, its state, and its execution in a process."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from benchmark.host import signals
from benchmark.host.faults import in_words
from benchmark.host.files import atomic
from benchmark.host.machine import Machine
from benchmark.host.processes import start_process
from benchmark.results.spec import RunSpec, Target
from benchmark.results.store import RunStore
from postproc.errors import BusyError, ConfigError, DataError

RETRIED = "The next call of the sweep tries this run again, since its input was missing or wrong."
"""Last line of a failure file if the cause can be removed without changing the run."""


class State(Enum):
    """State of a run."""

    DONE = "done"
    FAILED = "failed"
    TO_DO = "to do"


@dataclass(frozen=True)
class Job:
    """A run of a sweep, in a form that can be sent to another process or machine.

    Attributes:
        spec: The run.
        targets: Sets to evaluate on.
        machine: Folders and hardware settings.
        group: Name of the sweep; group of the run in mirrors.
    """

    spec: RunSpec
    targets: tuple[Target, ...]
    machine: Machine
    group: str = ""

    @property
    def folder(self) -> Path:
        """The directory of the run."""
        return self.machine.runs / self.spec.run_id

    @property
    def failure(self) -> Path:
        """File of the traceback if the run failed."""
        return self.folder / "failure.txt"

    @property
    def state(self) -> State:
        """State according to the run directory; done = recorded and evaluated on every target."""
        store = RunStore(self.machine.runs, self.spec.run_id)
        if store.record_file.exists() and all(
            any(store.path.glob(f"evaluations/{target}/*/evaluation.json")) for target in self.targets
        ):
            return State.DONE
        return State.FAILED if self.failure.exists() else State.TO_DO

    @property
    def is_retried(self) -> bool:
        """Whether the run failed because of its input, so that the next call repeats it."""
        with suppress(OSError, UnicodeDecodeError):
            return self.failure.read_text(encoding="utf-8").rstrip().endswith(RETRIED)
        return False

    def to_json(self) -> str:
        """Return the job as JSON, for the standard input of ``python -m benchmark.sweeps.job``."""
        machine = {name: str(v) if isinstance(v, Path) else v for name, v in vars(self.machine).items()}
        content = {"spec": self.spec.to_dict(), "targets": [str(t) for t in self.targets], "machine": machine}
        content["group"] = self.group
        return json.dumps(content)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Read the result of `to_json`."""
        content: Mapping[str, Any] = json.loads(text)
        machine = content["machine"] | {name: Path(content["machine"][name]) for name in ("data", "runs")}
        targets = tuple(Target.parse(target) for target in content["targets"])
        return cls(RunSpec.from_dict(content["spec"]), targets, Machine(**machine), content["group"])

    def describe(self) -> str:
        """Return a line with the run and its evaluations."""
        return f"{self.spec.run_id} -> {', '.join(map(str, self.targets))}"

    def note_failure(self, text: str) -> None:
        """Store the reason of the failure."""
        with atomic(self.failure, "w") as stored:
            stored.write(text)


def attempt(job: Job) -> bool:
    """Do a run; if it fails, write the traceback to ``failure.txt`` in its directory and return False.

    A run that another process is working on is skipped, which does not count as a failure.
    """
    from benchmark.runs.result import print_result
    from benchmark.runs.run import execute

    try:
        print_result(execute(job.spec, list(job.targets), job.machine, job.group))
    except BusyError as error:
        print(f"skipped: {error}", flush=True)
        return False
    except Exception as error:  # one failing run never stops the others
        if (number := signals.asked()) is not None:  # the signal also ended its workers, which caused the error
            raise signals.Stopped(number) from error
        words = in_words(error)
        retried = f"{RETRIED}\n" if isinstance(error, DataError | ConfigError) else ""
        job.note_failure(traceback.format_exc() + (f"{words}\n" if words else "") + retried)
        print(f"failed: {words or error}\n  traceback in {job.failure}", flush=True)
        return False
    job.failure.unlink(missing_ok=True)
    return True


def main() -> int:
    """Do the job that standard input describes; return 0 if it is done and 1 otherwise."""
    start_process()
    signals.listen()
    try:
        return 0 if attempt(Job.from_json(sys.stdin.read())) else 1
    except signals.Stopped as stop:
        print(f"{stop}; run the same command to resume", flush=True)
        return stop.status


if __name__ == "__main__":
    sys.exit(main())
