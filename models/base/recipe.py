"""Training recipes: duration, learning rate and crops."""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from typing import Protocol

from postproc.errors import ConfigError, unknown_name


class Schedule(Protocol):
    """Learning-rate factor over a phase.

    A schedule depends on the completed share of the phase, not on epochs. If a run shortens a phase (steps, epochs,
    minutes), all changes of the rate remain, at the same shares of the phase.
    """

    def __call__(self, progress: float) -> float:
        """Return the factor at the completed share `progress` of the phase, in [0, 1]."""

    def __str__(self) -> str:
        """Return the changes of the initial rate in words, for `describe`; empty if it is constant."""


@dataclass(frozen=True)
class Constant:
    """Constant rate."""

    def __call__(self, progress: float) -> float:
        """Return 1."""
        return 1.0

    def __str__(self) -> str:
        """Return an empty text: the rate does not change."""
        return ""


@dataclass(frozen=True)
class Step:
    """Divide the phase into `parts` equal parts and multiply the rate by `factor` after each part but the last.

    Attributes:
        parts: Number of parts; 2 for a rate that drops after 25 of 50 epochs.
        factor: Factor of each drop.
    """

    parts: int
    factor: float = 0.1

    def __call__(self, progress: float) -> float:
        """Return ``factor ** part``, counting parts from 0."""
        # rounding may leave steps / total * parts slightly below a whole number
        return float(self.factor ** min(int(progress * self.parts + 1e-9), self.parts - 1))

    def __str__(self) -> str:
        """Return the drops."""
        part = {2: "half", 3: "third", 4: "quarter"}.get(self.parts, f"1/{self.parts}")
        return f"times {self.factor:g} after each {part} but the last"


@dataclass(frozen=True)
class Milestones:
    """Factors of the rate that apply from given shares of the phase.

    Attributes:
        factors: (share, factor of the initial rate) in ascending order of shares; the factor is 1 before the first.
    """

    factors: tuple[tuple[float, float], ...]

    @classmethod
    def of_epochs(cls, total: int, factors: tuple[tuple[int, float], ...]) -> Milestones:
        """Build from (epoch, factor) pairs of a phase of `total` epochs; epochs after its end are left out."""
        return cls(tuple((epoch / total, factor) for epoch, factor in factors if epoch < total))

    def __call__(self, progress: float) -> float:
        """Return the factor of the last share reached."""
        return next((factor for share, factor in reversed(self.factors) if progress >= share - 1e-9), 1.0)

    def __str__(self) -> str:
        """Return the factors."""
        return ", ".join(f"times {factor:g} from {share:.0%}" for share, factor in self.factors)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 to 0 over the phase, after a linear warm-up."""

    warmup: float = 0.02

    def __call__(self, progress: float) -> float:
        """Return the factor; `warmup` is the share of the phase in which the rate rises."""
        if progress < self.warmup:
            return max(progress / self.warmup, 0.01)
        done = (progress - self.warmup) / (1 - self.warmup)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    def __str__(self) -> str:
        """Return the shape."""
        return "short linear warm-up, then half a cosine to 0"


SCHEDULES: dict[str, Schedule] = {"constant": Constant(), "cosine": Cosine()}
"""Schedules that a run can select by name instead of the recipe's."""


@dataclass(frozen=True)
class Phase:
    """A part of the training with one optimiser.

    Attributes:
        batch_size: Crops per step (per GPU).
        lr: Learning rate at the start.
        epochs: Passes over the training images, with `Recipe.crops_per_image` crops of each; None if `steps` is given.
        steps: Optimiser steps; None if `epochs` is given.
        schedule: Learning-rate factor over the phase.
        frozen: Name prefixes of parameters that are not trained in this phase.
    """

    batch_size: int
    lr: float
    epochs: int | None = None
    steps: int | None = None
    schedule: Schedule = dataclasses.field(default_factory=Constant)
    frozen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that either epochs or steps are given."""
        if (self.epochs is None) == (self.steps is None):
            raise ConfigError("a training phase needs either epochs or steps")

    def total_steps(self, steps_per_epoch: int) -> int:
        """Return the number of optimiser steps."""
        return self.steps if self.steps is not None else (self.epochs or 0) * steps_per_epoch


@dataclass(frozen=True)
class Recipe:
    """Training settings of a method, as in its paper.

    Attributes:
        crop: Side of the square input crops in pixels.
        phases: Phases in order, each with a new optimiser.
        augment: Name of the augmentation policy (`datamodules.drawing.augment.POLICIES`).
        crops_per_image: Crops drawn from each training image in an epoch.
        patience: Epochs without a better validation loss after which protocol ``strict`` stops; None = never.
        gradient_clip: Maximum norm of the gradient; None = unlimited.
        ema: Decay of the exponential moving average of the weights, which is validated and saved; None = no average.
    """

    crop: int
    phases: tuple[Phase, ...]
    augment: str
    crops_per_image: int = 1
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
        """Return the recipe with the settings of a run instead of the paper's.

        `epochs` and `steps` are totals, divided among the phases in the proportion of the recipe.

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


def describe(recipe: Recipe) -> str:
    """Return a recipe in words, for lists; the cards do not repeat it."""
    from datamodules.drawing.augment import build_policy  # imports torch, which tables and recipes do not need

    phases = "; then ".join(_describe_phase(phase) for phase in recipe.phases)
    text = f"crops of {recipe.crop} px, {recipe.crops_per_image} of each image in an epoch; {phases}"
    policy = build_policy(recipe.augment)
    text += f"; augmentation {policy.name}" + (f" ({policy.summary})" if policy.summary else "")
    if recipe.patience is not None:
        text += f"; stops after {recipe.patience} epochs without a better validation loss"
    if recipe.gradient_clip is not None:
        text += f"; norm of the gradient at most {recipe.gradient_clip:g}"
    if recipe.ema is not None:
        text += f"; moving average of the weights (decay {recipe.ema:g})"
    return text + "."


def _describe_phase(phase: Phase) -> str:
    length = f"{phase.epochs:,} epochs" if phase.epochs is not None else f"{phase.steps:,} steps"
    schedule, frozen = str(phase.schedule), ", ".join(name.rstrip(".") for name in phase.frozen)
    rate = f"learning rate {phase.lr:g}" + (f" ({schedule})" if schedule else "")
    return f"{length} of batch {phase.batch_size}, {rate}" + (f", {frozen} frozen" if frozen else "")


def _shares(total: int | None, lengths: list[float]) -> list[int | None]:
    """Divide `total` in proportion to `lengths`; each share is at least 1, and the sum is `total` if possible."""
    if total is None:
        return [None] * len(lengths)
    bounds = [round(total * sum(lengths[:i]) / sum(lengths)) for i in range(len(lengths) + 1)]
    return [max(1, after - before) for before, after in itertools.pairwise(bounds)]
