"""PangNet: four convolutions without pooling (Pang et al. 2010), as compared by Naylor et al. 2017."""

from __future__ import annotations

from torch import nn

from models.base.card import MethodCard, Variant
from models.base.card_texts import NAYLOR_2017, NAYLOR_2017_AUGMENTATION, NAYLOR_2017_SETTINGS
from models.base.foreground import ForegroundMethod
from models.base.method import UNTYPED, Task
from models.base.momentum import MomentumMethod
from models.base.recipe import Phase, Recipe, Step
from models.base.weights import IMAGENET_MEAN, IMAGENET_STD
from models.networks.vgg import initialise, stage
from postproc.codecs.binary import BinaryCodec, BinaryDynamicsCodec, DynamicsParams
from postproc.errors import ConfigError
from postproc.windows import Geometry

HIDDEN_LAYERS = 3
"""Convolutions before the last one, which returns the scores."""


class PangNetwork(nn.Sequential):
    """Three 3 x 3 convolutions with ReLU and a 1 x 1 convolution: images (B, 3, H, W) -> logits (B, classes, H, W).

    Args:
        features: Channels of each hidden layer.
        classes: Channels of the logits.
    """

    def __init__(self, features: int = 8, classes: int = 2) -> None:
        super().__init__(stage([3] + [features] * HIDDEN_LAYERS, norm=False), nn.Conv2d(features, classes, 1))
        initialise(self)


class PangNet(MomentumMethod, ForegroundMethod):
    """PangNet as Naylor et al. 2017 trained it.

    Args:
        task: Types and pixel size of the training data; types are ignored.
        features: Channels of each hidden layer; 8 in the paper.
        adam: Adam instead of SGD, for short trainings.
        weight_decay: L2 penalty on kernels.

    Raises:
        ConfigError: If `features` is less than 1.
    """

    card = MethodCard(
        name="pangnet",
        variants=(Variant("pangnet", "PangNet"), Variant("pangnet-pp", "PangNet + PP")),
        summary="Four convolutions, eight channels: classifies pixels by colour and immediate neighbourhood.",
        paper="Pang et al., Cell Nucleus Segmentation in Color Histopathological Imagery Using Convolutional Networks, "
        "CCPR 2010",
        url="https://doi.org/10.1109/CCPR.2010.5659313",
        recipe=NAYLOR_2017 + ".",
        deviations=(
            "Naylor et al. describe four convolutions of eight maps. Here, as in their public code and the abstract "
            "of Pang et al., three hidden layers of 3 x 3 px with ReLU have eight maps, and the fourth, of 1 x 1, "
            "returns the scores. The kernels and activations of Pang et al. may differ.",
            NAYLOR_2017_SETTINGS + " Batch 4 and crops of 224 px are those of their public code. The learning rate of "
            "0.1, divided by 10 every 80 epochs, and 240 epochs of 16 crops of each image are our choice.",
            NAYLOR_2017_AUGMENTATION,
            "Initial weights are those of He et al. before each ReLU; the public code of Naylor et al. draws Glorot's.",
        ),
    )
    small = {"features": 8}
    recipe = Recipe(
        crop=224,
        phases=(Phase(batch_size=4, lr=1e-1, epochs=240, schedule=Step(parts=3)),),
        crops_per_image=16,
        augment="naylor-2017",
    )
    mean = IMAGENET_MEAN
    std = IMAGENET_STD

    def __init__(
        self, task: Task = UNTYPED, *, features: int = 8, adam: bool = False, weight_decay: float = 5e-5
    ) -> None:
        super().__init__(task)
        if features < 1:
            raise ConfigError(f"features={features}: give at least 1; the paper uses 8")
        self.codecs = {
            "pangnet": BinaryCodec(split=False, w0=0.0),
            "pangnet-pp": BinaryDynamicsCodec(split=False, w0=0.0, params=DynamicsParams(p1=7.0)),
        }
        self.geometry = Geometry(context=HIDDEN_LAYERS, minimum=1 + 2 * HIDDEN_LAYERS)
        self.adam = adam
        self.weight_decay = weight_decay
        self.network = PangNetwork(features)
