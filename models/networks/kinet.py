"""Network of KiNet: a residual U-Net with an output block for nuclei and a branch for regions.

Xing et al., IEEE TBME 2019, section III-A. Widths that are illegible in figure 2 are those of the authors' public code.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvUnit(nn.Sequential):
    """Convolution (3 x 3, zero padding), batch normalisation and ELU.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
        stride: 2 halves the size, rounded up.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ELU(inplace=True),
        )


class UpUnit(nn.Sequential):
    """Transposed convolution (3 x 3 for all strides, as in the public code), batch normalisation and ELU.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
        stride: Factor of the size.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 2) -> None:
        super().__init__(
            nn.ConvTranspose2d(inputs, outputs, 3, stride=stride, padding=1, output_padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ELU(inplace=True),
        )


class Residual(nn.Module):
    """Residual block: convolution units whose output is added to their input, then ELU.

    Args:
        channels: Channels of input and output.
        units: Number of convolution units.
        dropout: Share of channels dropped before the units in training.
    """

    def __init__(self, channels: int, units: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.units = nn.Sequential(*[ConvUnit(channels, channels) for _ in range(units)])
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        return F.elu(self.units(self.dropout(features)) + features)


class Down(nn.Sequential):
    """Strided convolution, then a residual block."""

    def __init__(self, inputs: int, outputs: int, units: int, dropout: float = 0.0) -> None:
        super().__init__(ConvUnit(inputs, outputs, stride=2), Residual(outputs, units, dropout))


class Up(nn.Module):
    """Upsampling, concatenation with features of the contraction path, and a residual block.

    Args:
        inputs: Channels of the input.
        hidden: Channels after upsampling.
        skip: Channels of the contraction path; the output has ``hidden + skip`` channels.
        units: Convolution units of the residual block.
    """

    def __init__(self, inputs: int, hidden: int, skip: int, units: int) -> None:
        super().__init__()
        self.up = UpUnit(inputs, hidden)
        self.residual = Residual(hidden + skip, units)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """Return (B, hidden + skip, h, w) at the size of `skip`."""
        features = match(self.up(features), skip.shape[-2:])
        joined: Tensor = self.residual(torch.cat([features, skip], 1))
        return joined


def match(features: Tensor, size: torch.Size) -> Tensor:
    """Pad with zeros, or crop, evenly on both sides to (h, w)."""
    rows, columns = size[0] - features.shape[-2], size[1] - features.shape[-1]
    # negative amounts crop; an odd pixel is removed or added at the end
    before = int(rows / 2), int(columns / 2)
    return F.pad(features, (before[1], columns - before[1], before[0], rows - before[0]))


class RegionBranch(nn.Module):
    """Branch for regions: a further residual block (stride 32), five upsampling blocks, two convolutions.

    Args:
        width: Channels of the first layer of the network.
        classes: Number of region classes.
    """

    def __init__(self, width: int, classes: int = 2) -> None:
        super().__init__()
        w = width
        self.down = Down(8 * w, 8 * w, 2)
        self.ups = nn.ModuleList(
            [
                Up(8 * w, 8 * w, 8 * w, 2),
                Up(16 * w, 8 * w, 8 * w, 2),
                Up(16 * w, 4 * w, 4 * w, 2),
                Up(8 * w, 2 * w, 2 * w, 1),
                Up(4 * w, w, w, 1),
            ]
        )
        self.out = nn.Sequential(ConvUnit(2 * w, w), nn.Conv2d(w, classes, 3, padding=1))

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Return logits (B, classes, H, W) from the features of the contraction path, finest first."""
        features = self.down(levels[-1])
        for up, skip in zip(self.ups, reversed(levels), strict=True):
            features = up(features, skip)
        logits: Tensor = self.out(features)
        return logits


class NucleusBranch(nn.Module):
    """Expansion path, multi-context aggregation and one block of two convolutions per type.

    Args:
        width: Channels of the first layer of the network.
        types: Number of proximity maps.
    """

    def __init__(self, width: int, types: int) -> None:
        super().__init__()
        w = width
        self.ups = nn.ModuleList(
            [
                Up(8 * w, 8 * w, 8 * w, 2),
                Up(16 * w, 4 * w, 4 * w, 2),
                Up(8 * w, 2 * w, 2 * w, 1),
                Up(4 * w, w, w, 1),
            ]
        )
        self.contexts = nn.ModuleList([UpUnit(16 * w, 2 * w, stride=8), UpUnit(8 * w, 2 * w, stride=4)])
        # one grouped convolution is equivalent to one convolution per type
        self.out = nn.Sequential(ConvUnit(6 * w, w * types), nn.Conv2d(w * types, types, 3, padding=1, groups=types))

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Return proximity maps (B, types, H, W) from the features of the contraction path, finest first."""
        features = levels[-1]
        expanded = []
        for up, skip in zip(self.ups, levels[-2::-1], strict=True):
            features = up(features, skip)
            expanded.append(features)
        size = levels[0].shape[-2:]
        wider = [match(up(context), size) for up, context in zip(self.contexts, expanded, strict=False)]
        maps: Tensor = self.out(torch.cat([features, *wider], 1))
        return maps


class KiNetNetwork(nn.Module):
    """Shared contraction path with the two branches.

    Args:
        types: Number of proximity maps.
        roi: Whether to build the region branch.
        width: Channels of the first layer.
        dropout: Dropout rate in the last two blocks of the contraction path.
    """

    def __init__(self, types: int, roi: bool = True, width: int = 32, dropout: float = 0.5) -> None:
        super().__init__()
        w = width
        self.contraction = nn.ModuleList(
            [
                ConvUnit(3, w),
                Down(w, 2 * w, 1),
                Down(2 * w, 4 * w, 2),
                Down(4 * w, 8 * w, 2, dropout),
                Down(8 * w, 8 * w, 2, dropout),
            ]
        )
        self.nuclei = NucleusBranch(w, types)
        self.regions = RegionBranch(w) if roi else None

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return ``proximity`` (B, types, H, W) and, with the region branch, logits ``regions`` (B, 2, H, W).

        Args:
            images: float (B, 3, H, W), any size.
        """
        levels: list[Tensor] = []
        for block in self.contraction:
            levels.append(block(levels[-1] if levels else images))
        outputs = {"proximity": self.nuclei(levels)}
        if self.regions is not None:
            outputs["regions"] = self.regions(levels)
        return outputs
