"""`Machine`: folders of data and runs, and the resources that a run uses."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from postproc.errors import ConfigError

PER_CORE = 4
"""Worker processes per core; more only wait for each other."""

LEAST_BOUND = 32
"""Worker processes allowed on any machine, since containers may report fewer cores than they have."""


@dataclass(frozen=True)
class Machine:
    """Folders of data and runs, and the resources to use.

    Attributes:
        data: Folder with one folder per dataset.
        runs: Folder of all runs.
        devices: Number of GPUs for training.
        workers: Processes that draw training samples and decode predictions; None = one fewer than the cores.
        progress: Show progress bars.
        compile: Compile networks for inference with torch.compile.
        wandb: Mirror runs to Weights & Biases: ``off``, ``offline`` or ``online``.
        tensorboard: Write event files for TensorBoard.
    """

    data: Path
    runs: Path
    devices: int = 1
    workers: int | None = None
    progress: bool = True
    compile: bool = False
    wandb: str = "off"
    tensorboard: bool = False

    def __post_init__(self) -> None:
        """Validate the counts.

        Raises:
            ConfigError: If a count is out of range.
        """
        if self.devices < 1:
            raise ConfigError(f"devices must be 1 or more, not {self.devices}")
        if self.workers is not None and self.workers < 0:
            raise ConfigError(f"workers must be 0 or more, not {self.workers}")
        most = max(LEAST_BOUND, PER_CORE * _cores())
        if self.workers is not None and self.workers > most:
            raise ConfigError(
                f"workers must be {most} or fewer on this machine with {_cores()} cores, not {self.workers}"
            )

    def loaders(self) -> int:
        """Return the number of processes that draw training samples; 0 on a small CPU, which training needs whole."""
        if self.workers is not None:
            return self.workers
        return min(8, max(0, _cores() - 2))

    def decoders(self) -> int:
        """Return the number of processes that decode predictions."""
        return self.workers if self.workers is not None else max(1, min(8, _cores() - 1))


def _cores() -> int:
    return os.cpu_count() or 1


__all__ = ["Machine"]
