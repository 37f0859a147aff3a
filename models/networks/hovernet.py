"""Network of HoVer-Net: pre-activated ResNet-50 encoder and one decoder of dense units per branch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.base.memory_format import centre_crop
from models.base.weights import NONE, State, fold_normalisation, from_timm, initial_state, load_exactly, rename
from models.networks.blocks import Shortcut
from models.networks.initial import small_output

LEVELS = ((3, 1), (4, 2), (6, 2), (3, 2))
"""Residual units and stride of each level of the encoder (section III-A)."""
FEATURES = 64
"""Channels of the first convolution."""
TIMM_NAME = "resnetv2_50.a1h_in1k"
"""Pre-activated ResNet-50 with ImageNet weights in timm."""
TIMM_RULES = (
    (r"^stem\.conv\.", "encoder.stem.conv."),
    (r"^stages\.0\.blocks\.0\.norm1\.", "encoder.stem.norm."),
    # The activation after the last sum of a level belongs to the next level in timm.
    *((rf"^stages\.{k}\.blocks\.0\.norm1\.", f"encoder.levels.{k - 1}.norm.") for k in (1, 2, 3)),
    (r"^norm\.", "encoder.levels.3.norm."),
    (r"^stages\.(\d)\.blocks\.0\.downsample\.conv\.", r"encoder.levels.\1.shortcut."),
    (r"^stages\.(\d)\.blocks\.(\d)\.", r"encoder.levels.\1.units.\2."),
)
"""Renaming from timm's resnetv2_50 to `HoVerNetwork`."""
TIMM_DROP = ("head.",)
_TIMM_KEY = "stem.conv.weight"
"""Name by which weights of timm are recognised."""
OFFICIAL_RULES = (
    (r"^conv0\.(?:/|conv)\.", "encoder.stem.conv."),
    (r"^conv0\.bn\.", "encoder.stem.norm."),
    (r"^d(\d)\.", r"encoder.levels.\1."),
    (r"^conv_bot\.", "bottleneck."),
    (r"^decoder\.(\w+)\.u3\.", r"decoders.\1.deep."),
    (r"^decoder\.(\w+)\.u2\.", r"decoders.\1.shallow."),
    (r"^decoder\.(\w+)\.u1\.conva\.", r"decoders.\1.last."),
    (r"^decoder\.(\w+)\.u0\.bn\.", r"decoders.\1.norm."),
    (r"^decoder\.(\w+)\.u0\.conv\.", r"decoders.\1.out."),
    (r"\.conva\.", ".reduce."),
    (r"\.convf\.", ".expand."),
    (r"\.(?:preact|preact_bna)[/_]bn\.", ".norm1."),
    (r"\.conv1[/_]bn\.", ".norm2."),
    (r"\.conv2[/_]bn\.", ".norm3."),
    (r"\.blk_bna\.bn\.", ".norm."),
)
"""Renaming from the published PyTorch checkpoints of HoVer-Net to `HoVerNetwork`."""
OFFICIAL_DROP = ("upsample2x.", "linear.")


class ResidualUnit(nn.Module):
    """Pre-activated bottleneck of 1 x 1, 3 x 3 and 1 x 1 convolutions (figure 2a), without the sum.

    Args:
        channels_in: Channels of the input.
        width: Channels of the first two convolutions; the last one has four times as many.
        stride: Stride of the 3 x 3 convolution.
        preactivate: False for the first unit of a level, whose input is already activated.
    """

    def __init__(self, channels_in: int, width: int, stride: int, *, preactivate: bool) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels_in) if preactivate else None
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        # The published weights were trained with TensorFlow's padding: at stride 2, only right and bottom.
        self.uneven = stride == 2
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=0 if self.uneven else 1, bias=False)
        self.norm3 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the residual, (B, 4 * width, H / stride, W / stride)."""
        if self.norm1 is not None:
            x = F.relu(self.norm1(x))
        x = F.relu(self.norm2(self.conv1(x)))
        x = F.pad(x, (0, 1, 0, 1)) if self.uneven else x
        x = F.relu(self.norm3(self.conv2(x)))
        return self.conv3(x)  # type: ignore[no-any-return]  # modules are untyped callables


class ResidualLevel(nn.Module):
    """Residual units at one resolution, and the activation after the last sum.

    Args:
        channels_in: Channels of the input.
        width: Channels inside the units; the output has four times as many.
        units: Number of units.
        stride: Stride of the first unit.
    """

    def __init__(self, channels_in: int, width: int, units: int, stride: int) -> None:
        super().__init__()
        self.shortcut = Shortcut(channels_in, 4 * width, stride)
        first = ResidualUnit(channels_in, width, stride, preactivate=False)
        others = (ResidualUnit(4 * width, width, 1, preactivate=True) for _ in range(units - 1))
        self.units = nn.ModuleList([first, *others])
        self.norm = nn.BatchNorm2d(4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 4 * width, H / stride, W / stride)."""
        total = self.shortcut(x) + self.units[0](x)
        for unit in self.units[1:]:
            total = total + unit(total)
        return F.relu(self.norm(total))


