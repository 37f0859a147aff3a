"""What watches a training: loggers that go on where a killed run stopped, the learning rate, pictures."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import CSVLogger, Logger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter

from benchmark.host.files import atomic
from models.base.method import NucleiMethod

EVERY_STEP = 2000
"""Trainings of fewer steps are logged at each step, longer ones at every second, third, ... up to every tenth."""
LOOKS = 4
"""A training is cut into this many parts; after each but the last one, pictures of validation tiles are drawn."""


def log_interval(steps: int) -> int:
    """Return how many optimiser steps lie between two logged ones."""
    return max(1, min(10, steps // EVERY_STEP))


def metrics_file(folder: Path, phase: int) -> Path:
    """Return where the metrics of a phase lie in a run directory."""
    return folder / "logs" / f"phase{phase}" / "metrics.csv"


class _Writer(ExperimentWriter):
    """Lightning's own writer deletes the file of a run that goes on; this one keeps it."""

    def _check_log_dir_exists(self) -> None:
        pass


class ContinuedCSVLogger(CSVLogger):
    """Lightning's CSV logger for a run that goes on.

    Args:
        folder: Run directory.
        phase: Number of the phase.
    """

    def __init__(self, folder: Path, phase: int) -> None:
        super().__init__(str(folder), name="logs", version=f"phase{phase}")
        self._file = metrics_file(folder, phase)
        self._ahead: tuple[int | None, set[str]] = (None, set())

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """What writes the file."""
        if self._experiment is None:
            self._experiment = _Writer(self.log_dir)
        return self._experiment

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Note a row, unless `write_ahead` has written it."""
        if self._ahead != (step, set(metrics)):
            super().log_metrics(dict(metrics), step)

    def write_ahead(self, metrics: Mapping[str, Any], step: int) -> None:
        """Write a row that Lightning is about to log."""
        self.log_metrics(metrics, step)
        self.save()
        self._ahead = (step, set(metrics))

    def go_on_from(self, step: int) -> None:
        """Keep what was logged before a step, and write what comes behind it; to be called before anything is logged.

        What a killed run had logged after its last checkpoint is left out, since it comes again.
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
    """Read a CSV of logged metrics, without empty cells; no rows where it is missing or a line is cut off."""
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
    """Logs the learning rate, lets the CSV file go on, and asks for pictures a few times.

    Args:
        records: The CSV logger.
        begin: Called with the step that training goes on from.
        draw: Takes the method and the step and shows pictures; None = no pictures. Neither ever raises.
    """

    def __init__(
        self,
        records: ContinuedCSVLogger,
        begin: Callable[[int], None],
        draw: Callable[[NucleiMethod, int], None] | None = None,
    ) -> None:
        self._records = records
        self._begin = begin
        self._draw = draw
        self._part = 0
        self._row_is_due = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the CSV file go on where the checkpoint stands."""
        if trainer.is_global_zero:
            self._records.go_on_from(trainer.global_step)
            self._begin(trainer.global_step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the learning rate that the step was taken with."""
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        pl_module.log("lr", float(rate), on_step=True, on_epoch=False, batch_size=1)
        interval = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by Lightning's connector of loggers
        self._row_is_due = trainer.global_step % interval == 0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that the row of the epoch is due."""
        self._row_is_due = True

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write the row of the step or epoch before its checkpoint.

        Lightning writes it after the checkpoint. A process that is stopped in between would lose the row: the next one
        trains from the checkpoint on.
        """
        if self._row_is_due and trainer.is_global_zero:
            metrics = trainer._logger_connector.metrics["log"]  # `logged_metrics` has those of earlier rows too
            self._records.write_ahead({**metrics, "epoch": trainer.current_epoch}, trainer.global_step - 1)
        self._row_is_due = False

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw when another part of the training is done."""
        if self._draw is None or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, NucleiMethod)
        part = int(pl_module.progress * LOOKS)
        if self._part < part < LOOKS:
            self._draw(pl_module, trainer.global_step - 1)  # the step that Lightning logs the validation under
        self._part = max(self._part, part)


def watch(folder: Path, phase: int) -> tuple[list[Logger], list[pl.Callback]]:
    """Return logger and callback of a phase of a training that is shown nowhere but in its run directory."""
    records = ContinuedCSVLogger(folder, phase)
    return [records], [Watch(records, lambda step: None)]
