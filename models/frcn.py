"""FRCN: fully residual convolutional network that regresses proximity maps (Xie et al. 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.forward.network import Outputs
from models.base.card import MethodCard, Variant
from models.base.method import UNTYPED, Batch, Task
from models.base.points import SHARED_DEVIATIONS, TRAINING, PointsMethod
from models.kinet import AMPLITUDE, weighted_errors
from models.networks.kinet import match
from postproc.codecs.points import PointsCodec
from postproc.windows import Geometry

FEATURES = 32
"""Channels of the first block."""


class PreUnit(nn.Sequential):
    """Pre-activated unit: batch normalisation, activation, and a convolution that keeps the size.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
        kernel: Side of the kernel, odd.
        activation: Activation before the convolution; None = ELU.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, activation: nn.Module | None = None) -> None:
        super().__init__(
            nn.BatchNorm2d(inputs),
            activation or nn.ELU(inplace=True),
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2),
        )


class ScaledResidual(nn.Module):
    """Two units of 3 x 3 convolutions, scaled and added to their input.

    Args:
        channels: Channels of input and output.
        scaling: Factor of the output of the units before the sum.
        dropout: Dropout rate of channels between the units.
    """

    def __init__(self, channels: int, scaling: float, dropout: float) -> None:
        super().__init__()
        self.units = nn.Sequential(
            PreUnit(channels, channels, 3), nn.Dropout2d(dropout), PreUnit(channels, channels, 3)
        )
        self.scaling = scaling

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        return x + self.scaling * self.units(x)  # type: ignore[no-any-return]  # modules are untyped callables


class FRCNNetwork(nn.Module):
    """Four poolings and four interpolations with residual blocks between them; no skip connections.

    Args:
        maps: Number of proximity maps.
        features: Channels of the first block; they double up to eight times as many.
        scaling: Factor of each residual.
        dropout: Dropout rate of channels in each residual block.
    """

    def __init__(self, maps: int, features: int = FEATURES, scaling: float = 0.3, dropout: float = 0.33) -> None:
        super().__init__()
        f = features

        def residual(channels: int) -> ScaledResidual:
            return ScaledResidual(channels, scaling, dropout)

        self.down = nn.ModuleList(
            [
                nn.Sequential(PreUnit(3, f, 1), residual(f)),
                nn.Sequential(PreUnit(f, 2 * f, 1), residual(2 * f), nn.MaxPool2d(2), residual(2 * f)),
                nn.Sequential(PreUnit(2 * f, 4 * f, 1), nn.MaxPool2d(2), residual(4 * f)),
                nn.Sequential(PreUnit(4 * f, 8 * f, 1), nn.MaxPool2d(2), residual(8 * f)),
                nn.Sequential(nn.MaxPool2d(2), residual(8 * f)),
            ]
        )
        widths = ((8 * f, 8 * f), (8 * f, 4 * f), (4 * f, 2 * f), (2 * f, f))
        self.up = nn.ModuleList(
            nn.Sequential(PreUnit(before, after, 1, nn.ReLU(inplace=True)), residual(after)) for before, after in widths
        )
        self.head = PreUnit(f, maps, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return maps (B, maps, H, W), at least 0, of images (B, 3, H, W), whose sides are at least 16 px."""
        sizes = []
        x = images
        for block in self.down:
            x = block(x)
            sizes.append(x.shape[-2:])
        for block, size in zip(self.up, reversed(sizes[:-1]), strict=True):
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = block(match(x, size))
        return F.relu(self.head(x))


class FRCN(PointsMethod):
    """FRCN.

    Args:
        task: Types and pixel size of the training data; there is one proximity map per type.
        features: Channels of the first block; 32 in the authors' public code.
        scaling: Factor of each residual.
        dropout: Dropout rate of channels in each residual block.
        weighting: Weight of the mean proximity in the loss (lambda).
    """

    card = MethodCard(
        name="frcn",
        variants=(Variant("frcn", "FRCN"),),
        summary="Residual encoder and decoder without skip connections, regressing a proximity map per nucleus type.",
        paper="Xie et al., Efficient and Robust Cell Detection: A Structured Regression Approach, Medical Image "
        "Analysis 2018",
        url="https://doi.org/10.1016/j.media.2017.07.003",
        recipe=TRAINING + " Weighted squared error of the proximity maps (equation 2 of KiNet's paper, which adopts it "
        "from FRCN), weight 5 of the mean.",
        deviations=(
            *SHARED_DEVIATIONS,
            "The layers are those of the FRCN in the public code of KiNet's authors (github.com/exhh/ada_ki67). "
            "According to that code, they are those trained for the paper rather than those described in it.",
            "One map per type instead of one map: the comparison reports classes without saying how FRCN predicts "
            "them.",
            "The loss, averaged over pixels, and the proximity, scaled by 5, are those of KiNet and of the public "
            "code of FRCN.",
            "The public code trains FRCN with learning rate 0.001 and crops standardised by ImageNet's statistics.",
        ),
        tasks=("detection", "classification"),
        needs="points",
    )
    small = {"features": 8, "dropout": 0.0}

    def __init__(
        self,
        task: Task = UNTYPED,
        *,
        features: int = FEATURES,
        scaling: float = 0.3,
        dropout: float = 0.33,
        weighting: float = 5.0,
    ) -> None:
        super().__init__(task)
        codec = PointsCodec(len(task.types))
        self.codecs = {"frcn": codec}
        # half of the receptive field, whose outer part has hardly any influence
        self.geometry = Geometry(multiple=1, context=64, minimum=32)
        self.weighting = weighting
        self.network = FRCNNetwork(codec.channels, features, scaling, dropout)

    def forward(self, images: Tensor) -> Outputs:
        """Return ``proximity`` (B, T, H, W), `AMPLITUDE` at centres, of prepared images (B, 3, H, W)."""
        return {"proximity": self.network(images)}

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted squared error; it is 0 for images without points.

        Args:
            outputs: Outputs of `forward`.
            batch: ``proximity`` float (B, T, H, W) and ``has_points`` float (B,).
        """
        errors = weighted_errors(outputs["proximity"], batch["proximity"], self.weighting)
        return {"nuclei": torch.mean(batch["has_points"] * errors)}

    def activate(self, outputs: Outputs) -> Outputs:
        """Return the proximity maps, 1 at centres."""
        return {"proximity": outputs["proximity"] / AMPLITUDE}
