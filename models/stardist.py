"""StarDist: nuclei as star-convex polygons (Schmidt et al. 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.forward.network import Outputs
from models.base.card import MethodCard, Variant
from models.base.card_texts import ENCODER_OPTION
from models.base.method import UNTYPED, Batch, NucleiMethod, Task
from models.base.recipe import Phase, Recipe
from models.base.weights import IMAGENET
from models.networks.blocks import UNetBody
from models.networks.bodies import unet_body
from postproc.codecs.star_convex import StarConvexCodec
from postproc.windows import Geometry


class StarDist(NucleiMethod):
    """U-Net that predicts for each pixel an object probability and the distances to the outline along rays.

    Args:
        task: Types and pixel size of the training data; types are ignored.
        features: Channels of the first level; 32 in the paper.
        rays: Number of directions in which distances are predicted; 32 in the paper.
        weight: Weight of the distances in the loss.
        encoder: timm's name of an encoder, with which the body is a U-Net of segmentation-models-pytorch; None = the
            paper's network.
        weights: Weights of the encoder: ``imagenet``, ``none``, or the path of a file
            (`models.networks.encoders.load_encoder`).

    Raises:
        ConfigError: If the encoder is unknown, or weights are unavailable.
    """

    card = MethodCard(
        name="stardist",
        variants=(Variant("stardist", "StarDist"),),
        summary="U-Net predicting object probability and distances to the outline along rays; polygons compete.",
        paper="Schmidt et al., Cell Detection with Star-Convex Polygons, MICCAI 2018",
        url="https://doi.org/10.1007/978-3-030-00934-2_30",
        recipe="As in the public implementation: Adam; cross-entropy of the probability and mean absolute error of the "
        "distances, weighted by the probability.",
        deviations=(
            "400 epochs of 4 crops of each image; the public implementation trains 400 epochs of 100 steps.",
            "Augmentation is that of the public example (policy stardist), except that intensities are multiplied by "
            "0.6 to 1.2 instead of 0.6 to 2: its images, normalised by percentiles, may exceed 1, while images of 8 "
            "bits cannot.",
            "The learning rate is constant; the public implementation halves it when the validation loss stalls.",
            "Overlapping polygons are compared by their intersection as a share of the smaller polygon, counted in "
            "pixels.",
            "The U-Net has batch normalisation, so that it trains at any batch size.",
            "Distances are predicted at every pixel; the public implementation may predict them on a coarser grid.",
            ENCODER_OPTION,
        ),
    )
    small = {"features": 8, "rays": 16}
    recipe = Recipe(crop=256, phases=(Phase(batch_size=4, lr=3e-4, epochs=400),), crops_per_image=4, augment="stardist")

    def __init__(
        self,
        task: Task = UNTYPED,
        *,
        features: int = 32,
        rays: int = 32,
        weight: float = 0.2,
        encoder: str | None = None,
        weights: str = IMAGENET,
    ) -> None:
        super().__init__(task)
        self.codecs = {"stardist": StarConvexCodec(rays)}
        self.geometry = Geometry(multiple=8, context=48, minimum=16)
        self.weight = weight
        self.body = unet_body(self, encoder, weights, features, lambda: UNetBody(features, depth=3))
        self.neck = nn.Sequential(nn.Conv2d(features, 4 * features, 3, padding=1), nn.ReLU(inplace=True))
        self.probability = nn.Conv2d(4 * features, 1, 1)
        self.rays = nn.Conv2d(4 * features, rays, 1)

    def forward(self, images: Tensor) -> Outputs:
        """Return logits ``probability`` (B, 1, H, W) and ``rays`` (B, rays, H, W), in pixels, of prepared images."""
        features = self.neck(self.body(images))
        return {"probability": self.probability(features), "rays": self.rays(features)}

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropy of the probability and the weighted error of the distances (section 2.1)."""
        truth = batch["probability"]
        error = (outputs["rays"] - batch["rays"]).abs().mean(dim=1, keepdim=True)
        return {
            "probability": F.binary_cross_entropy_with_logits(outputs["probability"], truth),
            "rays": self.weight * (truth * error).sum() / truth.sum().clamp(min=1),
        }

    def activate(self, outputs: Outputs) -> Outputs:
        """Return ``probability`` in [0, 1] and the distances ``rays``, at least 0."""
        return {"probability": torch.sigmoid(outputs["probability"]), "rays": outputs["rays"].clamp(min=0)}
