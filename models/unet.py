"""U-Net with valid convolutions and a border weight map (Ronneberger et al. 2015)."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.forward.network import Outputs
from models.base.card import MethodCard, Variant
from models.base.card_texts import ENCODER_OPTION, GLOROT, HOVERNET_COMPARISON, adam_instead
from models.base.losses import cross_entropy
from models.base.memory_format import centre_crop
from models.base.method import UNTYPED, Batch, NucleiMethod, Task
from models.base.recipe import Phase, Recipe, Step
from models.base.weights import IMAGENET
from models.networks.blocks import ConvBlock
from models.networks.bodies import unet_body
from postproc.codecs.binary import BinaryDynamicsCodec, DynamicsParams
from postproc.codecs.binary_watershed import BorderedObjectCodec
from postproc.windows import Geometry

LEVELS = 5


class ValidUNet(nn.Module):
    """The published U-Net (figure 1): unpadded 3 x 3 convolutions, cropped skip connections, 572 -> 388 px.

    Args:
        features: Channels of the first level, doubled at each of the four down-samplings; 64 in the paper.
        channels_out: Channels of the logits.
        dropout: Dropout rate after the two deepest levels of the contracting path.
    """

    def __init__(self, features: int = 64, channels_out: int = 2, dropout: float = 0.5) -> None:
        super().__init__()
        widths = [features * 2**level for level in range(LEVELS)]
        self.down = nn.ModuleList(
            ConvBlock(before, width, padding=0, norm=False) for before, width in zip([3, *widths], widths, strict=False)
        )
        self.dropout = nn.Dropout(dropout)
        rising = widths[-2::-1]
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * width, width, 2, stride=2) for width in rising)
        self.merge = nn.ModuleList(ConvBlock(2 * width, width, padding=0, norm=False) for width in rising)
        self.head = nn.Conv2d(features, channels_out, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                _initialise(module)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (B, channels_out, H - 184, W - 184), of images (B, 3, H, W)."""
        skips: list[Tensor] = []
        x = images
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            if level >= LEVELS - 2:
                x = self.dropout(x)
            skips.append(x)
        skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = up(x)
            x = merge(torch.cat([centre_crop(skips.pop(), x.shape), x], dim=1))
        return self.head(x)  # type: ignore[no-any-return]  # modules are untyped callables


def _initialise(module: nn.Conv2d | nn.ConvTranspose2d) -> None:
    """Draw weights with standard deviation sqrt(2 / N), N = number of inputs of an output (section 3); biases are 0."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    else:  # stride = size of the kernel: each output depends on one pixel of each input channel
        nn.init.normal_(module.weight, std=(2 / module.in_channels) ** 0.5)
    if module.bias is not None:
        nn.init.zeros_(module.bias)


class UNet(NucleiMethod):
    """U-Net.

    Args:
        task: Types and pixel size of the training data; types are ignored.
        features: Channels of the first level; 64 in the paper.
        dropout: Dropout rate at the end of the contracting path.
        weight_decay: L2 penalty on kernels.
        encoder: Name of a timm encoder, over which the body is a U-Net of segmentation-models-pytorch; None = the
            paper's network. Its output is as large as the input, and it has no dropout.
        weights: Weights of the encoder: ``imagenet``, ``none``, or the path of a file
            (`models.networks.encoders.load_encoder`).

    Raises:
        ConfigError: If the encoder is unknown, or weights are unavailable.
    """

    card = MethodCard(
        name="unet",
        variants=(
            Variant("unet", "U-Net", ("UNet", "U-net")),
            Variant("unet-pp", "U-Net + PP", ("UNet + PP",)),
        ),
        summary="Encoder and decoder with skip connections; border weights separate touching nuclei.",
        paper="Ronneberger et al., U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI 2015",
        url="https://doi.org/10.1007/978-3-319-24574-4_28",
        recipe=HOVERNET_COMPARISON + "; cross-entropy with the border weight map.",
        deviations=(
            adam_instead("with momentum 0.99 and batch 1"),
            "31.0 M parameters, as in U-Net's paper; the network of that comparison has 37.0 M. Here up-sampling "
            "halves the channels; there it keeps them.",
            "Initial weights are those of He et al., as in U-Net's paper; " + GLOROT,
            "Crops are drawn at random, 144 of each image in an epoch: as many as the comparison of HoVer-Net cuts "
            "from an image of 1000 x 1000 px on a grid of 84 px.",
            "The row U-Net is decoded as in the public code of that comparison: holes filled, 4-connected components "
            "of at least 10 px. U-Net's paper takes components unchanged.",
            ENCODER_OPTION + " Its convolutions are padded, and it trains on inputs of 256 px, 16 per image and epoch, "
            "which give as much output.",
        ),
    )
    small = {"features": 8}
    recipe = Recipe(
        crop=268,
        phases=(Phase(batch_size=8, lr=1e-4, epochs=240, schedule=Step(parts=2)),),
        crops_per_image=144,
        augment="hovernet",
    )

    def __init__(
        self,
        task: Task = UNTYPED,
        *,
        features: int = 64,
        dropout: float = 0.5,
        weight_decay: float = 1e-5,
        encoder: str | None = None,
        weights: str = IMAGENET,
    ) -> None:
        super().__init__(task)
        self.codecs = {
            "unet": BorderedObjectCodec(),
            "unet-pp": BinaryDynamicsCodec(split=True, params=DynamicsParams(p1=11.0)),
        }
        self.geometry = Geometry(margin=92, multiple=16, remainder=12, minimum=188)
        self.weight_decay = weight_decay
        self.network = unet_body(self, encoder, weights, features, lambda: ValidUNet(features, dropout=dropout))
        if encoder is not None:
            self.recipe = dataclasses.replace(self.recipe, crop=256, crops_per_image=16)
            self.network = nn.Sequential(self.network, nn.Conv2d(features, 2, 1))

    def forward(self, images: Tensor) -> Outputs:
        """Return the logits ``foreground``, (B, 2, h, w), of prepared images (B, 3, H, W)."""
        return {"foreground": self.network(images)}

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted cross-entropy (section 3, eq. 1).

        Args:
            outputs: Outputs of `forward`.
            batch: ``foreground`` int64 (B, h, w) and ``weight`` float (B, h, w).
        """
        return {"ce": cross_entropy(outputs["foreground"], batch["foreground"], batch["weight"])}

    def activate(self, outputs: Outputs) -> Outputs:
        """Return ``foreground`` (B, 1, h, w), the probability of nucleus."""
        return {"foreground": outputs["foreground"].softmax(dim=1)[:, 1:]}
