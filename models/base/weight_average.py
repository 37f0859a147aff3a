"""`WeightAverage`: exponential moving average of the weights of a network during training."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor


class WeightAverage(pl.Callback):
    """Exponential moving average of weights and batch statistics, used in validation.

    After n steps the decay is ``min(decay, (1 + n) / (10 + n))``, so that the influence of the initial weights fades
    quickly. The average is part of the checkpoint, so that an interrupted run resumes with it.

    Args:
        decay: Factor of the average in each step, in (0, 1).
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self._average: dict[str, Tensor] = {}
        self._current: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed run needs."""
        return {"steps": self.steps, "average": self._average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state returned by `state_dict`."""
        self.steps, self._average = state_dict["steps"], state_dict["average"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start from the current weights, or move a restored average to the device."""
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
        """Restore the weights for training."""
        if self._current:
            _copy(self._current, pl_module)
            self._current = {}

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the average in the network."""
        if self._average:
            self.apply(pl_module)

    def apply(self, module: pl.LightningModule) -> None:
        """Replace the weights of a network by the average."""
        _copy(self._average, module)

    def weights(self) -> dict[str, Tensor]:
        """Return the average as a state dictionary."""
        return self._average


@torch.no_grad()
def _copy(source: dict[str, Tensor], module: pl.LightningModule) -> None:
    for name, value in module.state_dict().items():
        value.copy_(source[name])


__all__ = ["WeightAverage"]
