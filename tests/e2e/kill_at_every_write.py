"""Run a command line again and again, killing it each time, until it gets to its end.

Usage: ``python kill_at_every_write.py COMMAND...``. Every process may move one file into place and is ended by SIGKILL
right before the second, so that each of them gets one file further and loses all work on the next. Where a process
writes nothing but what the one before it wrote, or logs, the next may write one more file. The names of the files are
printed, one a line. Processes are forked from this one, which has imported everything: a process takes no longer than
its work.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path

import torch

import benchmark.host.console
import benchmark.runs.evaluate
import benchmark.runs.run  # noqa: F401  (imported here once, not in every process)
from benchmark.commands import cli
from benchmark.runs import phase_keeper

replace = Path.replace
JOURNAL = Path("journal.txt")
MOST = 200


def die_after(allowed: int) -> None:
    """Let this process die right before it moves one more file into place than it may."""
    done = []

    def deadly(self: Path, target: Path) -> Path:
        if len(done) == allowed:
            os.kill(os.getpid(), signal.SIGKILL)
        done.append(target)
        with JOURNAL.open("a") as stream:
            stream.write(f"{Path(target).name}\n")
        return replace(self, target)

    Path.replace = deadly  # type: ignore[method-assign]


def main(*command: str) -> int:
    """Kill and go on until a process comes to its end; return its exit status."""
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # no collection touches, and so copies, the memory that the processes share
    phase_keeper.SAVE_SECONDS = 0.0  # a checkpoint after every step
    count, allowed = 0, 1
    last: set[str] = set()
    for _ in range(MOST):
        child = os.fork()
        if child == 0:
            die_after(allowed)
            os._exit(cli.main(list(command)))
        _, status = os.waitpid(child, 0)
        written = JOURNAL.read_text().splitlines()
        if not os.WIFSIGNALED(status):
            print("\n".join(written))
            return os.WEXITSTATUS(status)
        new = {name for name in written[count:] if not name.startswith("metrics.")}
        allowed = 1 if new - last else allowed + 1
        count, last = len(written), new or last
    print("\n".join(written), f"\nnot done after {MOST} processes", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
