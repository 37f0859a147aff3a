"""Building blocks shared by networks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvBlock(nn.Sequential):
    """Two 3 x 3 convolutions, each followed by batch normalisation and ReLU.

    Args:
        channels_in: Channels of the input.
        channels_out: Channels of both convolutions.
        padding: 1 keeps the size, 0 removes 2 px on each side (valid convolutions).
        norm: Whether to normalise batches; the original U-Net does not.
    """

    def __init__(self, channels_in: int, channels_out: int, *, padding: int = 1, norm: bool = True) -> None:
        layers: list[nn.Module] = []
        for channels in (channels_in, channels_out):
            layers.append(nn.Conv2d(channels, channels_out, 3, padding=padding, bias=not norm))
            if norm:
                layers.append(nn.BatchNorm2d(channels_out))
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class UNetBody(nn.Module):
    """U-Net with padded convolutions, without the output layer.

    Ronneberger et al. 2015, section 2, with padding 1, batch normalisation and `features` channels in the first level,
    as in Naylor et al. 2018 (section IV-A).

    Args:
        features: Channels of the first level; doubled at each of the four down-samplings.
        channels_in: Channels of the input.
        depth: Number of down-samplings; the input's sides must be multiples of ``2 ** depth``.
    """

    def __init__(self, features: int, *, channels_in: int = 3, depth: int = 4) -> None:
        super().__init__()
        widths = [features * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            ConvBlock(before, width) for before, width in zip([channels_in, *widths], widths, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * width, width, 2, stride=2) for width in reversed(widths[:-1]))
        self.merge = nn.ModuleList(ConvBlock(2 * width, width) for width in reversed(widths[:-1]))

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, features, H, W) of images (B, channels_in, H, W)."""
        skips: list[Tensor] = []
        x = images
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else self.pool(x))
            skips.append(x)
        skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([skips.pop(), up(x)], dim=1))
        return x


class Shortcut(nn.Conv2d):
    """1 x 1 convolution without bias that down-samples by its stride.

    With a stride above 1, channels_last and a number of channels that is not a multiple of 16, oneDNN's backward pass
    corrupts memory on processors with AVX-512 (observed with torch 2.15 and 8 channels). In this case the pixels are
    sampled before the convolution, which gives the same sums.

    Args:
        channels_in: Channels of the input.
        channels_out: Channels of the output.
        stride: Input pixels per output pixel along each axis.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__(channels_in, channels_out, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, channels_out, H / stride, W / stride), rounded up."""
        step = self.stride[0]
        if step == 1 or self.in_channels % 16 == 0 or x.device.type != "cpu":
            return super().forward(x)
        return F.conv2d(x[..., ::step, ::step], self.weight)


class Float32Conv2d(nn.Conv2d):
    """Convolution in float32 on CPUs, also under autocast, because oneDNN's bfloat16 can be slow or wrong.

    With dilation, on processors with AVX-512 bfloat16, the gradients of kernels are not finite (observed with torch
    2.15 and 25 to 80 channels).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the convolution; float32 on CPUs."""
        if x.device.type != "cpu":
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float())