class Stem(nn.Module):
    """First convolution, 7 x 7 with stride 1, then normalisation and ReLU.

    Args:
        features: Channels of the output.
        padded: Whether the size is kept; otherwise it shrinks by 3 px on each side.
    """

    def __init__(self, features: int, *, padded: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, features, 7, padding=3 if padded else 0, bias=False)
        self.norm = nn.BatchNorm2d(features)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of images (B, 3, H, W)."""
        return F.relu(self.norm(self.conv(images)))


class Encoder(nn.Module):
    """Preact-ResNet-50 without the first convolution's stride and without pooling: down-sampling by 8.

    Args:
        features: Channels of the first convolution; 64 in ResNet-50.
        padded: Whether the first convolution is padded.
    """

    def __init__(self, features: int = FEATURES, *, padded: bool) -> None:
        super().__init__()
        self.stem = Stem(features, padded=padded)
        channels = features
        levels = []
        for index, (units, stride) in enumerate(LEVELS):
            width = features * 2**index
            levels.append(ResidualLevel(channels, width, units, stride))
            channels = 4 * width
        self.levels = nn.ModuleList(levels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features at down-sampling 1, 2, 4, 8, with 4, 8, 16, 32 times `features` channels."""
        x = self.stem(images)
        levels = []
        for level in self.levels:
            x = level(x)
            levels.append(x)
        return levels


