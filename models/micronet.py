"""Micro-Net: several resolutions of input and output (Raza et al. 2019)."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.forward.network import BATCH_PIXELS, Outputs
from models.base.card import MethodCard, Variant
from models.base.card_texts import HOVERNET_COMPARISON, RANDOM_CROPS
from models.base.losses import cross_entropy
from models.base.method import UNTYPED, Batch, NucleiMethod, Task, learnt_types
from models.base.recipe import Phase, Recipe, Step
from postproc.codecs.contour import ErodedCodec
from postproc.errors import ConfigError
from postproc.windows import Geometry

EPOCHS = 250
LEVELS = 4
SIDE = 252
"""Side of the input in pixels; at other sizes, the levels of encoder and decoder do not match."""
CONTEXT = 46
"""Pixels at the border of a window that are taken from the neighbouring window, if there is one."""
OUTPUTS = ("main", "auxiliary_1", "auxiliary_2", "auxiliary_3")
"""The output, and the outputs at 1/2, 1/4 and 1/8 of the resolution."""


def convolution(channels_in: int, channels_out: int, *, norm: bool = False) -> nn.Sequential:
    """Return a valid 3 x 3 convolution, tanh and, if `norm`, batch normalisation."""
    layers: list[nn.Module] = [nn.Conv2d(channels_in, channels_out, 3), nn.Tanh()]
    if norm:
        layers.append(nn.BatchNorm2d(channels_out))
    return nn.Sequential(*layers)


class Down(nn.Module):
    """Group 1: convolutions and pooling, and a bypass: convolutions of the image at the resolution after pooling.

    Args:
        channels_in: Channels of the previous level.
        width: Channels of the convolutions; the result has twice as many.
    """

    def __init__(self, channels_in: int, width: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            convolution(channels_in, width, norm=True), convolution(width, width), nn.MaxPool2d(2)
        )
        self.bypass = nn.Sequential(convolution(3, width, norm=True), convolution(width, width))

    def forward(self, x: Tensor, images: Tensor) -> Tensor:
        """Return (B, 2 width, (h - 4) / 2, (w - 4) / 2), given `x` (B, C, h, w) and the images (B, 3, H, W)."""
        size = [(side + 4) // 2 for side in x.shape[-2:]]
        # In float32: not all devices implement bicubic interpolation in half precision.
        resized = F.interpolate(images.float(), size=size, mode="bicubic", align_corners=False)
        return torch.cat([self.main(x), self.bypass(resized)], dim=1)


class Up(nn.Module):
    """Group 3: up-sampling and a skip connection, each with a transposed 5 x 5 convolution.

    Args:
        channels_in: Channels of the level below.
        channels_skip: Channels of the skip connection.
        width: Channels of the result.
    """

    def __init__(self, channels_in: int, channels_skip: int, width: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(channels_in, width, 2, stride=2),
            convolution(width, width),
            convolution(width, width),
            nn.ConvTranspose2d(width, width, 5),
        )
        self.skip = nn.ConvTranspose2d(channels_skip, width, 5)
        self.merge = nn.Sequential(nn.Conv2d(2 * width, width, 1), nn.Tanh())

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Return (B, width, 2 h, 2 w), given `x` (B, C, h, w) and the skip connection of 2 h - 4 by 2 w - 4."""
        return self.merge(torch.cat([self.main(x), self.skip(skip)], dim=1))  # type: ignore[no-any-return]


