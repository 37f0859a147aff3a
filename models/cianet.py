"""CIA-Net: contour-aware information aggregation (Zhou et al. 2019)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.forward.network import Outputs
from models.base.card import MethodCard, Variant
from models.base.card_texts import CONTOUR_WIDTH, NO_STAIN_NORMALISATION, UNKNOWN_AUGMENTATION
from models.base.method import UNTYPED, Batch, NucleiMethod, Task
from models.base.recipe import Phase, Recipe, Step
from models.base.weights import IMAGENET, IMAGENET_MEAN, IMAGENET_STD, NONE
from models.networks.cianet import FEATURES, HEADS, CIANetwork, load_pretrained
from postproc.codecs.contour import ContourCodec
from postproc.errors import ConfigError
from postproc.windows import Geometry

GAMMA = 0.2
"""Probability of the true class below which a pixel is an outlier."""
WEIGHT_DECAY = 1e-5


class CIANet(NucleiMethod):
    """CIA-Net.

    Args:
        task: Types and pixel size of the training data; types are ignored.
        features: Channels of the encoder's first convolution; 64 in DenseNet-121.
        stride: Stride of that convolution. 2 is 4 times faster and decodes at half the resolution.
        weights: ``imagenet`` (DenseNet-121), ``none``, or the path of a file with torchvision's weights.
        gamma: Threshold of the smooth truncated loss; 0 = plain cross-entropy.
        contour: Width of the contour on each side of the border of a nucleus, in pixels.

    Raises:
        ConfigError: If an option is out of range, or the weights are unavailable.
        DataError: If the file of weights does not fit.
    """

    card = MethodCard(
        name="cianet",
        variants=(Variant("cianet", "CIA-Net"),),
        summary="Decoders for nuclei and contours exchange features at three levels; the loss limits outliers.",
        paper="Zhou et al., CIA-Net: Robust Nuclei Instance Segmentation with Contour-aware Information Aggregation, "
        "IPMI 2019",
        url="https://doi.org/10.1007/978-3-030-20351-1_53",
        recipe="DenseNet encoder with ImageNet weights, AMSGrad; at each level of the decoders, smooth truncated loss "
        "for nuclei and soft Dice loss for contours.",
        deviations=(
            "We found no public code of the authors, and the text of the paper was unavailable to us: the following "
            "points are uncertain.",
            "The encoder is DenseNet-121 (blocks of 6, 12, 24 and 16 layers) without its first stride and pooling, so "
            "that the third and last aggregation has the resolution of the image.",
            "Lateral connections are 1 x 1 convolutions to 256 channels, added to the bilinearly up-sampled features "
            "of the level below. Aggregation modules are five 3 x 3 convolutions with batch normalisation.",
            "All three levels are supervised with equal weights, and both losses have equal weights. The threshold "
            "gamma is 0.2.",
            "Crops of 256 px, batch 4, 240 epochs with a tenth of the rate after 120, and weight decay 1e-5 are those "
            "of the similar DCAN in the comparison of HoVer-Net.",
            CONTOUR_WIDTH,
            "Cores are the nuclear pixels outside the contour; they grow back within the nuclear pixels.",
            UNKNOWN_AUGMENTATION,
            NO_STAIN_NORMALISATION,
        ),
        pretrained="ImageNet (torchvision densenet121)",
    )
    small = {"features": 4, "stride": 2, "weights": "none"}
    recipe = Recipe(
        crop=256,
        phases=(Phase(batch_size=4, lr=1e-3, epochs=240, schedule=Step(parts=2)),),
        crops_per_image=16,
        augment="hovernet",
    )

    def __init__(
        self,
        task: Task = UNTYPED,
        *,
        features: int = FEATURES,
        stride: int = 1,
        weights: str = IMAGENET,
        gamma: float = GAMMA,
        contour: int = 2,
    ) -> None:
        super().__init__(task)
        if not 0 <= gamma < 1:
            raise ConfigError(f"gamma={gamma}: give a probability in [0, 1); the default is {GAMMA}")
        self.gamma = gamma
        self.codecs = {"cianet": ContourCodec(contour, contour)}
        self.geometry = Geometry(multiple=8 * stride, context=32 * stride, minimum=8 * stride)
        self.network = CIANetwork(features, stride)
        load_pretrained(self.network, weights, features)
        if weights != NONE:
            self.mean, self.std = IMAGENET_MEAN, IMAGENET_STD

    def forward(self, images: Tensor) -> Outputs:
        """Return the logits of prepared images (B, 3, H, W).

        Returns:
            ``object`` and ``contour``, and those of the coarser levels, ``object_1``, ``contour_1``, ``object_2`` and
            ``contour_2``; (B, 1, H, W) each.
        """
        levels = self.network(images)
        return {
            f"{head}_{index}" if index else head: logits[head] for index, logits in enumerate(levels) for head in HEADS
        }

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the smooth truncated loss and the soft Dice loss, each averaged over the levels.

        Args:
            outputs: Outputs of `forward`.
            batch: ``object`` and ``contour``, int64 (B, H, W).
        """
        terms: dict[str, list[Tensor]] = {head: [] for head in HEADS}
        for name, logits in outputs.items():
            head = name.partition("_")[0]
            target = batch[head][:, None]
            terms[head].append(
                smooth_truncated_loss(logits, target, self.gamma) if head == "object" else soft_dice(logits, target)
            )
        return {head: torch.stack(values).mean() for head, values in terms.items()}

    def activate(self, outputs: Outputs) -> Outputs:
        """Return ``object`` and ``contour``, (B, 1, H, W), the probabilities at the finest level."""
        return {head: outputs[head].sigmoid() for head in HEADS}

    def optimizer(self, parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """Return AMSGrad."""
        return torch.optim.Adam(parameters, lr=lr, weight_decay=WEIGHT_DECAY, amsgrad=True)


def smooth_truncated_loss(logits: Tensor, target: Tensor, gamma: float = GAMMA) -> Tensor:
    """Return the cross-entropy with a reduced weight of outliers (section 2.2), averaged over all pixels.

    Let p be the probability of the true class. The loss of a pixel is ``-log p`` if p >= gamma, otherwise
    ``-log gamma + (1 - p² / gamma²) / 2``. Value and slope are continuous at gamma, but the slope falls to 0 with p,
    so that pixels with possibly wrong labels do not dominate the training.

    Args:
        logits: Logits of class 1, any shape.
        target: 0 or 1, same shape.
        gamma: Probability below which the loss is truncated, in [0, 1); 0 = plain cross-entropy.
    """
    # Computed from the logit of the true class, so that neither logarithm nor gradient overflows.
    margin = torch.where(target > 0, logits, -logits).float()
    cost = F.softplus(-margin)
    if gamma > 0:
        truncated = -math.log(gamma) + (1 - (margin.sigmoid() / gamma).square()) / 2
        cost = torch.where(margin < math.log(gamma / (1 - gamma)), truncated, cost)
    return cost.mean()


def soft_dice(logits: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """Return 1 minus the Dice coefficient over the whole batch, with squares in the denominator.

    Args:
        logits: Logits of class 1, any shape.
        target: 0 or 1, same shape.
        smooth: Added to numerator and denominator; the loss is 0 if nothing is present and nothing is predicted.
    """
    probability, truth = logits.float().sigmoid(), target.float()
    common = 2 * (probability * truth).sum() + smooth
    return 1 - common / (probability.square().sum() + truth.square().sum() + smooth)
