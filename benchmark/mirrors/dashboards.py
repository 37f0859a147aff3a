"""Dashboards that show a run, W&B and TensorBoard; a failing dashboard never stops the run."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.mirrors.connection import Guard, WandbRun
from benchmark.mirrors.pictures import Picture
from postproc.errors import ConfigError

Shown = Mapping[str, "list[Picture] | pd.DataFrame"]
"""Pictures and tables by name."""


class Dashboard(Guard, ABC):
    """Common interface; steps count over all phases of the run.

    Attributes:
        key: Name in ``mirror.json``.
    """

    key: str

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Show numbers at a step; values that are not finite are omitted."""
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        self.tell(lambda: self._log(finite, step))

    def summarise(self, values: Mapping[str, float], step: int) -> None:
        """Show numbers that hold for the whole run, known at a step."""
        self.log(values, step)

    def begin(self, step: int) -> None:
        """Prepare for values from a step on; a killed run may have shown values beyond it."""

    @abstractmethod
    def _log(self, values: Mapping[str, Any], step: int) -> None: ...

    @abstractmethod
    def configure(self, values: Mapping[str, Any]) -> None:
        """Add JSON values to the configuration."""

    @abstractmethod
    def show(self, values: Shown, step: int) -> None:
        """Show pictures and tables."""

    @abstractmethod
    def close(self, *, failed: bool = False) -> None:
        """Write pending data and close."""


class WandbDashboard(WandbRun, Dashboard):
    """Shows a run on W&B; takes the arguments of `WandbRun`."""

    key = "wandb"
    _last = 0

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        self._last = max(self._last, step)  # W&B drops values before the last step
        self.experiment.log(dict(values), step=self._last)

    def summarise(self, values: Mapping[str, float], step: int) -> None:
        """Set entries of the summary."""
        self.tell(lambda: self.experiment.summary.update({k: v for k, v in values.items() if math.isfinite(v)}))

    def configure(self, values: Mapping[str, Any]) -> None:
        """Add JSON values to the configuration."""
        self.tell(lambda: self.experiment.config.update(dict(values), allow_val_change=True))

    def show(self, values: Shown, step: int) -> None:
        """Add pictures and tables to the history."""

        def media(value: list[Picture] | pd.DataFrame) -> Any:
            import wandb

            if isinstance(value, pd.DataFrame):
                return wandb.Table(dataframe=value)
            return [wandb.Image(each.pixels, caption=each.caption, file_type="jpg") for each in value]

        def log() -> None:
            _ = self.experiment  # W&B creates tables and images only for an open run
            self._log({name: media(value) for name, value in values.items()}, step)

        self.tell(log)


class TensorBoardDashboard(Dashboard):
    """Writes numbers, pictures and parameters to TensorBoard event files; tables are only in the run directory.

    Args:
        folder: Folder of the event files.

    Raises:
        ConfigError: If tensorboard is not installed.
    """

    key, title = "tensorboard", "TensorBoard"

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ConfigError("--tensorboard needs tensorboard: pip install 'nucbench[tensorboard]'") from None
        self._kind: Any = SummaryWriter
        self._folder = folder
        self._purge: int | None = None
        self._writer: Any = None

    @property
    def writer(self) -> Any:
        """Writer of TensorBoard, opened at the first use."""
        if self._writer is None:
            self._writer = self._kind(str(self._folder), purge_step=self._purge)
        return self._writer

    def begin(self, step: int) -> None:
        """Make TensorBoard discard what a killed run wrote from this step on."""
        self._purge = step or None

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def configure(self, values: Mapping[str, Any]) -> None:
        """Write the values as text."""
        self.tell(lambda: [self.writer.add_text(k, f"`{v}`") for k, v in values.items()])

    def show(self, values: Shown, step: int) -> None:
        """Write pictures."""
        pictures = {f"{k}/{i}": each for k, v in values.items() if isinstance(v, list) for i, each in enumerate(v)}
        self.tell(
            lambda: [self.writer.add_image(k, each.pixels, step, dataformats="HWC") for k, each in pictures.items()]
        )

    def close(self, *, failed: bool = False) -> None:
        """Close the file."""
        if self._writer is not None:
            self.tell(self._writer.close)
