"""Training recipes: how long, how fast, on what crops."""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from typing import Protocol

from postproc.errors import ConfigError, unknown_name


class Schedule(Protocol):
    """Learning-rate factor over a phase."""

    def __call__(self, epoch: int, progress: float) -> float:
        """Return the factor for 0-based `epoch`; `progress` in [0, 1] is the share of the phase that is done."""


@dataclass(frozen=True)
class Constant:
    """The same rate throughout."""

    def __call__(self, epoch: int, progress: float) -> float:
        """Return 1."""
        return 1.0


@dataclass(frozen=True)
class Step:
    """Multiply the rate by `factor` every `every` epochs."""

    every: int
    factor: float = 0.1

    def __call__(self, epoch: int, progress: float) -> float:
        """Return ``factor ** (epoch // every)``."""
        return float(self.factor ** (epoch // self.every))


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 to 0 over the phase, after a linear warm-up."""

    warmup: float = 0.02

    def __call__(self, epoch: int, progress: float) -> float:
        """Return the factor; `warmup` is the share of the phase spent rising."""
        if progress < self.warmup:
            return max(progress / self.warmup, 0.01)
        done = (progress - self.warmup) / (1 - self.warmup)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


SCHEDULES: dict[str, Schedule] = {"constant": Constant(), "cosine": Cosine()}
"""Schedules that a run can ask for by name instead of the recipe's own."""


@dataclass(frozen=True)
class Phase:
    """A stretch of training with one optimiser.

    Attributes:
        batch_size: Crops per step (per GPU).
        lr: Learning rate at the start.
        epochs: Passes over the training images, `Recipe.crops_per_image` crops of each; None where `steps` is given.
        steps: Optimiser steps; None where `epochs` is given.
        schedule: Learning-rate factor over the phase.
        frozen: Prefixes of the names of parameters that are not trained in this phase.
    """

    batch_size: int
    lr: float
    epochs: int | None = None
    steps: int | None = None
    schedule: Schedule = dataclasses.field(default_factory=Constant)
    frozen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that the length is given once."""
        if (self.epochs is None) == (self.steps is None):
            raise ConfigError("a training phase needs either epochs or steps")

    def total_steps(self, steps_per_epoch: int) -> int:
        """Return the number of optimiser steps."""
        return self.steps if self.steps is not None else (self.epochs or 0) * steps_per_epoch


@dataclass(frozen=True)
class Recipe:
    """How a method is trained, as its paper says.

    Attributes:
        crop: Side of the square input crops in px.
        phases: Trained one after the other, each with a fresh optimiser.
        crops_per_image: Crops drawn from each training image in an epoch.
        augment: Name of the augmentation policy (`datamodules.augment.POLICIES`).
        patience: Epochs without a better validation loss after which protocol ``strict`` stops; None = never.
        gradient_clip: Largest norm of the gradient; None = unlimited.
        ema: Decay of the exponential moving average of the weights, with which validation and the result are made;
            None = the weights themselves.
    """

    crop: int
    phases: tuple[Phase, ...]
    crops_per_image: int = 1
    augment: str = "paper"
    patience: int | None = None
    gradient_clip: float | None = None
    ema: float | None = None

    def override(
        self,
        *,
        crop: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        epochs: int | None = None,
        steps: int | None = None,
        schedule: str | None = None,
        augment: str | None = None,
        crops_per_image: int | None = None,
        ema: float | None = None,
    ) -> Recipe:
        """Return the recipe with what a run asked for in place of the paper's.

        `epochs` and `steps` are totals, divided over the phases in the recipe's proportion.

        Raises:
            ConfigError: If both lengths are given or the schedule is unknown.
        """
        if epochs is not None and steps is not None:
            raise ConfigError("give either epochs or steps, not both")
        if schedule is not None and schedule not in SCHEDULES:
            raise unknown_name("schedule", schedule, SCHEDULES)
        lengths = [float(phase.epochs or phase.steps or 0) for phase in self.phases]
        shares = _shares(epochs if epochs is not None else steps, lengths)
        phases = []
        for phase, share in zip(self.phases, shares, strict=True):
            new = dataclasses.replace(phase, batch_size=batch_size or phase.batch_size, lr=lr or phase.lr)
            if schedule is not None:
                new = dataclasses.replace(new, schedule=SCHEDULES[schedule])
            if share is not None:
                wanted = (share, None) if epochs is not None else (None, share)
                new = dataclasses.replace(new, epochs=wanted[0], steps=wanted[1])
            phases.append(new)
        return dataclasses.replace(
            self,
            phases=tuple(phases),
            crop=crop or self.crop,
            augment=augment or self.augment,
            crops_per_image=crops_per_image or self.crops_per_image,
            ema=self.ema if ema is None else ema or None,
        )


def _shares(total: int | None, lengths: list[float]) -> list[int | None]:
    """Divide `total` in proportion to `lengths`; each share is at least 1 and they add up where they can."""
    if total is None:
        return [None] * len(lengths)
    bounds = [round(total * sum(lengths[:i]) / sum(lengths)) for i in range(len(lengths) + 1)]
    return [max(1, after - before) for before, after in itertools.pairwise(bounds)]
