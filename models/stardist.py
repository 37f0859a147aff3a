"""StarDist: nuclei as star-convex polygons (Schmidt et al. 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.forward.network import Outputs
from models.base.card import MethodCard, Variant
from models.base.method import UNTYPED, Batch, NucleiMethod, Task
from models.base.recipe import Phase, Recipe
from models.base.weights import IMAGENET
from models.networks.blocks import UNetBody
from models.networks.bodies import unet_body
from postproc.codecs.star_convex import StarConvexCodec
from postproc.windows import Geometry


class StarDist(NucleiMethod):
    """U-Net that says of each px how likely it is central to a nucleus, and how far the outline is in each direction.

    Args:
        task: What the training data asks for; types are ignored.
        features: Channels of the first level; 32 in the paper.
        rays: Directions in which distances are predicted; 32 in the paper.
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
        summary="U-Net regressing object probability and distances to the outline along rays; polygons compete.",
        paper="Schmidt et al., Cell Detection with Star-Convex Polygons, MICCAI 2018",
        url="https://doi.org/10.1007/978-3-030-00934-2_30",
        recipe="Of the public implementation: Adam; cross-entropy of the probability and mean absolute error of the "
        "distances, weighted by the probability.",
        deviations=(
            "400 epochs of 4 crops of each image; the public implementation trains 400 epochs of 100 steps.",
            "Augmentation is that of the public example (policy stardist), with intensities times 0.6 to 1.2 in place "
            "of 0.6 to 2: its images, normalised by percentiles, may exceed 1, those of 8 bits may not.",
            "The learning rate stays as it is; the public implementation halves it when the validation loss stalls.",
            "Polygons that overlap are compared by what they share of the smaller one, counted in px.",
            "Batch normalisation in the U-Net, with which it trains at any batch size of this suite.",
            "Distances are predicted at every px; the public implementation may predict them on a coarser grid.",
            "With option encoder, the body is a U-Net of segmentation-models-pytorch over that encoder of timm. This "
            "is another method, with a row of its own; loss, targets and decoding are unchanged.",
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
        """Return the logits ``probability`` (B, 1, H, W) and ``rays`` (B, rays, H, W) in px, of prepared images."""
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
        """Return ``probability`` in [0, 1], and the distances as they are, at least 0."""
        return {"probability": torch.sigmoid(outputs["probability"]), "rays": outputs["rays"].clamp(min=0)}
