"""HoVer-Net: horizontal and vertical distances to the centres of nuclei, and types (Graham et al. 2019)."""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from torch import Tensor

from benchmark.forward.network import Outputs
from models.base.card import MethodCard, Variant
from models.base.card_texts import TIMM_RESNET
from models.base.foreign import Foreign
from models.base.losses import hover_terms
from models.base.method import UNTYPED, Batch, NucleiMethod, Task, learnt_types
from models.base.recipe import Phase, Recipe, Step
from models.base.weights import IMAGENET, NONE, State
from models.networks.hovernet import FEATURES, HoVerNetwork, load_pretrained
from models.networks.hovernet_published import read_published
from postproc.codecs.hover import HoverCodec
from postproc.errors import ConfigError, unknown_name
from postproc.windows import Geometry

STANDARD = ("hv_mse", "np_ce", "tp_ce")
"""Terms of the loss with ``loss_terms=standard``."""
GEOMETRIES = {
    "original": Geometry(margin=95, multiple=8, remainder=6, minimum=198),
    "fast": Geometry(margin=46, multiple=8, remainder=0, minimum=96),
}


def _recipe(crop: int, crops_per_image: int) -> Recipe:
    """Return the two phases of section V-B."""
    halfway = Step(parts=2)
    return Recipe(
        crop=crop,
        phases=(
            Phase(batch_size=8, lr=1e-4, epochs=50, schedule=halfway, frozen=("network.encoder.",)),
            Phase(batch_size=4, lr=1e-4, epochs=50, schedule=halfway),
        ),
        crops_per_image=crops_per_image,
        augment="hovernet",
    )


# An epoch of the public code is one pass over patches cut with a step of the size of the output, so that their
# centres cover the mirrored image: 13 x 13 patches (step 80) or 7 x 7 (step 164) of an image of 1000 x 1000 px.
RECIPES = {"original": _recipe(270, 169), "fast": _recipe(256, 49)}


def _from_scratch(recipe: Recipe) -> Recipe:
    """Return a recipe of the same length with nothing frozen, since an encoder of random weights must be trained."""
    last = recipe.phases[-1]
    epochs = sum(phase.epochs or 0 for phase in recipe.phases)
    return dataclasses.replace(recipe, phases=(dataclasses.replace(last, epochs=epochs),))


