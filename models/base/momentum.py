"""`MomentumMethod`: SGD with momentum instead of Adam."""

from __future__ import annotations

import torch
from torch import nn

from models.base.method import NucleiMethod
from models.base.optimizers import kernels_decay

MOMENTUM = 0.9
"""Momentum of SGD (Naylor et al. 2017, section 4)."""


class MomentumMethod(NucleiMethod):
    """A method trained by SGD with momentum.

    Attributes:
        adam: Adam instead of SGD, for short trainings.
    """

    adam: bool = False

    def optimizer(self, parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """Return SGD with momentum, or Adam; `weight_decay` applies to kernels only."""
        if self.adam:
            return super().optimizer(parameters, lr)
        return torch.optim.SGD(kernels_decay(parameters, self.weight_decay), lr=lr, momentum=MOMENTUM)
