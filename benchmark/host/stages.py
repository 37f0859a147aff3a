"""Wall-clock and CPU time of the stages of a command, from all of its processes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

VARIABLE = "NUCBENCH_STAGES"
"""File to which each process appends its stages; unset = nothing is measured."""


class Stage(NamedTuple):
    """One stage of one process.

    Attributes:
        name: Name of the stage.
        process: Process id.
        began: Wall-clock time at the beginning in seconds; all processes of a machine have the same clock.
        ended: Wall-clock time at the end.
        cpu_before: CPU seconds of the process, over all of its threads, at the beginning.
        cpu_after: CPU seconds of the process at the end.
    """

    name: str
    process: int
    began: float
    ended: float
    cpu_before: float
    cpu_after: float


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Measure a block, if `VARIABLE` names a file."""
    file = os.environ.get(VARIABLE)
    if not file:
        yield
        return
    began, before = time.monotonic(), time.process_time()
    try:
        yield
    finally:
        found = Stage(name, os.getpid(), began, time.monotonic(), before, time.process_time())
        with open(file, "a", encoding="utf-8") as lines:  # one short write: lines of several processes do not mix
            lines.write(json.dumps(found) + "\n")


def read_stages(file: Path) -> list[Stage]:
    """Read the stages of all processes, in the order of their ends."""
    return [Stage(*json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]


__all__ = ["VARIABLE", "Stage", "read_stages", "stage"]
