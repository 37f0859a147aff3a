"""`WeightAverage`: exponential moving average of a network's weights during training."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor


class WeightAverage(pl.Callback):
    """Keeps an exponential moving average of weights and batch statistics; validation runs with it.

    After n steps the decay is ``min(decay, (1 + n) / (10 + n))``, so that the random start is soon forgotten. The
    average is part of the checkpoint: an interrupted run resumes with it.

    Args:
        decay: Share of the average that a step keeps, in (0, 1).
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self._average: dict[str, Tensor] = {}
        self._current: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know."""
        return {"steps": self.steps, "average": self._average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.steps, self._average = state_dict["steps"], state_dict["average"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin with the weights as they are, or move a restored average to the device."""
        state = pl_module.state_dict()
        source = self._average or state
        self._average = {name: source[name].to(value.device, copy=True) for name, value in state.items()}

    @torch.no_grad()
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Move the average towards the weights."""
        self.steps += 1
        share = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        state = pl_module.state_dict()
        moving = [name for name, value in state.items() if value.is_floating_point()]
        torch._foreach_lerp_([self._average[n] for n in moving], [state[n] for n in moving], share)
        for name in state.keys() - set(moving):  # counters
            self._average[name].copy_(state[name])

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate with the average."""
        if self._average:
            self._current = {name: value.clone() for name, value in pl_module.state_dict().items()}
            self.apply(pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Train on with the weights themselves."""
        if self._current:
            _copy(self._current, pl_module)
            self._current = {}

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the average in the network."""
        if self._average:
            self.apply(pl_module)

    def apply(self, module: pl.LightningModule) -> None:
        """Put the average into a network in place of its weights."""
        _copy(self._average, module)

    def weights(self) -> dict[str, Tensor]:
        """Return the average as a state dictionary."""
        return self._average


@torch.no_grad()
def _copy(source: dict[str, Tensor], module: pl.LightningModule) -> None:
    for name, value in module.state_dict().items():
        value.copy_(source[name])


__all__ = ["WeightAverage"]
