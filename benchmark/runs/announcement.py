"""`Announcement`: how long a training phase will take, printed once its first steps are timed."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl

from benchmark.host.progress import duration
from benchmark.runs.phase_keeper import PhaseKeeper

WARM_UP = 3
"""First steps that are not timed: memory is allocated and workers start."""
SECONDS = 10.0
"""Shortest time over which the rate is measured."""
STEPS = 5
"""Smallest number of steps over which the rate is measured."""
WORTH = 60.0
"""Seconds of remaining training from which the estimate is printed."""


class Announcement(pl.Callback):
    """Prints the remaining time of a phase once, without the time for validation.

    Args:
        name: What is trained.
        keeper: Knows the phase, its steps and its time limit.
    """

    def __init__(self, name: str, keeper: PhaseKeeper) -> None:
        self._name, self._keeper = name, keeper
        self._seen = 0
        self._start = 0.0
        self._told = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Time the step, and print the estimate when enough are timed."""
        if self._told or not trainer.is_global_zero:
            return
        now = time.monotonic()
        self._seen += 1
        if self._seen <= WARM_UP:
            self._start = now
            return
        timed, seconds = self._seen - WARM_UP, now - self._start
        if timed < STEPS or seconds < SECONDS:
            return
        self._told = True
        left = self._keeper.total_steps - trainer.global_step
        text = estimate(left, timed / seconds, self._keeper.seconds_left())
        if text:
            crops = self._keeper.phase.batch_size * trainer.world_size * timed / seconds
            print(f"training {self._name}: {text}, at {crops:.3g} crops per second", flush=True)


def estimate(steps: int, rate: float, limit: float | None) -> str:
    """Describe the remaining training; empty if it takes less than `WORTH` seconds.

    Args:
        steps: Remaining steps.
        rate: Steps per second.
        limit: Seconds until the time limit; None = no limit.
    """
    seconds = steps / rate
    if limit is not None and limit < seconds:
        reached = int(limit * rate)
        return f"{duration(limit)} left by --max-minutes, enough for about {reached:,} of {steps:,} steps"
    return f"about {duration(seconds)} left for {steps:,} steps" if seconds >= WORTH else ""


__all__ = ["Announcement", "estimate"]
