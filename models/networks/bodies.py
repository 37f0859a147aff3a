"""Body of a U-Net method: the paper's own network, or a U-Net over a pretrained encoder."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from benchmark.forward.network import Network
from models.base.weights import IMAGENET, NONE
from postproc.errors import ConfigError


def unet_body(
    method: Network, encoder: str | None, weights: str, features: int, own: Callable[[], nn.Module]
) -> nn.Module:
    """Return a network without output layer: (B, 3, H, W) -> (B, features, H, W).

    Args:
        method: Method that uses the body. With an encoder, its geometry and input normalisation are set.
        encoder: timm's name of the encoder; None = the network of the paper.
        weights: Weights of the encoder, see `models.networks.encoders.load_encoder`; not used without an encoder.
        features: Channels of the output. With an encoder, the decoder has 8, 4, 2 and 1 times as many.
        own: Builds the network of the paper.

    Raises:
        ConfigError: If the encoder is unknown, weights are unavailable, or a weights file is given without an encoder.
        DataError: If a weights file does not fit the encoder.
    """
    if encoder is None:
        if weights not in (IMAGENET, NONE):
            raise ConfigError(f"weights={weights!r} are those of an encoder; name it too, for example encoder=resnet18")
        return own()
    if encoder == NONE:  # tables would name the row after it
        raise ConfigError("encoder=none: leave the option out for the network of the paper")
    from models.networks.encoders import DEPTH, use_encoder  # segmentation-models-pytorch takes seconds to import

    widths = tuple(features * 2**level for level in reversed(range(DEPTH)))
    return use_encoder(method, encoder, weights, widths)
