"""Threads of torch, NumPy, Numba and OpenCV. Importing this module imports none of them."""

from __future__ import annotations

import os
import sys

from benchmark.host.cores import cores_in_affinity, usable_cores

WAIT = "OMP_WAIT_POLICY"
THREADS = "OMP_NUM_THREADS"

_CHOSEN: dict[str, str] = {}
"""Variables that this process has set, so that they can be told from those of the user."""

_OPENCV = {"threads": 1}
"""Threads of OpenCV before a fork."""


def use_threads_well() -> None:
    """Make the threads of OpenMP sleep while they wait, and limit them to the CPU quota of this process.

    Call it before the first import of torch, which reads the variables as it is loaded. By default, threads wait in a
    busy loop. On cores shared with other processes, a waiting thread then takes the core that the other threads need.
    OpenMP respects the affinity of the process, but not the quota of its control groups. Values set by the user are
    kept. Child processes inherit the variables.
    """
    _choose(WAIT, "passive")
    if (cores := usable_cores()) < cores_in_affinity():
        _choose(THREADS, str(cores))


def is_set_by_user(name: str) -> bool:
    """Return whether a variable is set, and not by `use_threads_well`."""
    return name in os.environ and os.environ[name] != _CHOSEN.get(name)


def use_one_thread() -> None:
    """Limit each library to one thread in a worker process, since there is one worker for each core.

    Libraries that this process has not loaded yet read the variables. OpenCV and torch may be inherited from a forked
    parent, so they are set. Numba is not: the compiled loops are serial, and setting its threads would start them.
    """
    os.environ.update({THREADS: "1", "NUMBA_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})
    import cv2  # has no variable for this; all workers need it

    cv2.setNumThreads(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _stop_opencv() -> None:
    """Stop OpenCV's threads before a fork; a forked process that sets their number would wait for them forever."""
    cv2 = sys.modules.get("cv2")
    if cv2 is not None:
        _OPENCV["threads"] = cv2.getNumThreads()
        cv2.setNumThreads(1)


def _restore_opencv() -> None:
    cv2 = sys.modules.get("cv2")
    if cv2 is not None:
        cv2.setNumThreads(_OPENCV["threads"])


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(before=_stop_opencv, after_in_parent=_restore_opencv)


def _choose(name: str, value: str) -> None:
    if name not in os.environ:
        os.environ[name] = _CHOSEN[name] = value


__all__ = ["THREADS", "WAIT", "is_set_by_user", "use_one_thread", "use_threads_well"]
