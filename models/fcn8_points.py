"""FCN-8s of KiNet's comparison: pixel classes learnt from points (Long et al. 2015, Xing et al. 2019)."""

from __future__ import annotations

import dataclasses

from models.base.card import MethodCard, Variant
from models.base.method import UNTYPED, Task
from models.base.points import DISC_DEVIATIONS, RECIPE, SHARED_DEVIATIONS, TRAINING, PointClassification
from models.base.weights import IMAGENET
from models.fcn8 import FCN8Network
from models.networks.vgg import FEATURES, STRIDE, load_pretrained
from postproc.codecs.point_targets import DiscCodec
from postproc.windows import Geometry

CROP = 224
"""Side of the crops in pixels: the multiple of the network's stride that is closest to KiNet's 200."""


class FCN8Points(PointClassification):
    """FCN-8s for points.

    Args:
        task: Types and pixel size of the training data; the classes are the types and background.
        features: Channels of the first stage; 64 in the paper.
        weights: ``imagenet``, ``none``, or a file with the weights of torchvision's VGG16 or of the whole network.
        dropout: Dropout rate after each of the two hidden layers.

    Raises:
        ConfigError: If an option is out of range, or the weights are unavailable.
        DataError: If the file of weights does not fit.
    """

    card = MethodCard(
        name="ki67-fcn8s",
        variants=(Variant("ki67-fcn8s", "FCN-8s"),),
        summary="Fully convolutional VGG16; classifies pixels by the type of their nucleus, from discs around points.",
        paper="Long et al., Fully Convolutional Networks for Semantic Segmentation, CVPR 2015",
        url="https://doi.org/10.1109/CVPR.2015.7298965",
        recipe=TRAINING + " Cross-entropy; VGG16 starts from ImageNet weights.",
        deviations=(
            *SHARED_DEVIATIONS,
            *DISC_DEVIATIONS,
            "Crops of 224 px instead of 200: the sides must be multiples of 32 px.",
            "The comparison does not say whether FCN-8s starts from ImageNet, as it does in its own paper and here; "
            "option weights=none starts from random weights. Images are standardised by their own statistics instead "
            "of ImageNet's.",
            "The network is that of fcn8, with its deviations: FCN-8s at once, convolutions padded by 3 cells.",
        ),
        tasks=("detection", "classification"),
        needs="points",
        pretrained="ImageNet (torchvision vgg16)",
    )
    small = {"features": 4, "weights": "none"}
    recipe = dataclasses.replace(RECIPE, crop=CROP)

    def __init__(
        self, task: Task = UNTYPED, *, features: int = FEATURES, weights: str = IMAGENET, dropout: float = 0.5
    ) -> None:
        super().__init__(task)
        codec = DiscCodec(len(task.types))
        self.codecs = {"ki67-fcn8s": codec}
        self.geometry = Geometry(multiple=STRIDE, context=64, minimum=STRIDE)
        self.network = FCN8Network(features, classes=codec.channels + 1, dropout=dropout)
        load_pretrained(self.network, weights, features=features, norm=False)
