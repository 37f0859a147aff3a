"""SFCN-OPI: sibling networks for detection and classification, the one a prior of the other (Zhou et al. 2018)."""

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
        inputs: Channels in.
        outputs: Channels out.
        stride: 2 halves the size; the input then passes a 1 x 1 convolution of the same stride.
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
            # A convolution of 1 x 1 px after taking every second px is one of stride 2, whose gradient some builds of
            # PyTorch for processors compute beyond the bounds of their memory when channels come last.
            self.shortcut = nn.Sequential(
                nn.MaxPool2d(1, stride), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, outputs, H / stride, W / stride)."""
        return F.relu(self.units(x) + self.shortcut(x))


def stage(inputs: int, outputs: int, units: int, stride: int = 1) -> nn.Sequential:
    """Build residual units in a row; the first one changes size and channels."""
    first = ResidualUnit(inputs, outputs, stride)
    return nn.Sequential(first, *(ResidualUnit(outputs, outputs) for _ in range(units - 1)))


def doubling(channels: int) -> nn.ConvTranspose2d:
    """Build a learnt upsampling by 2."""
    return nn.ConvTranspose2d(channels, channels, 3, stride=2, padding=1, output_padding=1)


class DetectionBranch(nn.Module):
    """Scores of background and nucleus at strides 2 and 4, added up and brought to the input's size.

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
        """Return logits (B, 2, H, W) from features at strides 2 and 4."""
        return self.up2(self.score2(half) + self.up4(self.score4(quarter)))  # type: ignore[no-any-return]


class SFCNNetwork(nn.Module):
    """Shared residual stages, then the branches; the one of types has a stage of its own.

    Args:
        types: Number of types; 0 leaves out their branch.
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
        """Return logits ``detection`` (B, 2, H, W) and ``types`` (B, T, H, W) of images with sides in 4 px."""
        half = self.shared[0](images)
        quarter = self.shared[1](half)
        outputs = {"detection": self.detection(half, quarter)}
        if self.classification is not None:
            outputs["types"] = self.classification(quarter)
        return outputs


class SFCNOPI(PointsMethod):
    """SFCN-OPI.

    Args:
        task: What the training data asks for; without types the detection branch alone is built.
        features: Channels of the first stage.
        units: Residual units of each stage.
        threshold: Probability of nucleus from which on a px teaches its type.
    """

    card = MethodCard(
        name="sfcn-opi",
        variants=(Variant("sfcn-opi", "SFCN-OPI", ("SFCNOPI",)),),
        summary="Residual network with branches for nuclei and types; the first decides where the second counts.",
        paper="Zhou et al., SFCN-OPI: Detection and Fine-grained Classification of Nuclei Using Sibling FCN with "
        "Objectness Prior Interaction, AAAI 2018",
        url="https://doi.org/10.1609/aaai.v32i1.11900",
        recipe=TRAINING + " Detection first, then types, then both (SFCN-OPI's order).",
        deviations=(
            *SHARED_DEVIATIONS,
            *DISC_DEVIATIONS,
            "Layers, and the threshold 0.8 of the prior, are taken from public reimplementations of the paper "
            "(github.com/zhuyiche/sfcn-opi and its forks), whose authors are others; normalisation and ReLU of the "
            "scores, which they have, are left out: a ReLU on so few channels can silence a type for good.",
            "The types are conditional on nucleus, without a background of their own, and the probability of a type "
            "is the product of both; its negative logarithm, averaged over the annotated px that the detection "
            "gives at least the threshold, is the loss of the types and reaches both branches.",
            "While types are trained alone, all annotated px count, which do not depend on the detection then.",
            "Shares of the three phases (0.4, 0.2, 0.4 of the steps) are a choice. Classes are not weighted.",
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
        """Return ``detection`` and ``types``, as far as the phase trains them.

        Args:
            outputs: What `forward` gave.
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
        """Return ``probability`` (B, T or 1, H, W): nucleus, and of the type if it is one."""
        nucleus = outputs["detection"].softmax(dim=1)[:, 1:]
        if "types" not in outputs:
            return {"probability": nucleus}
        return {"probability": nucleus * outputs["types"].softmax(dim=1)}


def _phases(whole: Phase) -> tuple[Phase, Phase, Phase]:
    """Divide the training: detection with the shared layers, types alone, everything."""
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
    """Return the negative log-probability of the types, averaged over the px that count; 0 without any.

    Args:
        logits: (B, T, H, W), conditional on nucleus.
        classes: int64 (B, H, W), 0 = background, 1..T = type, -100 = not annotated.
        prior: (B, H, W), log-probability of nucleus, which is added; None: all annotated nuclei count, without it.
        threshold: Probability of nucleus from which on a px counts.
        weights: (T + 1,), weight of background, which has no part here, and of each type; None = all alike.
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
