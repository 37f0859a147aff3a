"""`PhaseKeeper`: time, progress, checkpoints and best weights of one training phase."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO

from benchmark.host import signals
from benchmark.host.files import atomic
from benchmark.results.run import Run
from benchmark.results.spec import LOSS
from datamodules.sources import Bookmark
from models.base.method import NucleiMethod
from models.base.weight_average import WeightAverage
from postproc.errors import DataError, NucbenchError

SEED_STEP = 1_000_003
"""Difference between the seeds of two consecutive phases."""
SAVE_SECONDS = 60.0
"""Minimum time in seconds between two checkpoints."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints to a temporary file first, so that an existing one is always complete, even on a full disk."""

    def save_checkpoint(self, checkpoint: Mapping[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint atomically."""
        with atomic(Path(path)) as file:
            torch.save(dict(checkpoint), file)


class PhaseKeeper(pl.Callback):
    """Records time and progress of one phase, and saves checkpoints and the best weights.

    Checkpoints are written between steps: at the end of the phase, after `SAVE_SECONDS`, and when the process is asked
    to stop. Each step sets its own seed, so a resumed run takes the same steps as an uninterrupted one.

    Args:
        run: The run.
        index: Number of the phase.
        total_steps: Optimiser steps of the phase.
        minutes: Time limit of the phase; None = no limit.
        bookmark: Position of the phase in its training samples, updated here.
        average: Moving average of the weights, used for the best weights; None = the weights themselves.
    """

    def __init__(
        self,
        run: Run,
        index: int,
        total_steps: int,
        minutes: float | None,
        bookmark: Bookmark,
        average: WeightAverage | None = None,
    ) -> None:
        self.total_steps = total_steps
        self.elapsed = 0.0
        self.epochs = 0
        self.batches = 0
        self.steps = 0
        self.monitor = run.spec.overrides.monitor or LOSS
        self.best = math.inf if self.monitor == LOSS else -math.inf
        self.best_epoch = -1
        self.finished = False
        self.average = average
        self._step = 0
        self._seed = run.spec.seed + SEED_STEP * index
        self._run_id = run.store.run_id
        self._bookmark = bookmark
        self.phase = run.recipe.phases[index]
        self._limit = None if minutes is None else 60 * minutes
        self._strict = run.strict
        self._patience = run.recipe.patience if run.strict else None
        self._last_tick = self._last_save = time.monotonic()
        self._checkpoint = run.store.checkpoints / f"phase{index}.ckpt"
        self.best_file = run.store.checkpoints / f"phase{index}-best.pt"

    def share(self) -> float:
        """Return the completed share of the phase, by steps or by time, whichever is larger."""
        share = self._step / self.total_steps
        if self._limit is not None:
            share = max(share, self.elapsed / self._limit)
        return min(share, 1.0)

    def seconds_left(self) -> float | None:
        """Return the seconds until the time limit of the phase; None if there is no limit."""
        return None if self._limit is None else max(0.0, self._limit - self.elapsed)

    def result(self, steps: int) -> dict[str, Any]:
        """Return the summary of the phase after `steps` optimiser steps."""
        best = self.best if math.isfinite(self.best) else None  # not finite: stopped before the first validation
        return {
            "steps": steps,
            "minutes": round(self.elapsed / 60, 2),
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "val_loss": best if self._strict and self.monitor == LOSS else None,
        } | ({f"val_{self.monitor}": best} if self.monitor != LOSS else {})

    def resume_from(self) -> Path | None:
        """Return the checkpoint to resume from, or None.

        Raises:
            DataError: If the checkpoint cannot be read.
        """
        if not self._checkpoint.exists():
            return None
        try:
            torch.load(self._checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:
            raise DataError(
                f"the checkpoint {self._checkpoint} cannot be read ({type(error).__name__}). Delete it to train this "
                "phase from its beginning."
            ) from error
        return self._checkpoint

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a resumed run."""
        names = ("elapsed", "epochs", "batches", "steps", "best", "best_epoch", "finished")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state from `state_dict`."""
        for name, value in state_dict.items():
            setattr(self, name, value)
        self._bookmark.epoch, self._bookmark.batches = self.epochs, self.batches

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        signals.listen_again()  # Lightning has just replaced the SIGTERM handler and would exit within a step
        self._last_tick = self._last_save = time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Make loggers count steps as the optimiser does.

        Lightning counts one step twice when it resumes at the end of an epoch, and logs all later steps one too high.
        """
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the randomness inside the network (dropout) and record the step."""
        key = np.random.SeedSequence((self._seed, self.epochs, batch_idx, trainer.global_rank))
        torch.manual_seed(int(key.generate_state(1)[0]))
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure time, stop at the limit, reject a loss that is not finite, save, and stop on a signal."""
        now = time.monotonic()
        self.elapsed += now - self._last_tick
        self._last_tick = now
        self.batches = batch_idx + 1
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if not torch.isfinite(loss).all():
            raise NucbenchError(
                f"the loss became {float(loss)} at step {trainer.global_step} of {self._run_id}. The last good "
                f"checkpoint is kept; try a smaller learning rate (now {self.phase.lr}) or --precision 32-true."
            )
        if self._limit is not None and _any(trainer, self.elapsed >= self._limit):
            trainer.should_stop = True
        last = trainer.is_last_batch or trainer.should_stop or trainer.global_step >= self.total_steps
        if not last:  # otherwise on_train_epoch_end follows and saves if necessary
            self._pause(trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop on a signal; the last checkpoint remains."""
        self._stop_if_asked(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Choose the best weights, stop early and save."""
        if trainer.global_step == self.steps:
            return  # Lightning repeats the end of an epoch if a run resumes there
        self.steps = trainer.global_step
        self.epochs += 1
        self.batches = 0
        self._bookmark.epoch, self._bookmark.batches = self.epochs, 0
        if self._strict:
            self._validate(trainer, pl_module)
        self.finished = trainer.global_step >= self.total_steps or trainer.should_stop
        self._pause(trainer)

    def _pause(self, trainer: pl.Trainer) -> None:
        """Save if due, and stop on a signal."""
        due = self.finished or signals.asked() is not None or time.monotonic() - self._last_save >= SAVE_SECONDS
        if _any(trainer, due):
            trainer.save_checkpoint(self._checkpoint)
            self._last_save = time.monotonic()
        self._stop_if_asked(trainer)

    def _stop_if_asked(self, trainer: pl.Trainer) -> None:
        if _any(trainer, signals.asked() is not None):
            raise signals.Stopped(signals.asked() or signal.SIGTERM)  # or the signal of another process

    def _validate(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, NucleiMethod)
        value = self._monitored(trainer, module)
        if value is None:
            return
        if value < self.best if self.monitor == LOSS else value > self.best:
            self.best, self.best_epoch = value, trainer.current_epoch
            if trainer.is_global_zero:
                with atomic(self.best_file) as file:
                    torch.save(self.average.weights() if self.average else module.state_dict(), file)
        elif self._patience is not None and trainer.current_epoch - self.best_epoch >= self._patience:
            trainer.should_stop = True

    def _monitored(self, trainer: pl.Trainer, module: NucleiMethod) -> float | None:
        """Return the monitored value of this epoch, or None.

        A missing loss means that training stopped within its first epoch; the last weights are kept. Scores exist only
        after some epochs.
        """
        if self.monitor != LOSS:
            return module.validation_scores.get(self.monitor)
        if "val/loss" not in trainer.callback_metrics:
            return None
        return float(trainer.strategy.reduce(trainer.callback_metrics["val/loss"], reduce_op="mean"))


def _any(trainer: pl.Trainer, wish: bool) -> bool:
    """Return whether any training process requests an action, so that all act at one step."""
    return bool(trainer.strategy.reduce_boolean_decision(wish, all=False))


__all__ = ["SAVE_SECONDS", "SEED_STEP", "AtomicCheckpointIO", "PhaseKeeper"]
