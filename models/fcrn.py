"""FCRN-A and FCRN-B: fully convolutional networks that regress densities of centres (Xie et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmark.forward.network import Outputs
from models.base.card import MethodCard, Variant
from models.base.method import UNTYPED, Batch, Task
from models.base.points import SHARED_DEVIATIONS, TRAINING, PointsMethod
from postproc.codecs.point_targets import DensityCodec
from postproc.windows import Geometry

FEATURES = 32
"""Channels of the first convolution."""
SCALE = 100.0
"""Factor of the regressed density, as in the authors' public code."""


class Unit(nn.Sequential):
    """Convolution that keeps the size, batch normalisation and ReLU.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
        kernel: Side of the kernel, odd.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


Step = tuple[int, int] | str
"""``pool``, ``up``, or a unit: channels as a multiple of those of the first convolution, side of the kernel."""

STEPS_A: tuple[Step, ...] = (
    *((1, 3), "pool", (2, 3), "pool", (4, 3), "pool", (16, 3)),
    *("up", (4, 3), "up", (2, 3), "up", (1, 3)),
)
STEPS_B: tuple[Step, ...] = (*((1, 3), (2, 3), "pool", (4, 3), (8, 3), "pool", (8, 5)), *("up", (8, 5), "up"))


def stack(steps: Sequence[Step], features: int, maps: int, head: int) -> nn.Sequential:
    """Build a network: the steps, then a convolution to `maps` channels with a kernel of `head` px.

    Initial kernels are orthogonal, as in the authors' public code.
    """
    layers: list[nn.Module] = []
    width = 3
    for step in steps:
        if isinstance(step, tuple):
            layers.append(Unit(width, step[0] * features, step[1]))
            width = step[0] * features
        else:
            layers.append(nn.MaxPool2d(2) if step == "pool" else nn.Upsample(scale_factor=2))
    layers.append(nn.Conv2d(width, maps, head, padding=head // 2, bias=False))
    network = nn.Sequential(*layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.orthogonal_(module.weight)
    return network


_PAPER = (
    "Xie et al., Microscopy Cell Counting and Detection with Fully Convolutional Regression Networks, Computer "
    "Methods in Biomechanics and Biomedical Engineering: Imaging & Visualization 2018"
)
_URL = "https://doi.org/10.1080/21681163.2016.1149104"
_RECIPE = TRAINING + " Mean squared error of 100 times the density."
_DEVIATIONS = (
    *SHARED_DEVIATIONS,
    "The comparison does not say what FCRN regresses. Here, as in its own paper, it regresses densities, one per "
    "type, in which each centre is a Gaussian. Its standard deviation of 2 px is our choice; the authors' public code "
    "uses 1 px for other cells.",
    "Batch normalisation, convolutions without bias, orthogonal initial weights, nearest-neighbour up-sampling and "
    "the factor 100 are those of the authors' public code (github.com/WeidiXie/cell_counting_v2), which calls the "
    "normalisation an addition to the paper.",
)


class FCRN(PointsMethod):
    """Base of FCRN-A and FCRN-B; a subclass sets `card`, `steps` and `head`.

    Args:
        task: Types and pixel size of the training data; there is one density per type.
        features: Channels of the first convolution; 32 in the paper.

    Attributes:
        steps: Layers of the network.
        head: Side of the last kernel.
    """

    small = {"features": 4}
    steps: tuple[Step, ...]
    head: int

    def __init__(self, task: Task = UNTYPED, *, features: int = FEATURES) -> None:
        super().__init__(task)
        self.density = DensityCodec(len(task.types))
        self.codecs = {self.card.name: self.density}
        multiple = 2 ** self.steps.count("pool")
        self.geometry = Geometry(multiple=multiple, context=40, minimum=32)
        self.network = stack(self.steps, features, self.density.channels, self.head)

    @property
    def amplitude(self) -> float:
        """Target value of the network's output at an isolated centre."""
        return SCALE * self.density.peak

    def forward(self, images: Tensor) -> Outputs:
        """Return ``density`` (B, T, H, W), `SCALE` times nuclei per pixel, of prepared images (B, 3, H, W)."""
        return {"density": self.network(images)}

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the squared error, averaged over types and pixels; it is 0 for images without points.

        Args:
            outputs: Outputs of `forward`.
            batch: ``density`` float (B, T, H, W), 1 at isolated centres, and ``has_points`` float (B,).
        """
        errors = (outputs["density"] - self.amplitude * batch["density"]).square().mean(dim=(1, 2, 3))
        return {"nuclei": torch.mean(batch["has_points"] * errors)}

    def activate(self, outputs: Outputs) -> Outputs:
        """Return ``density``, 1 at isolated centres."""
        return {"density": outputs["density"] / self.amplitude}


class FCRNA(FCRN):
    """FCRN-A: 3 x 3 kernels and a pooling after each of the first three convolutions."""

    card = MethodCard(
        name="fcrn-a",
        variants=(Variant("fcrn-a", "FCRNA", ("FCRN-A",)),),
        summary="Small kernels and three poolings; regresses a density of nucleus centres per type.",
        paper=_PAPER,
        url=_URL,
        recipe=_RECIPE,
        deviations=_DEVIATIONS,
        tasks=("detection", "classification"),
        needs="points",
    )
    steps = STEPS_A
    head = 1


class FCRNB(FCRN):
    """FCRN-B: a pooling after every second convolution and 5 x 5 kernels at low resolution."""

    card = MethodCard(
        name="fcrn-b",
        variants=(Variant("fcrn-b", "FCRNB", ("FCRN-B",)),),
        summary="Large kernels and two poolings; regresses a density of nucleus centres per type.",
        paper=_PAPER,
        url=_URL,
        recipe=_RECIPE,
        deviations=(
            *_DEVIATIONS,
            "The public code contains only FCRN-A. Channels and kernels of FCRN-B are those of other public "
            "implementations, which differ in the kernel of the fourth convolution (3 or 5 px); here it is 3.",
        ),
        tasks=("detection", "classification"),
        needs="points",
    )
    steps = STEPS_B
    head = 5
