"""U-Net of DIST's comparison: plain cross-entropy, trained like DIST (Naylor et al. 2018)."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from models.base.card import MethodCard, Variant
from models.base.foreground import ForegroundMethod
from models.base.method import UNTYPED, Task
from models.dist import DIST
from models.networks.blocks import UNetBody
from postproc.codecs.binary import BinaryCodec, BinaryDynamicsCodec, DynamicsParams
from postproc.windows import Geometry


class UNetDIST(ForegroundMethod):
    """DIST's network with two classes instead of a distance.

    Args:
        task: Types and pixel size of the training data; types are ignored.
        features: Channels of the first level (n_feat, table I).
        weight_decay: L2 penalty (lambda, table I).
    """

    card = MethodCard(
        name="unet-dist",
        variants=(
            Variant("unet-dist", "U-Net (cross-entropy)"),
            Variant("unet-dist-pp", "U-Net (cross-entropy) + PP"),
        ),
        summary="DIST's U-Net with plain cross-entropy instead of the distance: the baseline of DIST.",
        paper="Naylor et al., Segmentation of Nuclei in Histopathology Images by Deep Regression of the Distance Map, "
        "IEEE TMI 38(2), 2018",
        url="https://doi.org/10.1109/TMI.2018.2865709",
        recipe="As in the paper, with the values of its table III: Adam, weight decay 5e-7; for the row + PP, dynamics "
        "p1 = 11 of the probability in units of 1/255.",
        deviations=(
            "The paper gives no weights of the cross-entropy: all pixels have equal weights, and touching nuclei form "
            "one piece of foreground.",
            "As on the card of DIST: size and number of the crops, factor of the decay, padded convolutions, and no "
            "early stopping under protocol paper.",
        ),
    )
    small = {"features": 8}
    recipe = dataclasses.replace(DIST.recipe, phases=(dataclasses.replace(DIST.recipe.phases[0], lr=1e-4),))

    def __init__(self, task: Task = UNTYPED, *, features: int = 32, weight_decay: float = 5e-7) -> None:
        super().__init__(task)
        self.codecs = {
            "unet-dist": BinaryCodec(split=False, w0=0.0),
            "unet-dist-pp": BinaryDynamicsCodec(split=False, w0=0.0, params=DynamicsParams(p1=11.0)),
        }
        self.geometry = Geometry(multiple=16, context=64, minimum=16)  # that of DIST, which has the same body
        self.weight_decay = weight_decay
        self.network = nn.Sequential(UNetBody(features), nn.Conv2d(features, 2, 1))

    def optimizer(self, parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """Return Adam with the paper's weight decay."""
        return torch.optim.Adam(parameters, lr=lr, weight_decay=self.weight_decay)
