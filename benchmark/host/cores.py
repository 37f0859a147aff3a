"""Cores that this process may use: its CPU affinity, limited by the CPU quota of its control groups."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
"""Folder where Linux mounts the control groups."""
MEMBERSHIP = Path("/proc/self/cgroup")
"""File with the control groups of this process."""


def usable_cores(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """Return the number of cores that this process may use, at least 1.

    This is the number of cores in the affinity of the process (`taskset`, SLURM, cpusets), limited by the CPU quota of
    its control groups (containers, systemd). A quota of 1.5 cores counts as 2, because two threads use it fully.
    `os.cpu_count` reports all cores of the machine instead.

    Args:
        cgroups: Folder of the control groups, of version 1, 2 or both.
        membership: File that lists the control groups of this process.
    """
    affinity = cores_in_affinity()
    quotas = [quota for folder in _folders(cgroups, membership) if (quota := _quota(folder)) is not None]
    return max(1, min([affinity, *(math.ceil(quota) for quota in quotas)]))


def cores_in_affinity() -> int:
    """Return the number of cores in the affinity of this process; all cores where the system has no affinity."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _folders(cgroups: Path, membership: Path) -> Iterator[Path]:
    """Yield the folders of the control groups with CPU quotas of this process, and of their parents.

    The quota of a parent also applies. In a container the listed path may not exist; the mounted root is then the group
    of the container, so that the root is always among the folders.
    """
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = ["0::/"]
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:  # version 2
            roots = [cgroups, cgroups / "unified"]
        elif "cpu" in controllers.split(","):
            roots = [cgroups / controllers, cgroups / "cpu"]
        else:
            continue
        inside = Path(path.lstrip("/"))
        if ".." in inside.parts:  # the group is outside the namespace of this process
            inside = Path()
        for root in roots:
            yield from (root / part for part in (inside, *inside.parents))


def _quota(folder: Path) -> float | None:
    """Return the CPU quota of a control group in cores; None if it has none."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8")
            period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8")
        cores = float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):  # no such group, or "max"
        return None
    return cores if cores > 0 else None  # version 1 states -1 if there is no quota


__all__ = ["cores_in_affinity", "usable_cores"]
