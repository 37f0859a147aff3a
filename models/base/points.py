"""Input, training and losses shared by KiNet and the methods compared with it (Xing et al. 2019, section IV)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.forward.network import Outputs
from models.base.losses import cross_entropy
from models.base.method import UNTYPED, Batch, NucleiMethod, Task
from models.base.recipe import Phase, Recipe

RECIPE = Recipe(
    crop=200,
    phases=(Phase(batch_size=4, lr=0.01, steps=100_000),),
    crops_per_image=4,
    augment="kinet",
    patience=444,
    gradient_clip=1.0,
)
"""KiNet's training (section IV-B), used for all methods of its comparison."""

TRAINING = (
    "Same as KiNet, to which it is compared: SGD with Nesterov momentum 0.9, weight decay 1e-6, images standardised "
    "per channel."
)
"""Beginning of the recipe text on the cards of the comparison."""

SHARED_DEVIATIONS = (
    "The comparison (Xing et al. 2019, section IV-D) does not describe the training of its other methods. All methods "
    "are trained and decoded like KiNet: policy kinet, whose rotations and shifts are our choice; norm of the gradient "
    "at most 1; patience 444 epochs (2e4 iterations for the 45 training images of protocol strict).",
)
"""Deviations of all methods of the comparison."""

DISC_DEVIATIONS = (
    "The comparison does not define targets for the methods that classify pixels. Here the pixels within 6 px of a "
    "centre have its type, so that the discs of most neighbours do not touch. Probabilities are smoothed (standard "
    "deviation 2 px) before maxima are searched; otherwise the plateau of a disc has several maxima.",
)
"""Further deviations of the methods that classify pixels."""


class PointsMethod(NucleiMethod):
    """A method trained on points with KiNet's recipe."""

    recipe = RECIPE
    own_statistics = True

    def statistics(self, images: Tensor) -> Tensor:
        """Return mean and standard deviation per channel of each image (section IV-B), (B, 2, 3)."""
        deviation, mean = torch.std_mean(images, dim=(2, 3), correction=0)
        # a channel without contrast is centred but not scaled
        return torch.stack([mean, torch.where(deviation > 1e-4, deviation, 1.0)], dim=1)

    def optimizer(self, parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """Return SGD with Nesterov momentum (section IV-B)."""
        return torch.optim.SGD(parameters, lr=lr, momentum=0.9, nesterov=True, weight_decay=1e-6)


class PointClassification(PointsMethod):
    """A network that classifies each pixel as background or a type.

    A subclass sets `network`, images (B, 3, H, W) -> logits (B, T + 1, h, w), in addition to the members that
    `NucleiMethod` requires. Its codec is a `DiscCodec`.
    """

    network: nn.Module

    def __init__(self, task: Task = UNTYPED) -> None:
        super().__init__(task)
        self.weighs_types = bool(task.types)

    def forward(self, images: Tensor) -> Outputs:
        """Return the logits ``classes``, (B, T + 1, h, w), of prepared images (B, 3, H, W); class 0 is background."""
        return {"classes": self.network(images)}

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropy, averaged over all pixels; it is 0 at pixels without annotation.

        Args:
            outputs: Outputs of `forward`.
            batch: ``classes`` int64 (B, h, w).
        """
        return {"ce": cross_entropy(outputs["classes"], batch["classes"], classes=self.type_weights)}

    def activate(self, outputs: Outputs) -> Outputs:
        """Return ``probability`` (B, T, h, w) of each type."""
        return {"probability": outputs["classes"].softmax(dim=1)[:, 1:]}
