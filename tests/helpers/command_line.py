"""The command line as a user calls it, and waiting for what it does; for tests that run it in other processes."""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


def environment(**more: str) -> dict[str, str]:
    """Return the variables of a user who has set none of nucbench's, and `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NUCBENCH_")}
    return {**kept, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **more}


class Started:
    """A command line that runs in a process of its own; as `subprocess.Popen` with texts for output and errors.

    A test process runs one at a time: it must end (`communicate`) before the next is started.
    """

    def __init__(self, words: list[str], folder: Path, before: str, variables: dict[str, str]) -> None:
        self.args = words
        self.returncode: int | None = None
        self._files = tempfile.TemporaryDirectory()
        self._out, self._err = (Path(self._files.name, name) for name in ("stdout", "stderr"))
        self._server = _server()
        command = {"arguments": words, "folder": str(folder), "environment": variables, "before": before}
        self._server.tell(command | {"stdout": str(self._out), "stderr": str(self._err)})
        self.pid = int(self._server.answer())

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def poll(self) -> int | None:
        """Return the exit status, None while the process runs."""
        if self.returncode is None and self._server.has_answered(0):
            self.returncode = int(self._server.answer())
        return self.returncode

    def output(self) -> str:
        """Return what it has written so far."""
        return self._out.read_text("utf-8") if self._out.exists() else ""

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Wait until the process ends, kill it after `timeout` seconds, and return output and errors."""
        if self.returncode is None:
            if not self._server.has_answered(timeout):
                os.kill(self.pid, signal.SIGKILL)
            self.returncode = int(self._server.answer())
        found = self._out.read_text("utf-8"), self._err.read_text("utf-8")
        self._files.cleanup()
        return found


def start(*arguments: str | Path, folder: Path, before: str = "", **more: str) -> Started:
    """Start a command line; the arguments are those of `nucbench`."""
    return Started([*map(str, arguments)], folder, before, environment(**more))


def nucbench(
    *arguments: str | Path, folder: Path, status: int = 0, before: str = "", seconds: float = 300, **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a command line in a process of its own and check its exit status.

    Args:
        *arguments: Words behind `nucbench`.
        folder: Working directory.
        status: Exit status that is expected.
        before: Python that the process runs first.
        seconds: Time after which the process is killed.
        **more: Environment variables beside those of `environment`.
    """
    process = start(*arguments, folder=folder, before=before, **more)
    output, errors = process.communicate(seconds)
    assert process.returncode == status, output + errors
    return subprocess.CompletedProcess(process.args, status, output, errors)


class _Server:
    """A process of `command_server`, which forks one process after the other."""

    def __init__(self) -> None:
        words = [sys.executable, str(Path(__file__).with_name("command_server.py"))]
        # asking for GPUs must not start CUDA in a process that forks
        variables = environment(PYTORCH_NVML_BASED_CUDA_CHECK="1")
        self._process = subprocess.Popen(words, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def tell(self, command: dict[str, object]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()

    def answer(self) -> bytes:
        """Wait for the next line."""
        assert self._process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(self._process.stdout.fileno(), 1)  # no buffer, behind which `select` sees nothing
            assert byte, "the server of command lines has ended"
            line += byte
        return line

    def has_answered(self, seconds: float) -> bool:
        return bool(select.select([self._process.stdout], [], [], seconds)[0])

    def end(self) -> None:
        self._process.communicate()


@functools.cache
def _server() -> _Server:
    server = _Server()
    atexit.register(server.end)
    return server


def wait_until(
    condition: Callable[[], object], process: subprocess.Popen[str] | Started | None = None, seconds: float = 240
) -> None:
    """Wait until something is true, as long as the process that is to make it so runs."""
    end = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
