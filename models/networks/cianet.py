"""Network of CIA-Net: DenseNet-121 encoder and two decoders that exchange features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import DenseNet

from models.base.weights import IMAGENET, NONE, check_width, from_torchvision, initial_state, load_exactly, rename
from postproc.errors import ConfigError

FEATURES = 64
"""Channels of DenseNet-121's first convolution."""
BLOCKS = (6, 12, 24, 16)
"""Dense layers of each block of DenseNet-121."""
HEADS = ("object", "contour")
TORCHVISION_RULES = (
    (r"^features\.", ""),
    # The weights have older names: the module "norm.1" is now "norm1".
    (r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2."),
)
TORCHVISION_DROP = ("classifier.",)


def unit(channels_in: int, channels_out: int) -> nn.Sequential:
    """Return a 3 x 3 convolution that keeps the size, batch normalisation and ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class DenseEncoder(nn.Module):
    """DenseNet-121 without its pooling after the first convolution, and without its classifier.

    Args:
        features: Channels of the first convolution; 64 in DenseNet-121. The growth rate is half of it.
        stride: Stride of the first convolution, 1 or 2.
    """

    def __init__(self, features: int = FEATURES, stride: int = 1) -> None:
        super().__init__()
        self.layers = DenseNet(features // 2, BLOCKS, features).features
        self.layers.conv0.stride = (stride, stride)
        channels, self.widths = features, []
        for block in BLOCKS:
            channels += block * (features // 2)
            self.widths.append(channels)
            channels //= 2

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features of the four dense blocks, finest first.

        Returns:
            Features with `widths` channels, at 1, 2, 4 and 8 times the stride of the first convolution.
        """
        levels = []
        x = images
        for name, layer in self.layers.named_children():
            if name == "pool0":
                continue
            x = layer(x)
            if name.startswith("denseblock"):
                levels.append(x)
        levels[-1] = F.relu(x)  # after the last normalisation
        return levels


class Aggregation(nn.Module):
    """Information aggregation module: smooth the features of both tasks, fuse them, refine each task (section 2.1).

    Args:
        channels: Channels of the features of each task, in the input and the result.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.smooth = nn.ModuleList(unit(channels, channels) for _ in range(2))
        self.fuse = unit(2 * channels, channels)
        self.refine = nn.ModuleList(unit(channels, channels) for _ in range(2))

    def forward(self, nuclei: Tensor, contour: Tensor) -> tuple[Tensor, Tensor]:
        """Return the refined features of both tasks, of the same shape (B, C, h, w)."""
        fused = self.fuse(torch.cat([self.smooth[0](nuclei), self.smooth[1](contour)], dim=1))
        return self.refine[0](fused), self.refine[1](fused)


class Level(nn.Module):
    """One level of both decoders: up-sampling, lateral connections, and aggregation.

    Args:
        channels_in: Channels of each decoder's features.
        channels_lateral: Channels of the encoder's features.
        channels: Channels of the result.
    """

    def __init__(self, channels_in: int, channels_lateral: int, channels: int) -> None:
        super().__init__()
        self.below = nn.ModuleList(nn.Conv2d(channels_in, channels, 1) for _ in range(2))
        self.lateral = nn.ModuleList(nn.Conv2d(channels_lateral, channels, 1) for _ in range(2))
        self.aggregate = Aggregation(channels)
        self.heads = nn.ModuleList(nn.Conv2d(channels, 1, 1) for _ in range(2))

    def forward(self, x: tuple[Tensor, Tensor], lateral: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Return both tasks' features at the resolution of the lateral connection, twice that of `x`, and logits.

        The logits are (B, 2, h, w), nuclei and contour.
        """
        nuclei, contour = (
            F.interpolate(below(task), scale_factor=2, mode="bilinear", align_corners=False) + side(lateral)
            for below, side, task in zip(self.below, self.lateral, x, strict=True)
        )
        refined = self.aggregate(nuclei, contour)
        return refined, torch.cat([head(task) for head, task in zip(self.heads, refined, strict=True)], dim=1)


class CIANetwork(nn.Module):
    """CIA-Net (Zhou et al. 2019, figure 2).

    Args:
        features: Channels of the encoder's first convolution, 64 in the paper; all other widths are in proportion.
        stride: Stride of the first convolution, 1 or 2.
    """

    def __init__(self, features: int = FEATURES, stride: int = 1) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise ConfigError(f"stride={stride}: choose 1 or 2")
        if features < 2 or features % 2:
            raise ConfigError(f"features={features}: must be even, since a dense layer adds half of them")
        self.stride = stride
        self.encoder = DenseEncoder(features, stride)
        channels = 4 * features
        laterals = self.encoder.widths[-2::-1]
        belows = [self.encoder.widths[-1], channels, channels]
        self.levels = nn.ModuleList(
            Level(below, lateral, channels) for below, lateral in zip(belows, laterals, strict=True)
        )
        for module in self.levels.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Return the logits of each level, finest first, of images (B, 3, H, W).

        Args:
            images: H and W are multiples of 8 times the stride of the first convolution.

        Returns:
            Three times ``object`` and ``contour``, (B, 1, H, W), coarser levels enlarged.
        """
        laterals = self.encoder(images)
        x = (laterals[-1], laterals[-1])
        found = []
        for index, level in enumerate(self.levels):
            x, logits = level(x, laterals[-2 - index])
            whole = F.interpolate(logits, size=images.shape[-2:], mode="bilinear")
            found.append({name: whole[:, channel, None] for channel, name in enumerate(HEADS)})
        return found[::-1]


def load_pretrained(network: CIANetwork, weights: str, features: int) -> None:
    """Load the weights of DenseNet-121 into the encoder.

    Args:
        network: Network that receives the weights.
        weights: ``imagenet``, ``none`` for no change, or the path of a file with torchvision's names.
        features: Channels of the first convolution.

    Raises:
        ConfigError: If ImageNet weights do not fit `features` or are unavailable, or the file does not exist.
        DataError: If the file cannot be read or does not fit.
    """
    if weights == NONE:
        return
    if weights == IMAGENET:
        check_width(weights, features, FEATURES, "DenseNet-121")
    state, origin = initial_state(weights, lambda: from_torchvision("densenet121"))
    load_exactly(network.encoder.layers, rename(state, TORCHVISION_RULES, TORCHVISION_DROP), origin)
