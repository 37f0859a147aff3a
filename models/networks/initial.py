"""Initial weights shared by several methods."""

from __future__ import annotations

import torch
from torch import nn

OUTPUT_SCALE = 0.05
"""Factor applied to the kernels by `small_output`."""


@torch.no_grad()
def small_output(layer: nn.Conv2d | nn.Linear, value: float = 0.0) -> None:
    """Make the initial outputs of a regression close to a value, independent of the preceding layers.

    With the initial weights of He et al. or of torch, the spread of the outputs is of the order of that of the inputs,
    or much larger if there are few output channels. If the loss squares the error of an output, or of its gradient,
    the first training steps only reduce this spread.

    Args:
        layer: Last layer, already initialised; its kernel is multiplied by `OUTPUT_SCALE`.
        value: New value of its bias.
    """
    layer.weight.mul_(OUTPUT_SCALE)
    if layer.bias is not None:
        layer.bias.fill_(value)


__all__ = ["OUTPUT_SCALE", "small_output"]
