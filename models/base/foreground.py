"""`ForegroundMethod`: two classes, cross-entropy, probability of nucleus."""

from __future__ import annotations

from torch import Tensor, nn

from benchmark.forward.network import Outputs
from models.base.losses import cross_entropy
from models.base.method import Batch, NucleiMethod


class ForegroundMethod(NucleiMethod):
    """A network that separates nucleus from background; all pixels have the same weight.

    A subclass sets `network`, images (B, 3, H, W) -> logits (B, 2, H, W), in addition to the members that
    `NucleiMethod` requires.
    """

    network: nn.Module

    def forward(self, images: Tensor) -> Outputs:
        """Return the logits ``foreground``, (B, 2, H, W), of prepared images (B, 3, H, W)."""
        return {"foreground": self.network(images)}

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropy, averaged over all pixels.

        Args:
            outputs: Outputs of `forward`.
            batch: ``foreground`` int64 (B, H, W).
        """
        return {"ce": cross_entropy(outputs["foreground"], batch["foreground"])}

    def activate(self, outputs: Outputs) -> Outputs:
        """Return ``foreground`` (B, 1, H, W), the probability of nucleus."""
        return {"foreground": outputs["foreground"].softmax(dim=1)[:, 1:]}
