"""HoVer-Lite: HoVer-Net's maps from a small pretrained encoder and one shared decoder."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.forward.network import Outputs
from models.base.card import MethodCard, Variant
from models.base.losses import hover_terms
from models.base.method import UNTYPED, Batch, NucleiMethod, Task, learnt_types
from models.base.optimizers import kernels_decay
from models.base.recipe import Cosine, Phase, Recipe
from models.base.weights import IMAGENET
from models.networks.encoders import DEPTH, use_encoder
from models.networks.initial import small_output
from postproc.codecs.hover import HoverCodec
from postproc.errors import ConfigError

WIDTHS = (128, 64, 32, 16, 16)
"""Channels of the U-Net decoder for a width of 1."""


class HoverLite(NucleiMethod):
    """U-Net with an ImageNet encoder and light heads for nuclear pixels, distances to the centre, and types.

    Args:
        task: Types and pixel size of the training data.
        encoder: timm's name of the encoder. Foundation models of pathology, if the user has their licence, are given by
            their name in timm, or by architecture and a local file as `weights`.
        decoder: Decoder of segmentation-models-pytorch: ``unet`` (output at the input's resolution), ``fpn`` or
            ``deeplab`` (output at a quarter of it, interpolated).
        weights: Weights of the encoder: ``imagenet``, ``none``, or the path of a file
            (`models.networks.encoders.load_encoder`).
        depth: Number of down-samplings of the encoder, 3 to 5.
        width: Factor of the channels of the U-Net decoder, 128, 64, 32, 16.
        classify: Whether types are predicted; None = if the data has types.
        weight_decay: Weight decay of the kernels, in AdamW.

    Raises:
        ConfigError: If encoder, decoder and depth do not fit together, or weights are unavailable.
    """

    card = MethodCard(
        name="hover-lite",
        variants=(Variant("hover-lite", "HoVer-Lite"),),
        summary="HoVer-Net's maps from a pretrained EfficientNet-Lite and one shared U-Net decoder.",
        paper="Graham et al., HoVer-Net: Simultaneous Segmentation and Classification of Nuclei in "
        "Multi-Tissue Histology Images, Medical Image Analysis 58, 2019 (outputs, loss, post-processing); the network "
        "and its training are our own",
        url="https://doi.org/10.1016/j.media.2019.101563",
        recipe="Our own: encoder with ImageNet weights; AdamW, weight decay 1e-4; HoVer-Net's proposed loss.",
        tasks=("segmentation", "classification"),
        pretrained="ImageNet (EfficientNet-Lite)",
    )
    small = {"weights": "none", "encoder": "tf_efficientnet_lite0", "width": 0.5}
    recipe = Recipe(
        crop=256,
        phases=(Phase(batch_size=8, lr=1e-3, steps=6000, schedule=Cosine(warmup=0.02)),),
        crops_per_image=32,
        augment="hover-lite",
        gradient_clip=5.0,
        ema=0.999,
    )

    def __init__(
        self,
        task: Task = UNTYPED,
        *,
        encoder: str = "tf_efficientnet_lite1",
        decoder: Literal["unet", "fpn", "deeplab"] = "unet",
        weights: str = IMAGENET,
        depth: int = DEPTH,
        width: float = 1.0,
        classify: bool | None = None,
        weight_decay: float = 1e-4,
    ) -> None:
        super().__init__(task)
        if not 3 <= depth <= len(WIDTHS):
            raise ConfigError(f"depth={depth}: the number of down-samplings must be 3 to {len(WIDTHS)}")
        if width * WIDTHS[-1] < 1:
            raise ConfigError(f"width={width}: the last level would have no channels. Give at least {1 / WIDTHS[-1]}.")
        self.types = learnt_types(task, classify)
        self.weighs_types = bool(self.types)
        self.codecs = {"hover-lite": HoverCodec(self.types)}
        self.weight_decay = weight_decay
        widths = tuple(round(width * w) for w in WIDTHS)
        self.network = use_encoder(self, encoder, weights, widths, decoder=decoder, depth=depth)
        outputs = {"np": 2, "hv": 2} | ({"tp": self.types + 1} if self.types else {})
        self.heads = nn.ModuleDict({name: _head(self.network.channels, count) for name, count in outputs.items()})

    def forward(self, images: Tensor) -> Outputs:
        """Return the outputs for prepared images (B, 3, H, W).

        Returns:
            Logits ``np`` (B, 2, H, W) of background and nucleus, ``hv`` (B, 2, H, W), the horizontal and vertical
            distance, and with types logits ``tp`` (B, T + 1, H, W), 0 = background.
        """
        features = self.network(images)
        outputs = {name: head(features) for name, head in self.heads.items()}
        if self.network.stride == 1:
            return outputs
        size = images.shape[-2:]
        return {
            name: F.interpolate(value.float(), size=size, mode="bilinear", align_corners=False)
            for name, value in outputs.items()
        }

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of HoVer-Net's proposed loss (eq. 1).

        Args:
            outputs: Outputs of `forward`.
            batch: ``np`` int64 (B, H, W), ``hv`` float (B, 2, H, W), and with types ``tp`` int64 (B, H, W).
        """
        return hover_terms(outputs, batch, self.type_weights)

    def activate(self, outputs: Outputs) -> Outputs:
        """Return ``np`` (B, 1, H, W), the probability of nucleus, ``hv``, and with types their probabilities ``tp``."""
        maps = {"np": outputs["np"].softmax(dim=1)[:, 1:], "hv": outputs["hv"]}
        return maps | ({"tp": outputs["tp"].softmax(dim=1)} if self.types else {})

    def optimizer(self, parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """Return AdamW; weight decay applies to kernels only."""
        return torch.optim.AdamW(kernels_decay(parameters, self.weight_decay), lr=lr)


def _head(channels: int, outputs: int) -> nn.Sequential:
    """Return a head of one 3 x 3 and one 1 x 1 convolution whose outputs start near 0."""
    last = nn.Conv2d(channels, outputs, 1)
    small_output(last)
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True), last
    )
