"""VGG16 without its classifier (Simonyan and Zisserman 2015, configuration D), and its mirror image."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.vgg import make_layers

from models.base.memory_format import unpool
from models.base.weights import (
    IMAGENET,
    NONE,
    State,
    check_width,
    from_torchvision,
    initial_state,
    load_exactly,
    rename,
)
from postproc.errors import ConfigError, DataError

FEATURES = 64
"""Channels of the first stage of VGG16."""
WIDTHS = (1, 2, 4, 8, 8)
"""Channels of each stage, as multiples of those of the first."""
DEPTHS = (2, 2, 3, 3, 3)
"""Convolutions of each stage."""
VGG16 = tuple(
    factor for width, depth in zip(WIDTHS, DEPTHS, strict=True) for factor in (*(width for _ in range(depth)), 0)
)
"""Channels of the convolutions, as multiples of those of the first; 0 = max-pooling."""
STRIDE = 2 ** len(WIDTHS)
"""Side of a cell of the last stage in input pixels."""
HIDDEN = 64
"""Channels of the two hidden layers of the classifier, as multiples of those of the first stage."""
CELLS = 7
"""Side in cells of the input of VGG16's classifier: an image of 224 px."""


def stage(widths: Sequence[int], *, norm: bool, mirrored: bool = False) -> nn.Sequential:
    """Build 3 x 3 convolutions of stride 1 that keep the size, each followed by ReLU.

    Args:
        widths: Channels of the input and of each convolution.
        norm: Whether to normalise batches before each ReLU.
        mirrored: Transposed convolutions instead of convolutions.
    """
    kind = nn.ConvTranspose2d if mirrored else nn.Conv2d
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [kind(before, after, 3, padding=1), *([nn.BatchNorm2d(after)] if norm else []), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class VGGEncoder(nn.Module):
    """The 13 convolutions of VGG16, in five stages that each end with a pooling.

    The layers are torchvision's, divided at the poolings, whose indices the decoders of SegNet and DeconvNet need.

    Args:
        features: Channels of the first stage; 64 in VGG16.
        norm: Whether to normalise batches after each convolution.

    Raises:
        ConfigError: If `features` is less than 1.
    """

    def __init__(self, features: int = FEATURES, *, norm: bool = False) -> None:
        super().__init__()
        if features < 1:
            raise ConfigError(f"features={features}: give at least 1; VGG16 has {FEATURES}")
        stages: list[list[nn.Module]] = [[]]
        for layer in make_layers([features * width if width else "M" for width in VGG16], batch_norm=norm):
            if isinstance(layer, nn.MaxPool2d):
                stages.append([])
            else:
                stages[-1].append(layer)
        self.stages = nn.ModuleList(nn.Sequential(*layers) for layers in stages if layers)

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the output of each stage after its pooling, and the indices of the maxima.

        Args:
            images: (B, 3, H, W), with sides that are multiples of 32 px.

        Returns:
            Maps (B, channels, H / s, W / s) and their indices (int64, same shapes), s = 2, 4, 8, 16, 32.
        """
        maps, places = [], []
        x = images
        for block in self.stages:
            x, index = F.max_pool2d(block(x), 2, return_indices=True)
            maps.append(x)
            places.append(index)
        return maps, places


class UnpoolingDecoder(nn.Module):
    """The mirrored encoder: each stage unpools values to the positions of the maxima, then applies convolutions.

    Args:
        features: Channels of the encoder's first stage.
        depth: Convolutions of the last stage.
        mirrored: Transposed convolutions (DeconvNet) instead of convolutions (SegNet).
    """

    def __init__(self, features: int, *, depth: int, mirrored: bool) -> None:
        super().__init__()
        widths = [features * width for width in (WIDTHS[0], *WIDTHS)]
        depths = [depth, *DEPTHS[1:]]
        self.stages = nn.ModuleList(
            stage([widths[level + 1]] * depths[level] + [widths[level]], norm=True, mirrored=mirrored)
            for level in reversed(range(len(WIDTHS)))
        )

    def forward(self, x: Tensor, places: list[Tensor]) -> Tensor:
        """Return (B, features, H, W).

        Args:
            x: (B, 8 * features, H / 32, W / 32).
            places: Indices of the encoder's poolings, first stage first.
        """
        for block, index in zip(self.stages, reversed(places), strict=True):
            x = block(unpool(x, index))
        return x


def initialise(network: nn.Module, heads: Sequence[nn.Module] = ()) -> None:
    """Draw random weights: He et al. for layers before a ReLU, Glorot for `heads`; biases are 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            if any(module is head for head in heads):
                nn.init.xavier_uniform_(module.weight)
            else:
                _initialise_he(module)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _initialise_he(module: nn.Conv2d | nn.ConvTranspose2d) -> None:
    """Draw the weights of He et al.; for a transposed kernel torch swaps the meaning of fan_in and fan_out."""
    mode: Literal["fan_in", "fan_out"] = "fan_in" if isinstance(module, nn.Conv2d) else "fan_out"
    nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")


def load_pretrained(network: nn.Module, weights: str, *, features: int, norm: bool) -> None:
    """Load pretrained weights into a network that begins with a VGG16.

    Args:
        network: Network with a `VGGEncoder` named ``encoder``. Layers ``fc6`` and ``fc7``, if present, receive the two
            hidden layers of the classifier, as convolutions of 7 x 7 and 1 x 1 cells (Long et al. 2015, section 3.1).
        weights: ``imagenet``, ``none``, or a file with the weights of torchvision's VGG16 or of the whole network.
        features: Channels of the first stage.
        norm: Whether the encoder normalises batches.

    Raises:
        ConfigError: If the weights are unavailable, or the width of the network differs from VGG16.
        DataError: If the file does not fit.
    """
    if weights == NONE:
        return
    if weights == IMAGENET:
        check_width(weights, features, FEATURES, "VGG16")
    state, origin = initial_state(weights, lambda: from_torchvision("vgg16_bn" if norm else "vgg16"))
    state = rename(state, [(r"^network\.", "")])
    if any(name.startswith("encoder.") for name in state):
        load_exactly(network, state, origin)
        return
    check_width(weights, features, FEATURES, "VGG16")
    load_features(network.get_submodule("encoder"), state, origin)
    for name, layer in (("fc6", "classifier.0."), ("fc7", "classifier.3.")):
        if hasattr(network, name):
            module = network.get_submodule(name)
            load_exactly(module, _as_convolution(module, state, layer), origin)


def load_features(encoder: nn.Module, state: State, origin: str) -> None:
    """Load the convolutions of torchvision's VGG16, with or without batch normalisation.

    Args:
        encoder: Module with the layers of VGG16 in the same order, under any names.
        state: State dictionary with torchvision's names; the classifier is ignored.
        origin: Source of the weights, for messages.

    Raises:
        DataError: If the weights do not fit.
    """
    load_exactly(encoder, _encoder_state(encoder, state, origin), origin)


def _encoder_state(encoder: nn.Module, state: State, origin: str) -> State:
    """Rename torchvision's ``features.N`` to the names of the encoder; both are in the order of the layers."""
    own = [name for name, module in encoder.named_modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
    theirs = sorted({int(name.split(".")[1]) for name in state if name.startswith("features.")})
    if len(own) != len(theirs):
        raise DataError(
            f"{origin}: contains {len(theirs)} layers named features.N, expected the {len(own)} of torchvision's "
            f"{'vgg16_bn' if len(own) > sum(DEPTHS) else 'vgg16'}. Give the weights of that network."
        )
    names = dict(zip(theirs, own, strict=True))
    renamed = {}
    for name, value in state.items():
        if name.startswith("features."):
            _, number, leaf = name.split(".")
            renamed[f"{names[int(number)]}.{leaf}"] = value
    return renamed


def _as_convolution(module: nn.Module, state: State, layer: str) -> State:
    """Return a fully connected layer of `state` as the state of a convolution, if the sizes agree."""
    found = {name.removeprefix(layer): value for name, value in state.items() if name.startswith(layer)}
    kernel = module.get_parameter("weight")
    if "weight" in found and found["weight"].numel() == kernel.numel():
        found["weight"] = found["weight"].reshape(kernel.shape)
    return found
