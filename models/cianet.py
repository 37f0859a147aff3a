"""CIA-Net: contour-aware information aggregation (Zhou et al. 2019)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.forward.network import Outputs
from models.base.card import MethodCard, Variant
from models.base.method import UNTYPED, Batch, NucleiMethod, Task
from models.base.recipe import Phase, Recipe, Step
from models.base.weights import IMAGENET, IMAGENET_MEAN, IMAGENET_STD, NONE
from models.networks.cianet import FEATURES, HEADS, CIANetwork, load_pretrained
from postproc.codecs.contour import ContourCodec
from postproc.errors import ConfigError
from postproc.windows import Geometry

GAMMA = 0.2
"""Probability of the true class below which a px counts as an outlier."""
WEIGHT_DECAY = 1e-5


class CIANet(NucleiMethod):
    """CIA-Net.

    Args:
        task: What the training data asks for; types are ignored.
        features: Channels of the encoder's first convolution; 64 in DenseNet-121.
        stride: Stride of that convolution. 2 is 4 times faster, and decodes at half of the resolution.
        weights: ``imagenet`` (DenseNet-121), ``none``, or the path of a file with torchvision's weights of it.
        gamma: Threshold of the smooth truncated loss; 0 = plain cross-entropy.
        contour: Width of the contour on each side of a nucleus' border, px.

    Raises:
        ConfigError: If an option is out of range, or weights are asked for that do not fit or cannot be had.
    """

    card = MethodCard(
        name="cianet",
        variants=(Variant("cianet", "CIA-Net"),),
        summary="Decoders of nuclei and contours that exchange features at three levels; loss that spares outliers.",
        paper="Zhou et al., CIA-Net: Robust Nuclei Instance Segmentation with Contour-aware Information Aggregation, "
        "IPMI 2019",
        url="https://doi.org/10.1007/978-3-030-20351-1_53",
        recipe="DenseNet encoder from ImageNet, AMSGrad; smooth truncated loss for nuclei, soft Dice loss for "
        "contours, at each level of the decoders.",
        deviations=(
            "No public code of the authors was found and the paper's text was not at hand; what follows is uncertain.",
            "The encoder is DenseNet-121 (blocks of 6, 12, 24 and 16 layers) without its first stride and pooling, so "
            "that the third and last aggregation is at the image's resolution.",
            "Lateral connections are 1 x 1 convolutions to 256 channels, added to what comes from below (bilinear "
            "up-sampling); aggregation modules are five 3 x 3 convolutions with batch normalisation.",
            "All three levels are supervised, with equal weights; so are the two losses. The threshold gamma is 0.2.",
            "Crops of 256 px, batch 4, 240 epochs with a tenth of the rate after 120, weight decay 1e-5: as in the "
            "comparison of HoVer-Net for the similar DCAN.",
            "Contours are 2 px wide on each side of a border. True maps then decode to a mean PQ of 0.992 on Kumar and "
            "0.966 on CoNSeP.",
            "Cores of nuclei are what is nuclear and no contour; they grow back within the nuclear px.",
            "Augmentation is that of HoVer-Net's comparison (policy hovernet), for the same lack of the text.",
            "No stain normalisation: all methods see the same images.",
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
        """Return the logits of prepared images: ``object``, ``contour``, then those of coarser levels.

        Returns:
            (B, 1, H, W) each; ``object_1``, ``contour_1``, ``object_2``, ``contour_2`` are of the coarser levels.
        """
        levels = self.network(images)
        return {
            f"{head}_{index}" if index else head: logits[head] for index, logits in enumerate(levels) for head in HEADS
        }

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the mean over levels of the smooth truncated loss and of the soft Dice loss.

        Args:
            outputs: What `forward` gave.
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
    """Return the cross-entropy, in which outliers count for less (section 2.2).

    With p the probability of the true class, a px costs ``-log p`` where p >= gamma, and else ``-log gamma + (1 - p² /
    gamma²) / 2``: both the value and the slope agree at gamma, but the slope then falls to 0, so that px whose label
    may be wrong do not rule the training.

    Args:
        logits: Of class 1, any shape.
        target: 0 or 1, of the same shape.
        gamma: Where the loss is truncated, in [0, 1); 0 = nowhere.
    """
    # The logit of the true class, so that neither logarithm nor gradient overflows.
    margin = torch.where(target > 0, logits, -logits).float()
    cost = F.softplus(-margin)
    if gamma > 0:
        truncated = -math.log(gamma) + (1 - (margin.sigmoid() / gamma).square()) / 2
        cost = torch.where(margin < math.log(gamma / (1 - gamma)), truncated, cost)
    return cost.mean()


def soft_dice(logits: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """Return 1 minus the Dice coefficient of probabilities with squares in the denominator, over the batch.

    Args:
        logits: Of class 1, any shape.
        target: 0 or 1, of the same shape.
        smooth: Added to numerator and denominator: nothing present and nothing predicted costs 0.
    """
    probability, truth = logits.float().sigmoid(), target.float()
    common = 2 * (probability * truth).sum() + smooth
    return 1 - common / (probability.square().sum() + truth.square().sum() + smooth)
