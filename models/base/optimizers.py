"""Parameter groups shared by optimisers."""

from __future__ import annotations

from typing import Any

from torch import nn


def kernels_decay(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Group parameters for an optimiser: weight decay applies to kernels, not to biases and batch normalisation."""
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
