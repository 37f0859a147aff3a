"""The command line as a user calls it, and waiting for what it does; for tests that run it in subprocesses."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


def environment(**more: str) -> dict[str, str]:
    """Return the variables of a user who has set none of nucbench's, and `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NUCBENCH_")}
    return {**kept, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **more}


def nucbench(*arguments: str | Path, folder: Path, status: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command line with `folder` as the working directory and `more` variables; check its exit status."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmark.commands.cli", *map(str, arguments)],
        cwd=folder,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def wait_until(
    condition: Callable[[], object], process: subprocess.Popen[str] | None = None, seconds: float = 240
) -> None:
    """Wait until something is true, as long as the process that is to make it so runs."""
    end = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
