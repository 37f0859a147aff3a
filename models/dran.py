"""DRAN: deep residual aggregation network (Vu et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmark.forward.network import Outputs
from models.base.card import MethodCard, Variant
from models.base.card_texts import CONTOUR_WIDTH, TIMM_RESNET, UNKNOWN_AUGMENTATION
from models.base.losses import cross_entropy
from models.base.method import UNTYPED, Batch, NucleiMethod, Task
from models.base.recipe import Milestones, Phase, Recipe, Step
from models.base.weights import IMAGENET, NONE
from models.networks.dran import DRANetwork, load_pretrained
from models.networks.hovernet import FEATURES
from postproc.codecs.contour import ContourCodec
from postproc.windows import Geometry

RIGHT = (1.0, 5.0)
"""Weights of correctly classified background and boundary pixels in the boundary loss."""
WRONG = (4.0, 6.0)
"""Weights of misclassified background and boundary pixels."""
FROZEN = ("network.encoders.",)
DECAY = ((1, 0.5), (15, 0.1), (25, 0.075), (35, 0.05))
"""(epoch, factor of the learning rate) in the phases with one scale."""
PRETRAINED = Recipe(
    crop=206,
    phases=(
        Phase(batch_size=8, lr=1e-4, epochs=35, schedule=Milestones.of_epochs(35, DECAY), frozen=FROZEN),
        Phase(batch_size=8, lr=1e-4, epochs=40, schedule=Milestones.of_epochs(40, DECAY)),
        Phase(batch_size=8, lr=1e-4, epochs=45, schedule=Step(parts=3), frozen=FROZEN),
    ),
    crops_per_image=111,
    augment="hovernet",
)
# An encoder of random weights must learn throughout.
SCRATCH = Recipe(
    crop=206,
    phases=(Phase(batch_size=8, lr=1e-4, epochs=120, schedule=Step(parts=2)),),
    crops_per_image=111,
    augment="hovernet",
)


class DRAN(NucleiMethod):
    """DRAN.

    Args:
        task: Types and pixel size of the training data; types are ignored.
        features: Channels of the encoders' first convolution; 64 in ResNet-50.
        multiscale: Segment nuclei at three scales, as in the published figures; False = one scale, which is 4 times
            faster.
        weights: ``imagenet`` (timm's pre-activated ResNet-50), ``none``, or the path of a file with its weights.
        contour: Width of the boundary on each side of the border of a nucleus, in pixels.

    Raises:
        ConfigError: If an option is out of range, or the weights are unavailable.
        DataError: If the file of weights does not fit.
    """

    card = MethodCard(
        name="dran",
        variants=(Variant("dran", "DRAN"),),
        summary="Residual encoders with grouped decoders, for nuclei at three scales and for their boundaries.",
        paper="Vu et al., Methods for Segmentation and Classification of Digital Microscopy Tissue Images, "
        "Frontiers in Bioengineering and Biotechnology 7, 2019",
        url="https://doi.org/10.3389/fbioe.2019.00053",
        recipe="Encoders with ImageNet weights, frozen at first; then three scales, encoders frozen. Adam, weight "
        "decay 1e-5; patches of 102 px (54 px of output), batches of 32. Boundary pixels have weight 5, or 6 if "
        "missed; other pixels have weight 1, or 4 if taken for boundary.",
        deviations=(
            "We found no public code, and table 1 of the paper was unavailable to us. The kernels of the decoders (5 "
            "x 5 and 3 x 3, which reduce 102 px to the paper's 54), their widths (half of their input) and paths (16, "
            "8 and 4) are uncertain, and so is the fourth decoder except its 5 x 5 kernel and its 128 and 256 "
            "channels.",
            "All networks are trained together; each scale and the aggregation has its own loss. In the paper the "
            "scales start from the network of one scale; here, as in the paper, they share a frozen encoder.",
            "Crops of 206 px, batch 8, 111 of each image in an epoch: as many output pixels as 32 patches of 54 px, "
            "and as many patches as in the paper. Patches for the boundaries are not centred on nuclei.",
            UNKNOWN_AUGMENTATION + " HoVer-Net is from the same laboratory.",
            "Enlarged and reduced images lose up to 3 px at the border, so that the encoder accepts their size.",
            CONTOUR_WIDTH + " The paper dilates the predicted boundary by a 3 x 3 kernel instead; we could not find "
            "the width of its training boundary.",
            "Cores are the nuclear pixels outside the boundary; they grow back by a watershed within the nuclear "
            "pixels. The paper drops objects smaller than 13 square microns; here cores under 5 px are dropped, since "
            "nuclei of the other datasets are smaller.",
            TIMM_RESNET + ".",
        ),
        pretrained="ImageNet (timm resnetv2_50.a1h_in1k)",
    )
    small = {"features": 4, "multiscale": False, "weights": "none"}
    recipe = PRETRAINED
    weight_decay = 1e-5

    def __init__(
        self,
        task: Task = UNTYPED,
        *,
        features: int = FEATURES,
        multiscale: bool = True,
        weights: str = IMAGENET,
        contour: int = 2,
    ) -> None:
        super().__init__(task)
        self.recipe = SCRATCH if weights == NONE else PRETRAINED
        self.codecs = {"dran": ContourCodec(contour, contour)}
        self.geometry = (
            Geometry(margin=49, multiple=16, remainder=14, minimum=110)
            if multiscale
            else Geometry(margin=24, multiple=8, remainder=6, minimum=54)
        )
        self.network = DRANetwork(features, multiscale=multiscale)
        load_pretrained(self.network, weights, features)

    def forward(self, images: Tensor) -> Outputs:
        """Return the logits (`DRANetwork`) of prepared images."""
        return self.network(images)  # type: ignore[no-any-return]  # modules are untyped callables

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropies of nuclei at all scales and the weighted cross-entropy of boundaries.

        Args:
            outputs: Outputs of `forward`.
            batch: ``object`` and ``contour``, int64 (B, h, w).
        """
        weight = boundary_weights(outputs["contour"], batch["contour"])
        terms = {"contour": cross_entropy(outputs["contour"], batch["contour"], weight)}
        return terms | {
            name: cross_entropy(logits, batch["object"]) for name, logits in outputs.items() if name != "contour"
        }

    def activate(self, outputs: Outputs) -> Outputs:
        """Return the probabilities ``object`` and ``contour``, (B, 1, h, w)."""
        return {head: outputs[head].softmax(dim=1)[:, 1:] for head in ("object", "contour")}


@torch.no_grad()
def boundary_weights(logits: Tensor, target: Tensor) -> Tensor:
    """Return the weight of each pixel, which depends on its class and on whether it is classified correctly.

    Args:
        logits: (B, 2, h, w), background and boundary.
        target: int64 (B, h, w), 0 or 1.

    Returns:
        float (B, h, w).
    """
    right = logits.new_tensor(RIGHT)[target]
    wrong = logits.new_tensor(WRONG)[target]
    return torch.where(logits.argmax(dim=1) == target, right, wrong)
