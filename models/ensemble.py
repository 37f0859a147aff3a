"""Ensemble: mean of the posteriors of FCN and DeconvNet (Naylor et al. 2017, section 5)."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.forward.network import Outputs
from models.base.card import MethodCard, Variant
from models.base.card_texts import NAYLOR_2017, NAYLOR_2017_AUGMENTATION, NAYLOR_2017_SETTINGS
from models.base.losses import cross_entropy
from models.base.method import UNTYPED, Batch, Task
from models.base.momentum import MomentumMethod
from models.base.recipe import Phase, Recipe, Step
from models.base.weights import IMAGENET, IMAGENET_MEAN, IMAGENET_STD
from models.deconvnet import GEOMETRY, DeconvNetwork
from models.fcn8 import FCN8Network
from models.networks.vgg import FEATURES, load_pretrained
from postproc.codecs.binary import BinaryCodec, BinaryDynamicsCodec, DynamicsParams

MEMBERS = ("fcn", "deconvnet")
"""Names of the networks, of their logits and of their terms of the loss."""


class Ensemble(MomentumMethod):
    """FCN-8s and DeconvNet side by side.

    The members share only crops and learning rate. No weight and no term of the loss depends on both, so that each is
    trained as it would be alone.

    Args:
        task: Types and pixel size of the training data; types are ignored.
        features: Channels of the first stage of both members; 64 in their papers.
        fcn_weights: ``imagenet``, ``none``, or a file with the weights of torchvision's VGG16 or of a trained FCN8.
        deconvnet_weights: ``imagenet``, ``none``, or a file with the weights of torchvision's VGG16 with batch
            normalisation or of a trained DeconvNet.
        adam: Adam instead of SGD, for short trainings.
        weight_decay: L2 penalty on kernels.

    Raises:
        ConfigError: If an option is out of range, or the weights are unavailable.
        DataError: If a file of weights does not fit.
    """

    card = MethodCard(
        name="ensemble",
        variants=(Variant("ensemble", "Ensemble"), Variant("ensemble-pp", "Ensemble + PP")),
        summary="Mean of the probabilities of FCN-8s and DeconvNet.",
        paper="Naylor et al., Nuclei Segmentation in Histopathology Images Using Deep Neural Networks, ISBI 2017",
        url="https://doi.org/10.1109/ISBI.2017.7950669",
        recipe=NAYLOR_2017 + ", pretrained layers.",
        deviations=(
            NAYLOR_2017_SETTINGS + " They tune a learning rate for each network. Here both members are trained on the "
            "same crops with a rate of 1e-3, a tenth of DeconvNet's, since FCN has no batch normalisation; all else "
            "is as for DeconvNet. The options accept members that are already trained.",
            NAYLOR_2017_AUGMENTATION,
            "The other deviations are those of FCN8 and DeconvNet.",
        ),
        pretrained="ImageNet (torchvision vgg16 and vgg16_bn)",
    )
    small = {"features": 2, "fcn_weights": "none", "deconvnet_weights": "none"}
    recipe = Recipe(
        crop=320,
        phases=(Phase(batch_size=4, lr=1e-3, epochs=240, schedule=Step(parts=3)),),
        crops_per_image=16,
        augment="naylor-2017",
    )
    mean = IMAGENET_MEAN
    std = IMAGENET_STD

    def __init__(
        self,
        task: Task = UNTYPED,
        *,
        features: int = FEATURES,
        fcn_weights: str = IMAGENET,
        deconvnet_weights: str = IMAGENET,
        adam: bool = False,
        weight_decay: float = 5e-5,
    ) -> None:
        super().__init__(task)
        self.codecs = {
            "ensemble": BinaryCodec(split=False, w0=0.0),
            "ensemble-pp": BinaryDynamicsCodec(split=False, w0=0.0, params=DynamicsParams(p1=7.0)),
        }
        self.geometry = GEOMETRY  # that of DeconvNet; FCN accepts the same sizes and has the same context
        self.adam = adam
        self.weight_decay = weight_decay
        self.fcn = FCN8Network(features)
        self.deconvnet = DeconvNetwork(features)
        load_pretrained(self.fcn, fcn_weights, features=features, norm=False)
        load_pretrained(self.deconvnet, deconvnet_weights, features=features, norm=True)

    def forward(self, images: Tensor) -> Outputs:
        """Return the logits ``fcn`` and ``deconvnet``, (B, 2, H, W), of prepared images (B, 3, H, W)."""
        return {name: self.get_submodule(name)(images) for name in MEMBERS}

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropy of each member, averaged over all pixels.

        Args:
            outputs: Outputs of `forward`.
            batch: ``foreground`` int64 (B, H, W).
        """
        return {f"{name}_ce": cross_entropy(outputs[name], batch["foreground"]) for name in MEMBERS}

    def activate(self, outputs: Outputs) -> Outputs:
        """Return ``foreground`` (B, 1, H, W), the mean of the members' probabilities of nucleus."""
        probabilities = [outputs[name].softmax(dim=1)[:, 1:] for name in MEMBERS]
        return {"foreground": torch.stack(probabilities).mean(dim=0)}
