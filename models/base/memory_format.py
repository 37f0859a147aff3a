"""Operations whose gradients keep the memory format.

Convolutions are fastest in channels_last. The gradients of slices, of unpooling and of most losses are always NCHW, and
every sum, activation and convolution behind them then mixes both formats or copies. The functions here have the same
values and gradients, in the format of their input.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class _Crop(torch.autograd.Function):
    """Slice whose gradient keeps the memory format; the gradient of plain slicing is always NCHW."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
        ctx.shape, ctx.corner = x.shape, (top, left)
        return x[..., top : top + height, left : left + width]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        channels_last = gradient.stride(1) == 1
        layout = torch.channels_last if channels_last else torch.contiguous_format
        padded = torch.empty(ctx.shape, dtype=gradient.dtype, device=gradient.device, memory_format=layout).zero_()
        (top, left), (height, width) = ctx.corner, gradient.shape[-2:]
        padded[..., top : top + height, left : left + width] = gradient
        return padded, None, None, None, None


def centre_crop(x: Tensor, size: torch.Size) -> Tensor:
    """Return the central part of (B, C, H, W) with the height and width of `size`, as a view.

    In training the memory format of the gradient is kept. With channels_last, sums with other gradients and the
    convolutions before the crop then have the same format.
    """
    height, width = size[-2:]
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    if x.requires_grad and torch.is_grad_enabled():
        cropped: Tensor = _Crop.apply(x, top, left, height, width)
        return cropped
    return x[..., top : top + height, left : left + width]


class _Unpool(torch.autograd.Function):
    """Unpooling whose gradient is gathered in channels_last."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        return F.max_unpool2d(x, places, [2, 2])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        batch, channels, height, width = places.shape
        # (B, H W, C): dense where the tensors are channels_last
        flat = gradient.permute(0, 2, 3, 1).reshape(batch, -1, channels)
        found = flat.gather(1, places.permute(0, 2, 3, 1).reshape(batch, -1, channels))
        return found.view(batch, height, width, channels).permute(0, 3, 1, 2), None


def unpool(x: Tensor, places: Tensor) -> Tensor:
    """Return ``max_unpool2d`` with a 2 x 2 window: values at the positions of the maxima, 0 elsewhere.

    Args:
        x: (B, C, h, w).
        places: int64 (B, C, h, w), from ``max_pool2d`` with indices.

    Returns:
        (B, C, 2 h, 2 w).
    """
    if x.requires_grad and torch.is_grad_enabled() and places.stride(1) == 1:
        unpooled: Tensor = _Unpool.apply(x, places)
        return unpooled
    return F.max_unpool2d(x, places, [2, 2])


class _Keep(torch.autograd.Function):
    """Identity whose gradient is channels_last."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.contiguous(memory_format=torch.channels_last)


def keep_format(x: Tensor) -> Tensor:
    """Return the input; if it is channels_last, so is its gradient, whatever the operations that follow."""
    learns = x.requires_grad and torch.is_grad_enabled()
    if x.ndim != 4 or not learns or not x.is_contiguous(memory_format=torch.channels_last):
        return x
    kept: Tensor = _Keep.apply(x)
    return kept
