"""KiNet: detection and classification of nuclei from points and weak regions (Xing et al. 2019)."""

from __future__ import annotations

import dataclasses

import torch.nn.functional as F
from torch import Tensor

from benchmark.forward.network import Outputs
from datamodules.reading.sample import Sample
from models.base.card import MethodCard, Variant
from models.base.card_texts import full_length
from models.base.method import UNTYPED, Batch, Task
from models.base.points import PointsMethod
from models.base.recipe import Phase
from models.networks.kinet import KiNetNetwork
from postproc.codecs.points import IGNORED, PointsCodec
from postproc.errors import ConfigError
from postproc.windows import Geometry

AMPLITUDE = 5.0
"""Value of the output at a centre. The authors' public code regresses proximity maps scaled by this factor, which
determines the size of the gradient together with the learning rate."""


class KiNet(PointsMethod):
    """Residual U-Net that regresses one proximity map per type, with a sibling branch for regions.

    Datasets without types give one map. Images without regions contribute no region loss, and images with regions only
    contribute no nucleus loss (equation 5).

    Args:
        task: Types and pixel size of the training data; there is one proximity map per type.
        roi: Build the region branch; False is oKiNet of the paper.
        stagewise: Train the region branch in the first half and the nucleus branch in the second half, the shared
            contraction path in both; True is sKiNet of the paper.
        width: Channels of the first layer; smaller for trials.
        gamma: Weight of the nucleus loss (equation 5).
        weighting: Weight of the mean proximity in the nucleus loss (lambda in equation 2).
        eta: Weight of the correlation between types (equation 3).
        eta_after: Optimiser steps before the correlation is added.
    """

    card = MethodCard(
        name="kinet",
        variants=(Variant("kinet", "KiNet"),),
        summary="Residual U-Net regressing a proximity map per nucleus type, helped by weak region annotation.",
        paper="Xing et al., Pixel-to-pixel Learning with Weak Supervision for Single-stage Nucleus "
        "Recognition in Ki67 Images, IEEE TBME 2019",
        url="https://doi.org/10.1109/TBME.2019.2900378",
        recipe="As in the paper: SGD with Nesterov momentum 0.9, weight decay 1e-6, crops standardised per channel.",
        deviations=(
            "Equations 2 and 4 are averaged over pixels, without the factor 1/2, and the regressed proximity is "
            "scaled by 5, as in the authors' public code: sums would be about 1e5 times larger and diverge at the "
            "paper's learning rate. The dot product of equation 3 remains a sum over pixels, for which eta is given.",
            "The correlation uses only positive responses. If a type is absent from a crop, equation 2 does not "
            "constrain its map, and the plain dot product has no lower bound. The validation loss excludes the "
            "correlation, since it would otherwise jump after 1e4 steps.",
            "The ranges of rotation and shift (policy kinet) are our choice; the paper does not give them.",
            "The norm of the gradient is limited to 1: otherwise the first steps at the paper's learning rate diverge "
            "on real images, at the full width too.",
            "Widths (32, 64, 128, 256, 256) and the number of convolutions per block are those of the public code; "
            "the paper shows them in a figure. Its dropout on skip connections, which is not in the paper, is left "
            "out. The output blocks and the region branch follow the paper where the code differs.",
            "Batch normalisation uses running statistics in inference; the public code uses those of the test image.",
            "In inference the whole image is standardised, in training each crop.",
            "Responses below 0.1 are never detections, so that images without nuclei can remain empty.",
            full_length("1e5 iterations") + " Patience is 444 epochs: 2e4 iterations for the 45 training images of "
            "protocol strict.",
        ),
        tasks=("detection", "classification"),
        needs="points",
    )
    small = {"width": 4}

    def __init__(
        self,
        task: Task = UNTYPED,
        *,
        roi: bool = True,
        stagewise: bool = False,
        width: int = 32,
        gamma: float = 25.0,
        weighting: float = 5.0,
        eta: float = 1e-6,
        eta_after: int = 10_000,
    ) -> None:
        super().__init__(task)
        if stagewise and not roi:
            raise ConfigError("kinet: stagewise=True trains the region branch first. Use roi=True, or stagewise=False.")
        codec = PointsCodec(len(task.types))
        self.codecs = {"kinet": codec}
        # half of the receptive field of the nucleus branch, whose outer half has hardly any influence
        self.geometry = Geometry(multiple=1, context=64, minimum=32)
        self.roi = roi
        self.gamma, self.weighting, self.eta, self.eta_after = gamma, weighting, eta, eta_after
        self.network = KiNetNetwork(codec.channels, roi, width)
        if stagewise:
            self.recipe = dataclasses.replace(self.recipe, phases=_stages(self.recipe.phases[0]))

    def learns_from(self, sample: Sample) -> bool:
        """Return whether an image has nuclei or regions whose branch is trained in the current phase."""
        frozen = self.phase.frozen
        regions = self.roi and "network.regions" not in frozen and sample.truth.regions is not None
        return regions or ("network.nuclei" not in frozen and super().learns_from(sample))

    def forward(self, images: Tensor) -> Outputs:
        """Return ``proximity`` (B, T, H, W), `AMPLITUDE` at centres, and logits ``regions`` (B, 2, H, W)."""
        outputs: Outputs = self.network(images)
        return outputs

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return ``nuclei``, ``correlation`` and ``regions`` (equations 2 to 5), if the current phase trains them."""
        frozen = self.phase.frozen
        terms: dict[str, Tensor] = {}
        if "network.nuclei" not in frozen:
            known = batch["has_points"]
            maps = outputs["proximity"]
            errors = weighted_errors(maps, batch["proximity"], self.weighting)
            terms["nuclei"] = self.gamma * (known * errors).mean()
            if self.training and maps.shape[1] > 1 and self.global_step >= self.eta_after:
                terms["correlation"] = self.gamma * self.eta * (known * correlations(maps)).mean()
        if "regions" in outputs and "network.regions" not in frozen:
            terms["regions"] = region_error(outputs["regions"], batch["regions"])
        return terms

    def activate(self, outputs: Outputs) -> Outputs:
        """Return the proximity maps, 1 at centres."""
        return {"proximity": outputs["proximity"] / AMPLITUDE}


def _stages(whole: Phase) -> tuple[Phase, Phase]:
    """Divide the training into regions first, then nuclei (section IV-D3)."""
    half = (whole.steps or 0) // 2
    regions = dataclasses.replace(whole, steps=half, frozen=("network.nuclei",))
    return regions, dataclasses.replace(whole, steps=half, frozen=("network.regions",))


def weighted_errors(maps: Tensor, proximity: Tensor, weighting: float) -> Tensor:
    """Return the weighted squared error of each image, (B,), averaged over types and pixels (equation 2).

    Args:
        maps: (B, T, H, W), `AMPLITUDE` at centres.
        proximity: (B, T, H, W), 1 at centres.
        weighting: Weight of the mean proximity of a type in the image, which includes errors far from centres. A type
            that is absent from an image has weight 0 there.
    """
    weights = proximity + weighting * proximity.mean(dim=(2, 3), keepdim=True)
    return (weights * (maps - AMPLITUDE * proximity).square()).mean(dim=(1, 2, 3))


def correlations(maps: Tensor) -> Tensor:
    """Return the sum over all pairs of maps of the dot product of their positive parts, (B,) (equation 3)."""
    positive = maps.relu()
    pairs = positive.sum(dim=1).square() - positive.square().sum(dim=1)
    return pairs.sum(dim=(1, 2)) / 2


def region_error(logits: Tensor, regions: Tensor) -> Tensor:
    """Return the cross-entropy averaged over the annotated pixels of a batch, 0 if there are none (equation 4)."""
    total = F.cross_entropy(logits, regions, ignore_index=IGNORED, reduction="sum")
    return total / (regions != IGNORED).sum().clamp(min=1)
