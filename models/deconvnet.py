"""DeconvNet: VGG16 with its classifier, followed by its mirror image (Noh et al. 2015)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from models.base.card import MethodCard, Variant
from models.base.card_texts import NAYLOR_2017, NAYLOR_2017_AUGMENTATION, NAYLOR_2017_SETTINGS, VGG16_BN
from models.base.foreground import ForegroundMethod
from models.base.method import UNTYPED, Task
from models.base.momentum import MomentumMethod
from models.base.recipe import Phase, Recipe, Step
from models.base.weights import IMAGENET, IMAGENET_MEAN, IMAGENET_STD
from models.networks.vgg import (
    CELLS,
    FEATURES,
    HIDDEN,
    STRIDE,
    UnpoolingDecoder,
    VGGEncoder,
    initialise,
    load_pretrained,
)
from postproc.codecs.binary import BinaryCodec, BinaryDynamicsCodec, DynamicsParams
from postproc.windows import Geometry

GEOMETRY = Geometry(multiple=STRIDE, context=64, minimum=CELLS * STRIDE)
"""The bottleneck needs 7 x 7 cells. Beyond the context, after several poolings, padding has hardly any influence."""


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that uses the running statistics if a channel has only one value.

    The bottleneck reduces an image of 224 px to one cell, and the last batch of an epoch may contain one image.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised (B, C, H, W)."""
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class DeconvNetwork(nn.Module):
    """VGG16, a bottleneck that sees 7 x 7 cells, and the mirrored network (figure 2).

    Batch normalisation and ReLU follow every convolution but the last (section 4.1).

    Args:
        features: Channels of the first stage; 64 in the paper. The bottleneck has 64 times as many.
        classes: Channels of the logits.
    """

    def __init__(self, features: int = FEATURES, classes: int = 2) -> None:
        super().__init__()
        deep, hidden = 8 * features, HIDDEN * features
        self.encoder = VGGEncoder(features, norm=True)
        self.fc6 = nn.Conv2d(deep, hidden, CELLS)
        self.norm6 = BatchNorm(hidden)
        self.fc7 = nn.Conv2d(hidden, hidden, 1)
        self.norm7 = BatchNorm(hidden)
        self.widen = nn.ConvTranspose2d(hidden, deep, CELLS)
        self.norm_widen = nn.BatchNorm2d(deep)
        self.decoder = UnpoolingDecoder(features, depth=2, mirrored=True)
        self.head = nn.Conv2d(features, classes, 1)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (B, classes, H, W), of images (B, 3, H, W) with sides of 224, 256, 288, ... px."""
        maps, places = self.encoder(images)
        x = F.relu(self.norm6(self.fc6(maps[-1])))
        x = F.relu(self.norm7(self.fc7(x)))
        x = F.relu(self.norm_widen(self.widen(x)))
        return self.head(self.decoder(x, places))  # type: ignore[no-any-return]  # modules are untyped callables


class DeconvNet(MomentumMethod, ForegroundMethod):
    """DeconvNet as Naylor et al. 2017 trained it for nuclei.

    Args:
        task: Types and pixel size of the training data; types are ignored.
        features: Channels of the first stage; 64 in the paper.
        weights: ``imagenet``, ``none``, or a file with the weights of torchvision's VGG16 with batch normalisation or
            of the whole network.
        adam: Adam instead of SGD, for short trainings.
        weight_decay: L2 penalty on kernels.

    Raises:
        ConfigError: If an option is out of range, or the weights are unavailable.
        DataError: If the file of weights does not fit.
    """

    card = MethodCard(
        name="deconvnet",
        variants=(Variant("deconvnet", "DeconvNet"), Variant("deconvnet-pp", "DeconvNet + PP")),
        summary="VGG16 with its classifier as convolutions, mirrored by unpooling and transposed convolutions.",
        paper="Noh et al., Learning Deconvolution Network for Semantic Segmentation, ICCV 2015",
        url="https://doi.org/10.1109/ICCV.2015.178",
        recipe=NAYLOR_2017 + ", pretrained layers; the rate is that of Noh et al.",
        deviations=(
            NAYLOR_2017_SETTINGS + " The learning rate is that of Noh et al. and of the public code of Naylor et al., "
            "whose batch size of 4 is kept. 240 epochs of 16 crops of each image are of the order of the 40,000 steps "
            "of Noh et al.",
            "Crops of 320 px, on which the bottleneck has 4 x 4 cells: with 4 crops, its batch normalisation sees as "
            "many values as with the 64 crops of 224 px of Noh et al.",
            VGG16_BN + " The bottleneck starts from ImageNet too, except its normalisation. The public code of Naylor "
            "et al. names weights learnt on PASCAL VOC.",
            "One stage of training on crops of images replaces the two stages on crops around objects and on "
            "proposals, which nuclei do not need; no CRF.",
            NAYLOR_2017_AUGMENTATION,
            "Layers without pretrained weights start from those of He et al.; the paper draws Gaussian weights.",
        ),
        pretrained="ImageNet (torchvision vgg16_bn)",
    )
    small = {"features": 2, "weights": "none"}
    recipe = Recipe(
        crop=320,
        phases=(Phase(batch_size=4, lr=1e-2, epochs=240, schedule=Step(parts=3)),),
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
        weights: str = IMAGENET,
        adam: bool = False,
        weight_decay: float = 5e-5,
    ) -> None:
        super().__init__(task)
        self.codecs = {
            "deconvnet": BinaryCodec(split=False, w0=0.0),
            "deconvnet-pp": BinaryDynamicsCodec(split=False, w0=0.0, params=DynamicsParams(p1=7.0)),
        }
        self.geometry = GEOMETRY
        self.adam = adam
        self.weight_decay = weight_decay
        self.network = DeconvNetwork(features)
        load_pretrained(self.network, weights, features=features, norm=True)
