"""SFCN-OPI: sibling networks; detection is the prior of classification (Zhou et al. 2018)."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.forward.network import Outputs
from models.base.card import MethodCard, Variant
from models.base.method import UNTYPED, Batch, Task
from models.base.points import DISC_DEVIATIONS, RECIPE, SHARED_DEVIATIONS, TRAINING, PointsMethod
from models.base.recipe import Phase
from postproc.codecs.point_targets import DiscCodec
from postproc.codecs.points import IGNORED
from postproc.windows import Geometry

FEATURES = 32
"""Channels of the first stage."""
UNITS = 9
"""Residual units of each stage."""


class ResidualUnit(nn.Module):
    """Two 3 x 3 convolutions with batch normalisation, added to the input, then ReLU.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
        stride: 2 halves the size; the shortcut is then a 1 x 1 convolution of the same stride.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.units = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride > 1:
            # Subsampling and a 1 x 1 convolution equal a 1 x 1 convolution of stride 2, whose gradient on CPUs accesses
            # memory out of bounds in some builds of PyTorch if channels are last.
            self.shortcut = nn.Sequential(
                nn.MaxPool2d(1, stride), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, outputs, H / stride, W / stride)."""
        return F.relu(self.units(x) + self.shortcut(x))


def stage(inputs: int, outputs: int, units: int, stride: int = 1) -> nn.Sequential:
    """Build a sequence of residual units; the first changes size and channels."""
    first = ResidualUnit(inputs, outputs, stride)
    return nn.Sequential(first, *(ResidualUnit(outputs, outputs) for _ in range(units - 1)))


def doubling(channels: int) -> nn.ConvTranspose2d:
    """Build a learnt up-sampling by 2."""
    return nn.ConvTranspose2d(channels, channels, 3, stride=2, padding=1, output_padding=1)


class DetectionBranch(nn.Module):
    """Scores of background and nucleus at strides 2 and 4, summed and up-sampled to the size of the input.

    Args:
        features: Channels of the first stage.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.score2 = nn.Conv2d(2 * features, 2, 1)
        self.score4 = nn.Conv2d(4 * features, 2, 1)
        self.up4 = doubling(2)
        self.up2 = doubling(2)

    def forward(self, half: Tensor, quarter: Tensor) -> Tensor:
        """Return logits (B, 2, H, W), given features at strides 2 and 4."""
        return self.up2(self.score2(half) + self.up4(self.score4(quarter)))  # type: ignore[no-any-return]


class SFCNNetwork(nn.Module):
    """Shared residual stages and two branches; the branch of types has a further stage.

    Args:
        types: Number of types; 0 = no branch of types.
        features: Channels of the first stage.
        units: Residual units of each stage.
    """

    def __init__(self, types: int, features: int = FEATURES, units: int = UNITS) -> None:
        super().__init__()
        f = features
        start = nn.Sequential(nn.Conv2d(3, f, 3, padding=1, bias=False), nn.BatchNorm2d(f), nn.ReLU(inplace=True))
        self.shared = nn.ModuleList(
            [nn.Sequential(start, stage(f, f, units), stage(f, 2 * f, units, 2)), stage(2 * f, 4 * f, units, 2)]
        )
        self.detection = DetectionBranch(f)
        self.classification = None
        if types:
            self.classification = nn.Sequential(
                stage(4 * f, 4 * f, units),
                nn.Conv2d(4 * f, types, 1),
                doubling(types),
                doubling(types),
            )

    def forward(self, images: Tensor) -> Outputs:
        """Return logits ``detection`` (B, 2, H, W) and ``types`` (B, T, H, W); sides are multiples of 4 px."""
        half = self.shared[0](images)
        quarter = self.shared[1](half)
        outputs = {"detection": self.detection(half, quarter)}
        if self.classification is not None:
            outputs["types"] = self.classification(quarter)
        return outputs


