"""DIST: deep regression of the distance map (Naylor et al. 2018)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.forward.network import Outputs
from models.base.card import MethodCard, Variant
from models.base.card_texts import ENCODER_OPTION, full_length
from models.base.losses import cross_entropy
from models.base.method import UNTYPED, Batch, NucleiMethod, Task, learnt_types
from models.base.recipe import Phase, Recipe, Step
from models.base.weights import IMAGENET
from models.networks.blocks import UNetBody
from models.networks.bodies import unet_body
from postproc.codec import Codec
from postproc.codecs.distance import DistanceCodec, DistanceParams, FixedDynamicsParams
from postproc.codecs.typed import TypedCodec
from postproc.errors import unknown_name
from postproc.windows import Geometry

TARGETS = ("raw", "normalised", "softmax")
SCALE, OFFSET = 3.0, 1.0
"""Factor and offset in pixels applied to the output of the last convolution: of the order of the mean raw distance
within nuclei of Kumar's training images (3.6), and over all pixels (0.9)."""


class DIST(NucleiMethod):
    """U-Net that regresses the chessboard distance of each nuclear pixel to the nearest pixel outside its nucleus.

    Args:
        task: Types and pixel size of the training data.
        classify: Whether types are predicted, by a further 1 x 1 convolution at the output (Graham et al. 2019, section
            V-E); None = if the data has types. The paper's network predicts none.
        features: Channels of the first level (n_feat, table I of the paper).
        weight_decay: L2 penalty (lambda, table I).
        target: Regressed quantity (section IV-C): the ``raw`` distance in pixels, the distance ``normalised`` to [0, 1]
            in each nucleus, or the normalised distance as the second of two ``softmax`` channels.
        encoder: Name of a timm encoder, over which the body is a U-Net of segmentation-models-pytorch; None = the
            paper's network.
        weights: Weights of the encoder: ``imagenet``, ``none``, or the path of a file
            (`models.networks.encoders.load_encoder`).

    Raises:
        ConfigError: If an option is unknown, types are requested of data without types, or weights are unavailable.
    """

    card = MethodCard(
        name="dist",
        variants=(
            Variant("dist", "DIST", ("DIST trained on DS2",)),
            Variant("dist-p1-1", "DIST (p1 = 1)"),
        ),
        summary="U-Net regressing the chessboard distance map; watershed from its h-maxima.",
        paper="Naylor et al., Segmentation of Nuclei in Histopathology Images by Deep Regression of the Distance Map, "
        "IEEE TMI 38(2), 2018",
        url="https://doi.org/10.1109/TMI.2018.2865709",
        recipe="As in the paper: Adam, weight decay 5e-6, mean squared error.",
        deviations=(
            "Crops of 256 px, 16 of each image in an epoch, since the paper does not give the size of its inputs.",
            "The strength of blur, deformation and stain perturbation (policy dist) is our choice, since the paper "
            "gives no figures. The same training fills the row DIST of HoVer-Net's comparison, in which all networks "
            "have the milder policy hovernet; --augment hovernet trains with it.",
            "Every 10 epochs, the rate is multiplied by 0.96, as in the authors' public code; the paper gives no "
            "factor.",
            "Row DIST has p1 = 0 and p2 = 0.5 px, which the paper selects (table III); protocol strict tunes both, as "
            "the paper does. p1 = 0 splits even true maps at every bump of one pixel: row DIST (p1 = 1) decodes the "
            "same maps without these bumps. p2 is compared with distances truncated to whole pixels, as in the "
            "authors' public code.",
            full_length("80 epochs") + " Protocol strict stops after 10 epochs without a better validation error, as "
            "the paper does.",
            "7.8 M parameters; the network of the comparison of HoVer-Net has 9.2 M. Here up-sampling halves the "
            "channels; there it keeps them, pads no convolution and takes inputs of 268 px.",
            "The authors subtract the mean of the training images. Here, as in that comparison, images are in [0, 1]. "
            "Batch normalisation after the first convolution removes any constant, except for the padding at the "
            "border.",
            "The output of the last convolution is multiplied by 3, and 1 px is added, since the distances are of "
            "that order. On four validation images of Kumar, after 150 to 300 steps at 8 features, the AJI for four "
            "seeds is then 0.32, 0.32, 0.45 and 0.40; without, it is 0.14, 0.25, 0.43 and 0.33.",
            "Convolutions are padded, so that the output is as large as the input.",
            "The comparison of HoVer-Net does not say what the added convolution learns with types. Here it learns "
            "background and types by cross-entropy, added to the squared error. A nucleus has the most frequent type "
            "of its pixels.",
            ENCODER_OPTION,
        ),
        tasks=("segmentation", "classification"),
    )
    small = {"features": 8}
    recipe = Recipe(
        crop=256,
        phases=(Phase(batch_size=10, lr=1e-3, epochs=80, schedule=Step(parts=8, factor=0.96)),),
        crops_per_image=16,
        augment="dist",
        patience=10,
    )

    scale: Tensor

    def __init__(
        self,
        task: Task = UNTYPED,
        *,
        classify: bool | None = False,
        features: int = 32,
        weight_decay: float = 5e-6,
        target: Literal["raw", "normalised", "softmax"] = "raw",
        encoder: str | None = None,
        weights: str = IMAGENET,
    ) -> None:
        super().__init__(task)
        if target not in TARGETS:
            raise unknown_name("target", target, TARGETS)
        self.target = target
        self.types = learnt_types(task, classify)
        self.weighs_types = bool(self.types)
        self.codecs = {
            "dist": self._codec(DistanceParams(p1=0.0)),
            "dist-p1-1": self._codec(FixedDynamicsParams(p1=1.0)),
        }
        # Half the receptive field of the body; beyond it, padding has hardly any influence.
        self.geometry = Geometry(multiple=16, context=64, minimum=16)
        self.weight_decay = weight_decay
        self.body = unet_body(self, encoder, weights, features, lambda: UNetBody(features))
        self.head = nn.Conv2d(features, 2 if target == "softmax" else 1, 1)
        self.type_head = nn.Conv2d(features, self.types + 1, 1) if self.types else None
        if target == "raw":  # stored with the weights, so that weights of a network without it do not load
            self.register_buffer("scale", torch.tensor([SCALE, OFFSET]))

    def _codec(self, params: DistanceParams) -> Codec[DistanceParams]:
        distances = DistanceCodec("raw" if self.target == "raw" else "normalised", params=params)
        return TypedCodec(distances, self.types) if self.types else distances

    def forward(self, images: Tensor) -> Outputs:
        """Return the outputs for prepared images (B, 3, H, W).

        Returns:
            ``distance`` (B, 1, H, W), or its logits (B, 2, H, W) for target ``softmax``; with types also logits ``tp``,
            (B, T + 1, H, W), 0 = background.
        """
        features = self.body(images)
        distance = self.head(features)
        if self.target == "raw":
            distance = self.scale[0] * distance + self.scale[1]
        outputs = {"distance": distance}
        return outputs if self.type_head is None else outputs | {"tp": self.type_head(features)}

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the mean squared error of the distance (eq. 3) and, with types, the cross-entropy of the types.

        Args:
            outputs: Outputs of `forward`.
            batch: ``distance`` float (B, 1, H, W), and with types ``tp`` int64 (B, H, W).
        """
        terms = {"mse": F.mse_loss(self.activate(outputs)["distance"], batch["distance"])}
        if self.types:
            terms["tp_ce"] = cross_entropy(outputs["tp"], batch["tp"], classes=self.type_weights)
        return terms

    def activate(self, outputs: Outputs) -> Outputs:
        """Return ``distance`` (B, 1, H, W), in pixels or normalised, and with types their probabilities ``tp``."""
        maps = dict(outputs)
        if self.target == "softmax":
            maps["distance"] = outputs["distance"].softmax(dim=1)[:, 1:]
        if self.types:
            maps["tp"] = outputs["tp"].softmax(dim=1)
        return maps

    def optimizer(self, parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """Return Adam with the paper's weight decay."""
        return torch.optim.Adam(parameters, lr=lr, weight_decay=self.weight_decay)
