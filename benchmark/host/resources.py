"""What this machine offers: instruction sets, memory, shared memory and disks. Does not import torch."""

from __future__ import annotations

import platform
import shutil
import tempfile
from pathlib import Path

CPU_FLAGS = {"AMX": "amx_bf16", "AVX-512 bf16": "avx512_bf16", "AVX-512": "avx512f", "AVX2": "avx2", "NEON": "asimd"}
"""Instruction set that matters for speed -> its name in Linux's /proc/cpuinfo."""
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # the file system that worker processes pass batches through
GIB = 2**30


def instruction_sets(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, bool]:
    """Return which of `CPU_FLAGS` the processor has; empty where the system does not say.

    Args:
        cpuinfo: Description of the processors by the Linux kernel.
    """
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    flags = {flag for line in lines if line.lower().startswith(("flags", "features")) for flag in line.split()}
    return {name: flag in flags for name, flag in CPU_FLAGS.items()} if flags else {}


def memory(meminfo: Path = Path("/proc/meminfo")) -> tuple[float, float] | None:
    """Return total and available memory in GiB; None where the system does not say.

    Args:
        meminfo: Description of the memory by the Linux kernel.
    """
    try:
        lines = meminfo.read_text(encoding="utf-8").splitlines()
        sizes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        return sizes["MemTotal"] * 1024 / GIB, sizes["MemAvailable"] * 1024 / GIB
    except (OSError, ValueError, KeyError, IndexError):
        return None


def free_space(folder: Path) -> tuple[float, float] | None:
    """Return size and free space in GiB of the file system that a folder is on, or will be created on."""
    there = nearest(folder)
    try:
        usage = shutil.disk_usage(there)
    except OSError:
        return None
    return usage.total / GIB, usage.free / GIB


def nearest(folder: Path) -> Path:
    """Return the folder, or the first of its parents that exists."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


def unwritable(folder: Path) -> str:
    """Return why no file can be created in a folder (or where it will be created); empty if one can.

    A file is created and removed, since permissions alone do not tell (read-only file systems, quotas, root).
    """
    there = nearest(folder)
    if not there.is_dir():
        return f"{there} is a file"
    try:
        with tempfile.TemporaryFile(dir=there):
            return ""
    except OSError as error:
        return error.strerror or type(error).__name__


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


__all__ = [
    "CPU_FLAGS", "SHARED_MEMORY", "free_space", "instruction_sets", "memory", "nearest", "processor", "unwritable",
]  # fmt: skip
