"""Lightning's loggers of W&B and TensorBoard, counted over all phases of a run, and of which no failure stops it."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from benchmark.mirrors.connection import Guard, WandbRun
from benchmark.mirrors.pictures import Picture
from postproc.errors import ConfigError

Shown = Mapping[str, "list[Picture] | pd.DataFrame"]
"""Pictures and tables by name."""


class MirrorLogger(Guard, Logger):
    """What both loggers share: the trainer opens and closes nothing, and gives them no settings.

    Attributes:
        key: Name in ``mirror.json``.
        first: Steps that earlier phases took, which are added to those of the trainer.
    """

    key: str
    first = 0

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Show numbers of a step of this phase."""
        self.row(metrics, self.first + (step or 0))

    def row(self, values: Mapping[str, Any], step: int) -> None:
        """Show numbers of a step of the run; what no chart can show is left out."""
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        self.tell(lambda: self._log(finite, step))

    def figures(self, values: Mapping[str, float], step: int) -> None:
        """Show numbers that stand for the whole run, known at a step."""
        self.row(values, step)

    @abstractmethod
    def settings(self, values: Mapping[str, Any]) -> None:
        """Add to the configuration; JSON types."""

    @abstractmethod
    def show(self, values: Shown, step: int) -> None:
        """Show pictures and tables."""

    @abstractmethod
    def close(self, *, failed: bool = False) -> None:
        """Write what is left."""

    def begin(self, step: int) -> None:
        """Expect values from a step on; what a killed run has shown beyond it comes again."""

    @abstractmethod
    def _log(self, values: Mapping[str, Any], step: int) -> None:
        """Show numbers at a step."""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the configuration is told when something is first shown."""

    def save(self) -> None:
        """Do nothing: both write by themselves."""

    def finalize(self, status: str) -> None:
        """Do nothing: the end of a phase is not that of the run."""


class WandbMirror(WandbRun, MirrorLogger, WandbLogger):
    """Shows a run on W&B; arguments as of `WandbRun`."""

    key = "wandb"

    def __init__(self, *about: Any) -> None:
        WandbLogger.__init__(self)
        WandbRun.__init__(self, *about)
        self._last = 0

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        self._last = max(self._last, step)  # W&B drops what lies before the last step
        self.experiment.log(dict(values), step=self._last)

    def figures(self, values: Mapping[str, float], step: int) -> None:
        """Set the summary."""
        self.tell(lambda: self.experiment.summary.update({k: v for k, v in values.items() if math.isfinite(v)}))

    def settings(self, values: Mapping[str, Any]) -> None:
        """Add to the configuration."""
        self.tell(lambda: WandbLogger.log_hyperparams(self, dict(values)))

    def show(self, values: Shown, step: int) -> None:
        """Add pictures and tables to the history."""

        def media(value: list[Picture] | pd.DataFrame) -> Any:
            import wandb

            if isinstance(value, pd.DataFrame):
                return wandb.Table(dataframe=value)
            return [wandb.Image(each.pixels, caption=each.caption, file_type="jpg") for each in value]

        def log() -> None:
            _ = self.experiment  # W&B makes tables and pictures for a run that is open
            self._log({name: media(value) for name, value in values.items()}, step)

        self.tell(log)


class TensorBoardMirror(MirrorLogger, TensorBoardLogger):
    """Shows a run in TensorBoard's event files: numbers, pictures, parameters; the tables stay in the run directory.

    Args:
        folder: Where the files come.

    Raises:
        ConfigError: If tensorboard is not installed.
    """

    key, title = "tensorboard", "TensorBoard"

    def __init__(self, folder: Path) -> None:
        try:
            super().__init__(folder.parent, name="", version=folder.name)
        except ImportError:
            raise ConfigError("--tensorboard needs tensorboard: pip install 'nucbench[tensorboard]'") from None

    def begin(self, step: int) -> None:
        """Let TensorBoard forget what a killed run has written from this step on."""
        self._kwargs["purge_step"] = step or None

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        TensorBoardLogger.log_metrics(self, values, step)

    def settings(self, values: Mapping[str, Any]) -> None:
        """Write settings as text."""
        self.tell(lambda: [self.experiment.add_text(k, f"`{v}`") for k, v in values.items()])

    def show(self, values: Shown, step: int) -> None:
        """Write pictures."""
        pictures = {f"{k}/{i}": each for k, v in values.items() if isinstance(v, list) for i, each in enumerate(v)}
        self.tell(
            lambda: [self.experiment.add_image(k, each.pixels, step, dataformats="HWC") for k, each in pictures.items()]
        )

    def close(self, *, failed: bool = False) -> None:
        """Close the file."""
        if self._experiment is not None:
            self.tell(self._experiment.close)
