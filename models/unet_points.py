"""U-Net of KiNet's comparison: pixel classes learnt from points (Ronneberger et al. 2015, Xing et al. 2019)."""

from __future__ import annotations

import dataclasses

from models.base.card import MethodCard, Variant
from models.base.method import UNTYPED, Task
from models.base.points import DISC_DEVIATIONS, RECIPE, SHARED_DEVIATIONS, TRAINING, PointClassification
from models.unet import ValidUNet
from postproc.codecs.point_targets import DiscCodec
from postproc.windows import Geometry

CROP = 380
"""Side of the crops in pixels. The output has 196 px, the valid size closest to KiNet's 200."""


class UNetPoints(PointClassification):
    """U-Net for points.

    Args:
        task: Types and pixel size of the training data; the classes are the types and background.
        features: Channels of the first level; 64 in the paper.
        dropout: Dropout rate at the end of the contracting path.
    """

    card = MethodCard(
        name="ki67-unet",
        variants=(Variant("ki67-unet", "U-Net (points)"),),
        summary="Encoder and decoder with skip connections; classifies pixels by the type of their nucleus, from discs "
        "around points.",
        paper="Ronneberger et al., U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI 2015",
        url="https://doi.org/10.1007/978-3-319-24574-4_28",
        recipe=TRAINING + " Cross-entropy.",
        deviations=(
            *SHARED_DEVIATIONS,
            *DISC_DEVIATIONS,
            "Crops of 380 px, of which the unpadded convolutions leave 196, instead of 200.",
            "No border weight map: points have no borders.",
            "The paper's table calls this row U-Net; here that is the title of the method unet.",
        ),
        tasks=("detection", "classification"),
        needs="points",
    )
    small = {"features": 8}
    recipe = dataclasses.replace(RECIPE, crop=CROP)

    def __init__(self, task: Task = UNTYPED, *, features: int = 64, dropout: float = 0.5) -> None:
        super().__init__(task)
        codec = DiscCodec(len(task.types))
        self.codecs = {"ki67-unet": codec}
        self.geometry = Geometry(margin=92, multiple=16, remainder=12, minimum=188)
        self.network = ValidUNet(features, codec.channels + 1, dropout)
