"""`Machine`: folders of data and runs, and the resources that a run uses."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from benchmark.host.cores import usable_cores
from postproc.errors import ConfigError, unknown_name

PER_CORE = 4
"""Worker processes per core; more only wait for each other."""

LEAST_BOUND = 32
"""Worker processes allowed on any machine, however few its cores."""


Mirror = Literal["off", "offline", "online"]
MIRRORS: tuple[str, ...] = get_args(Mirror)


def folder(name: str) -> Path:
    """Return a folder that the environment sets: NUCBENCH_NAME, else ``name`` in the working directory."""
    return Path(os.environ.get(f"NUCBENCH_{name.upper()}", name))


def cache_folder() -> Path:
    """Return the folder of downloaded models: NUCBENCH_CACHE, else nucbench in the user's folder of caches."""
    if given := os.environ.get("NUCBENCH_CACHE"):
        return Path(given).expanduser()
    import pooch

    return Path(pooch.os_cache("nucbench"))


def wandb_mode() -> str:
    """Return how W&B's own variable WANDB_MODE asks for runs to be mirrored; offline where it is unset."""
    mode = os.environ.get("WANDB_MODE", "").lower()
    return "online" if mode == "online" else "off" if mode == "disabled" else "offline"


@dataclass(frozen=True)
class Machine:
    """Folders of data and runs, and the resources to use.

    The fields are options of the commands that train, predict or score; the texts below are their help. The metadata
    of a field may name its ``choices``, and the function that gives its value where the command line does not
    (``unset``).

    Attributes:
        data: Folder with one folder per dataset; default: NUCBENCH_DATA or data.
        runs: Folder of all runs; default: NUCBENCH_RUNS or runs.
        devices: GPUs that train together.
        workers: Processes that draw training items and decode predictions; default: from the number of cores.
        progress: Hide progress bars.
        compile: Compile the network for inference with torch.compile; pays for many images of one size.
        wandb: Mirror runs to Weights & Biases: offline writes files into the run directory, which `wandb sync` uploads
            later; the run directory stays the store. Default: WANDB_MODE, else offline.
        tensorboard: Write losses, scores and pictures for TensorBoard into logs/tensorboard of the run directory.
    """

    data: Path = field(metadata={"unset": partial(folder, "data")})
    runs: Path = field(metadata={"unset": partial(folder, "runs")})
    devices: int = 1
    workers: int | None = None
    progress: bool = True
    compile: bool = False
    wandb: str = field(default="off", metadata={"choices": MIRRORS, "unset": wandb_mode})
    tensorboard: bool = False

    def __post_init__(self) -> None:
        """Validate the counts.

        Raises:
            ConfigError: If one is impossible, or the mode of W&B is unknown.
        """
        if self.wandb not in MIRRORS:
            raise unknown_name("wandb", self.wandb, MIRRORS)
        if self.devices < 1:
            raise ConfigError(f"devices must be 1 or more, not {self.devices}")
        if self.workers is not None and self.workers < 0:
            raise ConfigError(f"workers must be 0 or more, not {self.workers}")
        cores = usable_cores()
        most = max(LEAST_BOUND, PER_CORE * cores)
        if self.workers is not None and self.workers > most:
            raise ConfigError(
                f"workers must be {most} or fewer on this machine with {cores} usable cores, not {self.workers}"
            )

    def loaders(self) -> int:
        """Return the number of processes that draw training samples; 0 on a small CPU, which training needs whole."""
        if self.workers is not None:
            return self.workers
        return min(8, max(0, usable_cores() - 2))

    def decoders(self) -> int:
        """Return the number of processes that decode predictions."""
        return self.workers if self.workers is not None else max(1, min(8, usable_cores() - 1))


__all__ = ["MIRRORS", "Machine", "Mirror", "cache_folder", "folder", "wandb_mode"]
