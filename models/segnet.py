"""SegNet: VGG16 and its mirror image, which share pooling indices (Badrinarayanan et al. 2017)."""

from __future__ import annotations

from torch import Tensor, nn

from models.base.card import MethodCard, Variant
from models.base.card_texts import HOVERNET_COMPARISON, VGG16_BN, adam_instead
from models.base.foreground import ForegroundMethod
from models.base.method import UNTYPED, Task
from models.base.recipe import Phase, Recipe, Step
from models.base.weights import IMAGENET, IMAGENET_MEAN, IMAGENET_STD
from models.networks.vgg import FEATURES, STRIDE, UnpoolingDecoder, VGGEncoder, initialise, load_pretrained
from postproc.codecs.binary_watershed import BinaryWatershedCodec, ObjectCodec
from postproc.windows import Geometry


class SegNetwork(nn.Module):
    """Encoder and decoder of 13 convolutions each; all but the last have batch normalisation (figure 2).

    Args:
        features: Channels of the first stage; 64 in the paper.
        classes: Channels of the logits.
    """

    def __init__(self, features: int = FEATURES, classes: int = 2) -> None:
        super().__init__()
        self.encoder = VGGEncoder(features, norm=True)
        self.decoder = UnpoolingDecoder(features, depth=1, mirrored=False)
        self.head = nn.Conv2d(features, classes, 3, padding=1)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (B, classes, H, W), of images (B, 3, H, W) whose sides are multiples of 32 px."""
        maps, places = self.encoder(images)
        return self.head(self.decoder(maps[-1], places))  # type: ignore[no-any-return]  # modules are untyped callables


class SegNet(ForegroundMethod):
    """SegNet.

    Args:
        task: Types and pixel size of the training data; types are ignored.
        features: Channels of the first stage; 64 in the paper.
        weights: ``imagenet``, ``none``, or a file with the weights of torchvision's VGG16 with batch normalisation or
            of the whole network.
        weight_decay: L2 penalty on kernels.

    Raises:
        ConfigError: If an option is out of range, or the weights are unavailable.
        DataError: If the file of weights does not fit.
    """

    card = MethodCard(
        name="segnet",
        variants=(Variant("segnet", "SegNet"), Variant("segnet-ws", "SegNet + WS", ("SegNet+WS",))),
        summary="VGG16 and a decoder that unpools with the pooling indices of the encoder.",
        paper="Badrinarayanan et al., SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image "
        "Segmentation, IEEE TPAMI 39(12), 2017",
        url="https://doi.org/10.1109/TPAMI.2016.2644615",
        recipe=HOVERNET_COMPARISON + ", cross-entropy.",
        deviations=(
            adam_instead("with learning rate 0.1 and momentum 0.9"),
            "Classes have equal weights, as in that comparison, instead of median frequency balancing.",
            VGG16_BN,
            "Other layers start from He et al.'s random weights. In the public code of HoVer-Net's comparison all "
            "layers, the encoder too, start from Glorot's random weights.",
            "The public code of that comparison ends with a 1 x 1 convolution; here, as in the paper, it is 3 x 3.",
            "Images are standardised with ImageNet's mean and standard deviation; the paper normalises their local "
            "contrast.",
            "The row SegNet is decoded as in that comparison: components of the probability above 0.5, so that "
            "touching nuclei are one component. True maps then decode to a mean AJI of 0.742 on Kumar, and with WS to "
            "0.916.",
            "WS is the watershed of the distance transform of that public code; their paper does not describe it.",
        ),
        pretrained="ImageNet (torchvision vgg16_bn)",
    )
    small = {"features": 4, "weights": "none"}
    recipe = Recipe(
        crop=256,
        phases=(Phase(batch_size=8, lr=1e-4, epochs=240, schedule=Step(parts=2)),),
        crops_per_image=9,
        augment="hovernet",
    )
    mean = IMAGENET_MEAN
    std = IMAGENET_STD

    def __init__(
        self, task: Task = UNTYPED, *, features: int = FEATURES, weights: str = IMAGENET, weight_decay: float = 1e-5
    ) -> None:
        super().__init__(task)
        self.codecs = {"segnet": ObjectCodec(), "segnet-ws": BinaryWatershedCodec()}
        # Beyond the context, after several poolings, padding has hardly any influence.
        self.geometry = Geometry(multiple=STRIDE, context=64, minimum=STRIDE)
        self.weight_decay = weight_decay
        self.network = SegNetwork(features)
        load_pretrained(self.network, weights, features=features, norm=True)