class MicroNetwork(nn.Module):
    """Micro-Net: input and output of 252 px (Raza et al. 2019, section 2, figure 1).

    No other size is possible: valid convolutions reduce the deepest level from 12 to 8 px, up-sampling enlarges it to
    16 px, and the transposed convolution enlarges the skip connection of 12 px by 4.

    Args:
        channels_out: Number of classes.
        features: Channels of the first convolution, 64 in the paper; all other widths are in proportion.
        dropout: Dropout rate before each output.
    """

    def __init__(self, channels_out: int = 2, features: int = 64, dropout: float = 0.5) -> None:
        super().__init__()
        widths = [features * 2**level for level in range(LEVELS)]
        self.down = nn.ModuleList(
            Down(3 if level == 0 else 2 * widths[level - 1], width) for level, width in enumerate(widths)
        )
        deepest = 4 * widths[-1]
        self.bottom = nn.Sequential(convolution(2 * widths[-1], deepest), convolution(deepest, deepest))
        self.up = nn.ModuleList()
        below = deepest
        for width in reversed(widths):
            self.up.append(Up(below, 2 * width, 2 * width))
            below = 2 * width
        # Group 4: the last three levels, enlarged to full resolution.
        self.enlarge = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(2 * width, width, factor, stride=factor), convolution(width, width))
            for width, factor in zip(widths[:3], (2, 4, 8), strict=True)
        )
        # Group 5: the output and three auxiliary outputs.
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(width, channels_out, 3))
            for width in (sum(widths[:3]), *widths[:3])
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # all have a bias

    def forward(self, images: Tensor) -> Outputs:
        """Return the logits `OUTPUTS`, (B, channels_out, 252, 252) each, of images (B, 3, 252, 252)."""
        skips: list[Tensor] = []
        x = images
        for down in self.down:
            x = down(x, images)
            skips.append(x)
        x = self.bottom(x)
        levels: list[Tensor] = []
        for up in self.up:
            x = up(x, skips.pop())
            levels.append(x)
        enlarged = [enlarge(level) for enlarge, level in zip(self.enlarge, levels[::-1], strict=False)]
        sources = [torch.cat(enlarged, dim=1), *enlarged]
        return {name: head(source) for name, head, source in zip(OUTPUTS, self.heads, sources, strict=True)}