class SFCNOPI(PointsMethod):
    """SFCN-OPI.

    Args:
        task: Types and pixel size of the training data; without types, only the detection branch is built.
        features: Channels of the first stage.
        units: Residual units of each stage.
        threshold: Probability of nucleus from which a pixel contributes to the loss of the types.
    """

    card = MethodCard(
        name="sfcn-opi",
        variants=(Variant("sfcn-opi", "SFCN-OPI", ("SFCNOPI",)),),
        summary="Residual network with branches for nuclei and types; the first selects the pixels of the second.",
        paper="Zhou et al., SFCN-OPI: Detection and Fine-grained Classification of Nuclei Using Sibling FCN with "
        "Objectness Prior Interaction, AAAI 2018",
        url="https://doi.org/10.1609/aaai.v32i1.11900",
        recipe=TRAINING + " Detection first, then types, then both (SFCN-OPI's order).",
        deviations=(
            *SHARED_DEVIATIONS,
            *DISC_DEVIATIONS,
            "Layers, and the threshold 0.8 of the prior, are those of public reimplementations by other authors "
            "(github.com/zhuyiche/sfcn-opi and its forks). Their normalisation and ReLU of the scores are left out: a "
            "ReLU on so few channels can silence a type permanently.",
            "The types are conditional on nucleus, without a separate background, and the probability of a type is "
            "the product of both. The loss of the types is the negative logarithm of this product, averaged over the "
            "annotated pixels whose detection reaches the threshold; it trains both branches.",
            "While only the types are trained, all annotated pixels are selected, independent of the detection.",
            "The shares of the three phases (0.4, 0.2, 0.4 of the steps) are our choice. Classes have equal weights.",
        ),
        tasks=("detection", "classification"),
        needs="points",
    )
    small = {"features": 4, "units": 1}

    def __init__(
        self, task: Task = UNTYPED, *, features: int = FEATURES, units: int = UNITS, threshold: float = 0.8
    ) -> None:
        super().__init__(task)
        self.codecs = {"sfcn-opi": DiscCodec(len(task.types))}
        self.geometry = Geometry(multiple=4, context=64, minimum=32)
        self.threshold = threshold
        self.network = SFCNNetwork(len(task.types), features, units)
        if task.types:
            self.weighs_types = True
            self.recipe = dataclasses.replace(RECIPE, phases=_phases(RECIPE.phases[0]))

    def forward(self, images: Tensor) -> Outputs:
        """Return logits ``detection`` (B, 2, H, W) and, with types, ``types`` (B, T, H, W)."""
        outputs: Outputs = self.network(images)
        return outputs

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return ``detection`` and ``types``, if the phase trains them.

        Args:
            outputs: Outputs of `forward`.
            batch: ``classes`` int64 (B, H, W).
        """
        frozen = self.phase.frozen
        classes = batch["classes"]
        detection = "network.detection" not in frozen
        terms: dict[str, Tensor] = {}
        if detection:
            nuclei = classes.clamp(max=1)
            each = F.cross_entropy(outputs["detection"], nuclei, ignore_index=IGNORED, reduction="sum")
            terms["detection"] = each / (classes != IGNORED).sum().clamp(min=1)
        if "types" in outputs and "network.classification" not in frozen:
            prior = outputs["detection"].log_softmax(dim=1)[:, 1] if detection else None
            terms["types"] = type_error(outputs["types"], classes, prior, self.threshold, self.type_weights)
        return terms

    def activate(self, outputs: Outputs) -> Outputs:
        """Return ``probability`` (B, T, H, W) of each type, or (B, 1, H, W) of nucleus without types."""
        nucleus = outputs["detection"].softmax(dim=1)[:, 1:]
        if "types" not in outputs:
            return {"probability": nucleus}
        return {"probability": nucleus * outputs["types"].softmax(dim=1)}


def _phases(whole: Phase) -> tuple[Phase, Phase, Phase]:
    """Divide the training: first detection with the shared layers, then only types, then everything."""
    steps = whole.steps or 0
    lengths = (round(0.4 * steps), round(0.2 * steps), steps - round(0.4 * steps) - round(0.2 * steps))
    frozen: tuple[tuple[str, ...], ...] = (
        ("network.classification",),
        ("network.shared", "network.detection"),
        (),
    )
    first, second, third = (
        dataclasses.replace(whole, steps=length, frozen=names) for length, names in zip(lengths, frozen, strict=True)
    )
    return first, second, third


def type_error(
    logits: Tensor, classes: Tensor, prior: Tensor | None, threshold: float, weights: Tensor | None = None
) -> Tensor:
    """Return the negative log-probability of the types, averaged over the selected pixels; 0 if there are none.

    Args:
        logits: (B, T, H, W), conditional on nucleus.
        classes: int64 (B, H, W), 0 = background, 1..T = type, -100 = not annotated.
        prior: (B, H, W), log-probability of nucleus, which is added; None = not added, and all annotated nuclei are
            selected.
        threshold: Probability of nucleus from which a pixel is selected.
        weights: (T + 1,), weights of background, which is ignored, and of each type; None = equal weights.
    """
    types = (classes - 1).clamp(min=0)
    each = F.cross_entropy(logits, types, reduction="none")
    counts = classes > 0
    if prior is not None:
        each = each - prior
        counts = counts & (prior.detach().exp() >= threshold)
    if weights is not None:
        each = each * weights.to(each)[1:][types]
    return torch.where(counts, each, 0.0).sum() / counts.sum().clamp(min=1)
