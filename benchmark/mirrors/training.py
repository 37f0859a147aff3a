"""Logging of a training: a CSV file that resumes after an interruption, the learning rate, pictures."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import CSVLogger, Logger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.utilities import rank_zero_only

from benchmark.host.files import atomic
from models.base.method import NucleiMethod

EVERY_STEP = 2000
"""Trainings of up to twice this many steps log every step, longer ones every second, third, ... up to tenth step."""
LOOKS = 4
"""Number of parts of a phase; pictures of validation images are drawn after each part except the last."""


def log_interval(steps: int) -> int:
    """Return the number of optimiser steps between two logged steps."""
    return max(1, min(10, steps // EVERY_STEP))


def metrics_file(folder: Path, phase: int) -> Path:
    """Return the file of the metrics of a phase in a run directory."""
    return folder / "logs" / f"phase{phase}" / "metrics.csv"


class _Writer(ExperimentWriter):
    """Keeps the file of a resumed run, which the writer of Lightning would delete."""

    def _check_log_dir_exists(self) -> None:
        pass


class ContinuedCSVLogger(CSVLogger):
    """CSV logger of Lightning that appends to the file of a resumed run.

    Args:
        folder: Run directory.
        phase: Number of the phase.
        forward: Called with every row and its step; must not raise.
    """

    def __init__(
        self, folder: Path, phase: int, forward: Callable[[Mapping[str, Any], int], None] | None = None
    ) -> None:
        super().__init__(str(folder), name="logs", version=f"phase{phase}")
        self._file = metrics_file(folder, phase)
        self._ahead: tuple[int | None, set[str]] = (None, set())
        self._forward = forward

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """Writer of the file."""
        if self._experiment is None:
            self._experiment = _Writer(self.log_dir)
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add a row, unless `write_ahead` has written it already."""
        if self._ahead == (step, set(metrics)):
            return
        super().log_metrics(dict(metrics), step)
        if self._forward is not None:
            self._forward(metrics, step or 0)

    def write_ahead(self, metrics: Mapping[str, Any], step: int) -> None:
        """Write a row that Lightning is about to log."""
        self.log_metrics(metrics, step)
        self.save()
        self._ahead = (step, set(metrics))

    def go_on_from(self, step: int) -> None:
        """Keep the rows before a step and append later ones; call this before logging.

        Rows that a killed run logged after its last checkpoint are dropped, because the resumed run logs them again.
        """
        experiment = self.experiment
        rows = [row for row in read_metrics(self._file) if row["step"] < step]
        if not rows:
            self._file.unlink(missing_ok=True)
        else:
            names = sorted({name for row in rows for name in row})
            with atomic(self._file, "w") as file:
                writer = csv.DictWriter(file, names)
                writer.writeheader()
                writer.writerows(rows)
            experiment.metrics_keys = names


def read_metrics(file: Path) -> list[dict[str, float]]:
    """Read logged metrics from CSV, without empty cells, up to the first damaged line; empty if the file is missing."""
    rows = []
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            for line in csv.DictReader(stream):
                row = {name: float(value) for name, value in line.items() if name and value}
                if "step" in row:
                    rows.append(row)
    except (OSError, ValueError, csv.Error):
        return rows
    return rows


class Watch(pl.Callback):
    """Logs the learning rate, resumes the CSV file, and requests pictures a few times.

    Args:
        records: CSV logger.
        begin: Called with the first step; must not raise.
        draw: Called with a step to show pictures; must not raise. None = no pictures.
    """

    def __init__(
        self,
        records: ContinuedCSVLogger,
        begin: Callable[[int], None],
        draw: Callable[[int], None] | None = None,
    ) -> None:
        self._records = records
        self._begin = begin
        self._draw = draw
        self._part = 0
        self._row_is_due = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Resume the CSV file at the step of the checkpoint."""
        if trainer.is_global_zero:
            self._records.go_on_from(trainer.global_step)
            self._begin(trainer.global_step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the learning rate of the step."""
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        pl_module.log("lr", float(rate), on_step=True, on_epoch=False, batch_size=1)
        interval = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by the logger connector of Lightning
        self._row_is_due = trainer.global_step % interval == 0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Mark the row of the epoch as due."""
        self._row_is_due = True

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write the row of the step or epoch before its checkpoint.

        Lightning writes it after the checkpoint. A process killed in between would lose the row, because the resumed
        training starts after that step.
        """
        if self._row_is_due and trainer.is_global_zero:
            metrics = trainer._logger_connector.metrics["log"]  # `logged_metrics` also contains earlier rows
            self._records.write_ahead({**metrics, "epoch": trainer.current_epoch}, trainer.global_step - 1)
        self._row_is_due = False

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Request pictures when another part of the phase is done."""
        if self._draw is None or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, NucleiMethod)
        part = int(pl_module.progress * LOOKS)
        if self._part < part < LOOKS:
            self._draw(trainer.global_step - 1)  # the step at which Lightning logs the validation
        self._part = max(self._part, part)


def watch(folder: Path, phase: int) -> tuple[list[Logger], list[pl.Callback]]:
    """Return logger and callback of a phase of a training without mirrors."""
    records = ContinuedCSVLogger(folder, phase)
    return [records], [Watch(records, lambda step: None)]
