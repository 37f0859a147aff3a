"""Runs command lines in processes forked from this one, which has imported the packages that take seconds to import.

Usage: ``python command_server.py``, then one JSON object a line on standard input: ``arguments``, ``folder`` (working
directory), ``environment`` (all variables), ``before`` (Python to run first), ``stdout`` and ``stderr`` (new files).
Answered by two lines: the number of the process, and its exit status as `subprocess` states it (-9 = ended by SIGKILL).

A forked process differs from a new one in nothing but the packages of others that are imported already: it has its own
working directory, variables, signals and exit, and imports nucbench itself.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import sys
import threading
import traceback
from typing import Any, NoReturn

PACKAGES = (
    "torch", "pytorch_lightning", "torchvision", "albumentations", "cv2", "numba", "optuna", "pandas", "scipy.ndimage",
    "matplotlib.figure", "skimage.morphology", "tifffile", "timm", "jsonargparse", "rich.progress",
)  # fmt: skip


def become(command: dict[str, Any]) -> NoReturn:
    """Turn this process, just forked, into that of a command."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(command[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    os.environ.clear()
    os.environ.update(command["environment"])
    os.chdir(command["folder"])
    sys.argv = ["nucbench", *command["arguments"]]
    status = 1
    try:
        exec(command["before"], {})
        status = importlib.import_module("benchmark.commands.cli").main(command["arguments"])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # taking the imported packages apart would copy all their memory


def serve() -> dict[str, Any] | None:
    """Fork a process for each command; return the command in the forked process, None at the end of the input."""
    for line in sys.stdin:
        command: dict[str, Any] = json.loads(line)
        child = os.fork()
        if child == 0:
            return command
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    return None


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of this file
    for package in PACKAGES:
        importlib.import_module(package)
    gc.collect()
    gc.freeze()  # no collection touches, and so copies, the memory that forked processes share
    if (mine := serve()) is not None:
        become(mine)
    os._exit(0)