class MicroNet(NucleiMethod):
    """Micro-Net.

    Args:
        task: Types and pixel size of the training data.
        classify: Whether types are predicted, with one output channel for each type and one for background (Graham et
            al. 2019, section V-E); None = if the data has types. The paper's network has two channels.
        features: Channels of the first convolution; 64 in the paper.
        dropout: Dropout rate before each output.
        weight_decay: L2 penalty on kernels.

    Raises:
        ConfigError: If types are requested but the data has none.
    """

    card = MethodCard(
        name="micronet",
        variants=(Variant("micronet", "Micro-Net"),),
        summary="Encoder that sees the image at five resolutions; decoder with outputs at three.",
        paper="Raza et al., Micro-Net: A Unified Model for Segmentation of Various Objects in Microscopy Images, "
        "Medical Image Analysis 52, 2019",
        url="https://doi.org/10.1016/j.media.2018.12.003",
        recipe=HOVERNET_COMPARISON + "; cross-entropy with the border weights of U-Net (w0 10, sigma 5); the weight of "
        "the auxiliary losses is 1 / epoch, of 250 epochs in all, as in its public code.",
        deviations=(
            "The network, with tanh and with batch normalisation after the first convolution of each branch of group "
            "1, is as published by the authors' laboratory (TIAToolbox); the text of the paper was unavailable to us. "
            "It has 184.4 M parameters. The network of the comparison of HoVer-Net, whose figures the tables show, "
            "has 192.6 M: it uses ReLU, keeps the channels when it enlarges features, and fuses the classes of the "
            "three outputs instead of their features.",
            "Targets and post-processing are those of the comparison: nuclei are eroded by one pixel; holes are "
            "filled, components under 10 px dropped, and the others dilated by one pixel. TIAToolbox drops components "
            "under 50 px.",
            "With types, the components are those of all types together, and each has its most frequent type.",
            "Dropout drops channels, as in TIAToolbox. Kernels start from Glorot's random weights, biases from 0.",
            RANDOM_CROPS,
            "Windows of 252 px overlap by at least 92 px, and each pixel is taken from the window whose centre is "
            "nearer. The comparison places windows side by side, as does inference with the published tiles here.",
        ),
        tasks=("segmentation", "classification"),
    )
    small = {"features": 4, "dropout": 0.0}
    recipe = Recipe(
        crop=252,
        phases=(Phase(batch_size=4, lr=1e-4, epochs=EPOCHS, schedule=Step(parts=2)),),
        crops_per_image=16,
        augment="hovernet",
    )

    def __init__(
        self,
        task: Task = UNTYPED,
        *,
        classify: bool | None = False,
        features: int = 64,
        dropout: float = 0.5,
        weight_decay: float = 1e-5,
    ) -> None:
        super().__init__(task)
        self.types = learnt_types(task, classify)
        self.weighs_types = bool(self.types)
        self.codecs = {"micronet": ErodedCodec(self.types)}
        self.geometry = Geometry(context=CONTEXT, minimum=SIDE)
        self.weight_decay = weight_decay
        self.network = MicroNetwork(max(self.types, 1) + 1, features, dropout)

    def forward(self, images: Tensor) -> Outputs:
        """Return the logits of prepared images (B, 3, H, W).

        Returns:
            `OUTPUTS`, (B, C, H, W) each, for 252 x 252 px; only ``main``, assembled from windows, for larger images.

        Raises:
            ConfigError: In training, if the images are not 252 x 252 px.
        """
        height, width = images.shape[-2:]
        if height == width == SIDE:
            return self.network(images)  # type: ignore[no-any-return]  # modules are untyped callables
        if self.training:
            raise ConfigError(f"crop={height}: Micro-Net trains on crops of {SIDE} px. Use crop={SIDE}.")
        main = images.new_empty(len(images), max(self.types, 1) + 1, height, width)
        windows = list(itertools.product(_spans(height), _spans(width)))
        number = max(1, BATCH_PIXELS // (len(images) * SIDE**2))
        for start in range(0, len(windows), number):
            group = windows[start : start + number]
            batch = torch.cat([images[..., y : y + SIDE, x : x + SIDE] for (y, _, _), (x, _, _) in group])
            logits = self.network(batch.contiguous(memory_format=torch.channels_last))["main"]
            for (rows, columns), found in zip(group, logits.split(len(images)), strict=True):
                (top, first_row, last_row), (left, first_column, last_column) = rows, columns
                kept = found[..., first_row - top : last_row - top, first_column - left : last_column - left]
                main[..., first_row:last_row, first_column:last_column] = kept
        return {"main": main}

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted cross-entropies; the weight of the auxiliary outputs decreases.

        Args:
            outputs: Outputs of `forward`.
            batch: ``foreground`` int64 (B, H, W) and ``weight`` float (B, H, W).
        """
        terms = {
            name: cross_entropy(logits, batch["foreground"], batch["weight"], classes=self.type_weights)
            for name, logits in outputs.items()
        }
        share = self.auxiliary_weight()
        return {name: value if name == "main" else share * value for name, value in terms.items()}

    def auxiliary_weight(self) -> float:
        """Return 1 / epoch, counting epochs from 1, at the completed share of the training."""
        return 1 / (int(self.progress * EPOCHS) + 1)

    def activate(self, outputs: Outputs) -> Outputs:
        """Return ``foreground`` (B, C, H, W), the probabilities of the classes."""
        return {"foreground": outputs["main"].softmax(dim=1)}


def _spans(extent: int) -> list[tuple[int, int, int]]:
    """Cover an axis of at least `SIDE` px with windows; return (start, first kept, last kept + 1) of each."""
    gaps = math.ceil((extent - SIDE) / (SIDE - 2 * CONTEXT))
    starts = [i * (extent - SIDE) // max(gaps, 1) for i in range(gaps + 1)]
    seams = [(before + SIDE + after) // 2 for before, after in itertools.pairwise(starts)]
    return list(zip(starts, [0, *seams], [*seams, extent], strict=True))