class HoVerNet(NucleiMethod):
    """HoVer-Net.

    In the first phase, as in the public code, the weights of the encoder are frozen, but its batch normalisation still
    uses the statistics of each batch and updates its running statistics.

    Args:
        task: Types and pixel size of the training data.
        mode: ``original`` (270 -> 80 px, 5 x 5 valid convolutions) or ``fast`` (256 -> 164 px, 3 x 3, the padded
            variant of the public code).
        classify: Whether types are predicted; None = if the data has types.
        type_branch: Predict types in an NC branch; False = at the output of the NP branch (table A3).
        loss_terms: ``proposed``, or ``standard`` = only the squared error of the distances and the cross-entropy
            (table A1).
        weights: ``imagenet``, ``none``, or the path of a file with weights (`load_pretrained`).
        features: Channels of the first convolution, 64 in the paper; all other widths are in proportion.

    Raises:
        ConfigError: If an option is invalid, types are requested but the data has none, or the weights are unavailable.
        DataError: If the file of weights does not fit.
    """

    card = MethodCard(
        name="hovernet",
        variants=(
            Variant("hovernet", "HoVer-Net", ("HoverNet", "Hover-Net", "HoVerNet")),
            Variant("hovernet-pseudo-distance-threshold", "HoVer-Net (pseudo distance, threshold)"),
            Variant("hovernet-pseudo-distance-sobel", "HoVer-Net (pseudo distance, Sobel)"),
            Variant("hovernet-sobel-threshold", "HoVer-Net (Sobel, threshold)"),
        ),
        summary="Residual encoder with three branches: nuclear pixels, distances to the centre, and nucleus types.",
        paper="Graham et al., HoVer-Net: Simultaneous Segmentation and Classification of Nuclei in "
        "Multi-Tissue Histology Images, Medical Image Analysis 58, 2019",
        url="https://doi.org/10.1016/j.media.2019.101563",
        recipe="As in the paper: encoder with ImageNet weights; first only the decoders, then all layers; Adam.",
        deviations=(
            TIMM_RESNET + "; a file of the latter can be given.",
            "The paper uses two GPUs, that is 16 and 8 crops per step; on one GPU these are 8 and 4.",
            "In the first phase, the public code trains the first convolution, and the shortcut and last "
            "normalisation of the first level; here the whole encoder is frozen, as the paper says.",
            "The gradient term differentiates the horizontal map horizontally and the vertical map vertically, as in "
            "eq. 3; the public code swaps the directions. As in the public code, it is divided by twice the number of "
            "nuclear pixels, not by their number. Its weight is 2, as in the paper.",
            "As in the public code, nuclei, and parts of nuclei, under 30 px have no distances to learn. Here their "
            "size is measured in the whole input, there in the part covered by the output.",
            "The distances start at a twentieth of the public code's initial values, with which the gradient term "
            "starts at 77 on Kumar, while empty maps score 2.4. From random weights (8 features, batch 2, 1,760 of "
            "2,000 steps, one seed), the small start gives AJI 0.355 instead of 0.120 on Kumar's validation images, "
            "and PQ 0.300 instead of 0.079.",
            "With weights=none there is one phase of 100 epochs with nothing frozen, since the first phase would "
            "train the decoders on random features.",
            "Augmentation is that of the public code (policy hovernet): in addition to the paper's, it scales, "
            "shears, adds noise, and changes hue, saturation, brightness and contrast. The added brightness is a "
            "factor here.",
            "Crops are drawn at random, 169 (mode fast: 49) of each image in an epoch: as many as the public code "
            "cuts from an image of 1000 x 1000 px on a grid.",
        ),
        tasks=("segmentation", "classification"),
        pretrained="ImageNet (timm resnetv2_50.a1h_in1k)",
    )
    small = {"mode": "fast", "features": 8, "weights": "none"}
    recipe = RECIPES["original"]

    def __init__(
        self,
        task: Task = UNTYPED,
        *,
        mode: Literal["original", "fast"] = "original",
        classify: bool | None = None,
        type_branch: bool = True,
        loss_terms: Literal["proposed", "standard"] = "proposed",
        weights: str = IMAGENET,
        features: int = FEATURES,
    ) -> None:
        super().__init__(task)
        if mode not in RECIPES:
            raise unknown_name("mode", mode, RECIPES)
        if loss_terms not in ("proposed", "standard"):
            raise unknown_name("loss_terms", loss_terms, ("proposed", "standard"))
        if features < 8 or features % 8:
            raise ConfigError(f"features={features}: must be a multiple of 8 for the grouped convolutions")
        self.types = learnt_types(task, classify)
        self.weighs_types = bool(self.types)
        self.type_branch = type_branch
        self.proposed = loss_terms == "proposed"
        self.recipe = RECIPES[mode] if weights != NONE else _from_scratch(RECIPES[mode])
        self.geometry = GEOMETRIES[mode]
        self.codecs = self._codecs()
        self.network = HoVerNetwork(self._branches(), fast=mode == "fast", features=features)
        load_pretrained(self.network, weights)

    @classmethod
    def read_foreign(cls, state: State) -> Foreign:
        """Return the weights of a published file of HoVer-Net, or those of this class."""
        return read_published(state) or super().read_foreign(state)

    def _codecs(self) -> dict[str, HoverCodec]:
        """Return a codec for each combination of energy and markers in table A2, the paper's choice first."""
        return {
            "hovernet": HoverCodec(self.types),
            "hovernet-pseudo-distance-threshold": HoverCodec(self.types, energy="pseudo-distance", markers="threshold"),
            "hovernet-pseudo-distance-sobel": HoverCodec(self.types, energy="pseudo-distance", markers="sobel"),
            "hovernet-sobel-threshold": HoverCodec(self.types, energy="sobel", markers="threshold"),
        }

    def _branches(self) -> dict[str, int]:
        if not self.types:
            return {"np": 2, "hv": 2}
        if self.type_branch:
            return {"np": 2, "hv": 2, "tp": self.types + 1}
        return {"tp": self.types + 1, "hv": 2}

    def forward(self, images: Tensor) -> Outputs:
        """Return the outputs for prepared images (B, 3, H, W).

        Returns:
            Logits ``np`` (B, 2, h, w) of background and nucleus, ``hv`` (B, 2, h, w), the horizontal and vertical
            distance, and with types logits ``tp`` (B, T + 1, h, w), 0 = background. Types without an NC branch replace
            ``np``.
        """
        return self.network(images)  # type: ignore[no-any-return]  # modules are untyped callables

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms of eq. 1.

        Args:
            outputs: Outputs of `forward`.
            batch: ``np`` int64 (B, h, w), ``hv`` float (B, 2, h, w), and with types ``tp`` int64 (B, h, w).
        """
        terms = hover_terms(outputs, batch, self.type_weights)
        return terms if self.proposed else {name: terms[name] for name in STANDARD if name in terms}

    def activate(self, outputs: Outputs) -> Outputs:
        """Return the maps to decode.

        Returns:
            ``np`` (B, 1, h, w), the probability of nucleus, ``hv``, and with types the probabilities ``tp``,
            (B, T + 1, h, w).
        """
        maps = {"hv": outputs["hv"]}
        if "tp" in outputs:
            maps["tp"] = outputs["tp"].softmax(dim=1)
        if "np" in outputs:
            maps["np"] = outputs["np"].softmax(dim=1)[:, 1:]
        else:  # sum of all types (appendix A)
            maps["np"] = torch.sum(maps["tp"][:, 1:], dim=1, keepdim=True)
        return maps
