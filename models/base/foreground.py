"""What the plain foreground networks share: two classes, cross-entropy, probability of nucleus."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmark.forward.network import Outputs
from models.base.losses import cross_entropy
from models.base.method import Batch, NucleiMethod
from models.base.optimizers import kernels_decay


class ForegroundMethod(NucleiMethod):
    """A network that tells nucleus from background, one px like another.

    A subclass sets, besides what `NucleiMethod` asks for, `network`: images (B, 3, H, W) -> logits (B, 2, H, W).

    Attributes:
        weight_decay: L2 penalty on kernels.
    """

    network: nn.Module
    weight_decay: float = 0.0

    def forward(self, images: Tensor) -> Outputs:
        """Return the logits ``foreground``, (B, 2, H, W), of prepared images (B, 3, H, W)."""
        return {"foreground": self.network(images)}

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropy, averaged over all px.

        Args:
            outputs: What `forward` gave.
            batch: ``foreground`` int64 (B, H, W).
        """
        return {"ce": cross_entropy(outputs["foreground"], batch["foreground"])}

    def activate(self, outputs: Outputs) -> Outputs:
        """Return ``foreground`` (B, 1, H, W), the probability of nucleus."""
        return {"foreground": outputs["foreground"].softmax(dim=1)[:, 1:]}

    def optimizer(self, parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """Return Adam, with weight decay on kernels alone."""
        return torch.optim.Adam(kernels_decay(parameters, self.weight_decay), lr=lr)


def sgd_or_adam(parameters: list[nn.Parameter], lr: float, weight_decay: float, *, adam: bool) -> torch.optim.Optimizer:
    """Return SGD with momentum 0.9 (Naylor et al. 2017, section 4), or Adam; kernels alone decay."""
    groups = kernels_decay(parameters, weight_decay)
    return torch.optim.Adam(groups, lr=lr) if adam else torch.optim.SGD(groups, lr=lr, momentum=0.9)