class DenseUnit(nn.Module):
    """Dense unit: a pre-activated 1 x 1 convolution and a grouped valid k x k convolution (figure 2b).

    Args:
        channels_in: Channels of the input.
        width: Channels of the 1 x 1 convolution.
        growth: Channels that the unit adds.
        kernel: Side of the second convolution.
    """

    def __init__(self, channels_in: int, width: int, growth: int, kernel: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, growth, kernel, groups=4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the cropped input concatenated with the new channels; ``kernel - 1`` pixels smaller."""
        new = self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))
        return torch.cat([centre_crop(x, new.shape), new], dim=1)


class DenseBlock(nn.Module):
    """A sequence of dense units and the activation after the last.

    Args:
        channels_in: Channels of the input.
        units: Number of units.
        width: Channels of the 1 x 1 convolutions.
        growth: Channels that each unit adds.
        kernel: Side of the valid convolutions.
    """

    def __init__(self, channels_in: int, units: int, width: int, growth: int, kernel: int) -> None:
        super().__init__()
        self.units = nn.ModuleList(
            DenseUnit(channels_in + index * growth, width, growth, kernel) for index in range(units)
        )
        self.norm = nn.BatchNorm2d(channels_in + units * growth)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, channels_in + units * growth, h, w), ``units * (kernel - 1)`` pixels smaller."""
        for unit in self.units:
            x = unit(x)
        return F.relu(self.norm(x))


class DecoderStage(nn.Module):
    """Valid convolution that reduces the channels, dense block, and 1 x 1 convolution.

    Args:
        channels_in: Channels of the input.
        width: Channels after the first convolution; the output has twice as many.
        units: Number of dense units.
        features: Channels of the encoder's first convolution; the widths of the units are proportional to it.
        kernel: Side of the valid convolutions.
    """

    def __init__(self, channels_in: int, width: int, units: int, features: int, kernel: int) -> None:
        super().__init__()
        growth = features // 2
        self.reduce = nn.Conv2d(channels_in, width, kernel, bias=False)
        self.dense = DenseBlock(width, units, 2 * features, growth, kernel)
        channels = width + units * growth
        self.expand = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features, ``(units + 1) * (kernel - 1)`` pixels smaller."""
        return self.expand(self.dense(self.reduce(x)))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """One branch: nearest-neighbour up-sampling, summed skip connections, blocks of 8 and 4 dense units.

    Args:
        channels_out: Channels of the branch's logits.
        features: Channels of the encoder's first convolution.
        kernel: Side of the convolutions: 5 in mode ``original``, 3 in mode ``fast``.
    """

    def __init__(self, channels_out: int, features: int, kernel: int) -> None:
        super().__init__()
        self.deep = DecoderStage(16 * features, 4 * features, 8, features, kernel)
        self.shallow = DecoderStage(8 * features, 2 * features, 4, features, kernel)
        self.last = nn.Conv2d(4 * features, features, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(features)
        self.out = nn.Conv2d(features, channels_out, 1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Return the logits from the encoder's features, the deepest replaced by those of the bottleneck."""
        x = self.deep(_double(levels[3]) + levels[2])
        x = _double(x)
        x = _double(self.shallow(x + centre_crop(levels[1], x.shape)))
        x = self.last(x + centre_crop(levels[0], x.shape))
        return self.out(F.relu(self.norm(x)))  # type: ignore[no-any-return]


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


class HoVerNetwork(nn.Module):
    """Encoder and branches of HoVer-Net (section III-A, figure 2).

    Args:
        branches: Name of each branch -> channels of its logits.
        fast: Padded variant: 3 x 3 convolutions in the decoders and a padded first convolution.
        features: Channels of the first convolution, 64 in the paper; all other widths are in proportion. It must be a
            multiple of 8 for the grouped convolutions.
    """

    def __init__(self, branches: Mapping[str, int], *, fast: bool = False, features: int = FEATURES) -> None:
        super().__init__()
        kernel = 3 if fast else 5
        self.encoder = Encoder(features, padded=fast)
        self.bottleneck = nn.Conv2d(32 * features, 16 * features, 1, bias=False)
        self.decoders = nn.ModuleDict(
            {name: Decoder(channels, features, kernel) for name, channels in branches.items()}
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        distances = self.decoders["hv"] if "hv" in branches else None
        if isinstance(distances, Decoder):
            small_output(distances.out)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the logits of each branch, (B, C, h, w), of images (B, 3, H, W) in [0, 1]."""
        levels = self.encoder(images)
        levels[3] = self.bottleneck(levels[3])
        return {name: decoder(levels) for name, decoder in self.decoders.items()}


def load_pretrained(network: HoVerNetwork, weights: str) -> None:
    """Load pretrained weights into a network.

    Args:
        network: Network that receives the weights.
        weights: ``imagenet`` for timm's pre-activated ResNet-50 (only the encoder), ``none`` for no change, or the
            path of a file: this ResNet-50 (timm's names), a published HoVer-Net checkpoint or its ImageNet weights
            (PyTorch names), or weights of this suite. A file with decoders is loaded into the whole network, other
            files into the encoder.

    Raises:
        ConfigError: If ImageNet weights are unavailable or the file does not exist.
        DataError: If the file cannot be read or does not fit.
    """
    if weights == NONE:
        return
    state, origin = initial_state(weights, lambda: from_timm(TIMM_NAME))
    if _TIMM_KEY in state:
        load_resnet(network.encoder, state, origin)
        return
    named = _own_names(state)
    if any(name.startswith(("bottleneck.", "decoders.")) for name in named):
        load_exactly(network, named, origin)
    else:
        load_exactly(network.encoder, {name.removeprefix("encoder."): v for name, v in named.items()}, origin)


def load_resnet(encoder: Encoder, state: State, origin: str) -> None:
    """Load timm's pre-activated ResNet-50 into an encoder.

    The weights expect standardised images. The first convolution is changed to take images in [0, 1] (HoVer-Net,
    section V-B).

    Args:
        encoder: Encoder that receives the weights.
        state: State dictionary with timm's names.
        origin: Source of the weights, for messages.

    Raises:
        DataError: If the weights do not fit.
    """
    import timm  # imported here because it is slow to import

    renamed = rename(state, TIMM_RULES, TIMM_DROP)
    load_exactly(encoder, {name.removeprefix("encoder."): value for name, value in renamed.items()}, origin)
    settings = timm.get_pretrained_cfg(TIMM_NAME)
    fold_normalisation(encoder.stem.conv, encoder.stem.norm, settings.mean, settings.std)


def _own_names(state: State) -> State:
    if any(name.startswith("conv0.") for name in state):
        return rename(state, OFFICIAL_RULES, OFFICIAL_DROP)
    return {name.removeprefix("network."): value for name, value in state.items()}
