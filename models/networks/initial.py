"""Initial weights that several methods share."""

from __future__ import annotations

import torch
from torch import nn

OUTPUT_SCALE = 0.05
"""Factor of the kernels of `small_output`."""


@torch.no_grad()
def small_output(layer: nn.Conv2d | nn.Linear, value: float = 0.0) -> None:
    """Let the outputs of a regression start close to a value, whatever the layers before give.

    He's and torch's usual distributions give outputs whose spread is of the order of their input's, or far above it
    with few output channels. Where the loss squares the error of an output, or of its gradient, the first steps then
    do nothing but undo that.

    Args:
        layer: The last one, already initialised; its kernel is multiplied by `OUTPUT_SCALE`.
        value: What its bias is set to.
    """
    layer.weight.mul_(OUTPUT_SCALE)
    if layer.bias is not None:
        layer.bias.fill_(value)


__all__ = ["OUTPUT_SCALE", "small_output"]
