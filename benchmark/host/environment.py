"""Environment of a run: hardware, package versions, commit."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmark.host.cores import usable_cores
from benchmark.host.resources import processor

PACKAGES = (
    "albumentations",
    "numba",
    "numpy",
    "opencv-python-headless",
    "pandas",
    "pytorch-lightning",
    "scikit-image",
    "scipy",
    "segmentation-models-pytorch",
    "timm",
    "torch",
    "torchmetrics",
    "torchvision",
)


def hardware() -> str:
    """Return the name of the training device: the GPU, or the processor and its number of cores."""
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        return f"{count} x {torch.cuda.get_device_name(0)}" if count > 1 else torch.cuda.get_device_name(0)
    return f"{processor()}, {usable_cores()} cores"


def _commit() -> str:
    folder = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()


def environment() -> dict[str, Any]:
    """Return hardware, Python version, package versions and git commit of the suite."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"hardware": hardware(), "python": platform.python_version(), "commit": _commit(), "versions": versions}
