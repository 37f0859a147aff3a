"""FCN-8s: VGG16 made fully convolutional, fused over three strides (Long et al. 2015)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.base.card import MethodCard, Variant
from models.base.card_texts import GLOROT, HOVERNET_COMPARISON, ONE_TRAINING, adam_instead
from models.base.foreground import ForegroundMethod
from models.base.method import UNTYPED, Task
from models.base.recipe import Phase, Recipe, Step
from models.base.weights import IMAGENET, IMAGENET_MEAN, IMAGENET_STD
from models.networks.vgg import CELLS, FEATURES, HIDDEN, STRIDE, VGGEncoder, initialise, load_pretrained
from postproc.codecs.binary import BinaryCodec, BinaryDynamicsCodec
from postproc.codecs.binary_watershed import BinaryWatershedCodec, ObjectCodec
from postproc.windows import Geometry


class Upsampling(nn.ConvTranspose2d):
    """Transposed convolution that starts as bilinear interpolation by an integer (Long et al. 2015, section 4.3).

    The input is padded with its border values, so that the initial output equals
    ``torch.nn.functional.interpolate(x, scale_factor=factor, mode="bilinear")``.

    Args:
        channels: Channels of input and output.
        factor: Factor of the up-sampling, even.
        fixed: Keep the kernel bilinear, as a buffer instead of a parameter.
    """

    def __init__(self, channels: int, factor: int, *, fixed: bool = False) -> None:
        super().__init__(channels, channels, 2 * factor, factor, factor + factor // 2, bias=False)
        self.start()
        if fixed:
            kernel = self.weight.detach()
            del self.weight
            self.register_buffer("weight", kernel)

    @torch.no_grad()
    def start(self) -> None:
        """Set the kernel to bilinear interpolation within each channel."""
        factor = self.stride[0]
        centre = torch.arange(2 * factor, device=self.weight.device) - factor + 0.5
        ramp = 1 - centre.abs() / factor
        self.weight.zero_()
        for channel in range(self.in_channels):
            self.weight[channel, channel] = ramp[:, None] * ramp[None, :]

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]  # no output_size: the factor determines it
        """Return (B, channels, factor * H, factor * W), given (B, channels, H, W)."""
        return super().forward(F.pad(x, (1, 1, 1, 1), mode="replicate"))


class FCN8Network(nn.Module):
    """VGG16 with its classifier as convolutions; scores at strides 32, 16 and 8 are summed (figure 3).

    Args:
        features: Channels of the first stage; 64 in VGG16. The hidden layers have 64 times as many.
        classes: Channels of the scores.
        dropout: Dropout rate after each hidden layer.
    """

    def __init__(self, features: int = FEATURES, classes: int = 2, dropout: float = 0.5) -> None:
        super().__init__()
        hidden = HIDDEN * features
        self.encoder = VGGEncoder(features)
        self.fc6 = nn.Conv2d(8 * features, hidden, CELLS, padding=CELLS // 2)
        self.fc7 = nn.Conv2d(hidden, hidden, 1)
        self.dropout = nn.Dropout(dropout)
        self.score32 = nn.Conv2d(hidden, classes, 1)
        self.score16 = nn.Conv2d(8 * features, classes, 1)
        self.score8 = nn.Conv2d(4 * features, classes, 1)
        initialise(self, [self.score32, self.score16, self.score8])
        self.up32 = Upsampling(classes, 2)
        self.up16 = Upsampling(classes, 2)
        self.up8 = Upsampling(classes, 8, fixed=True)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (B, classes, H, W), of images (B, 3, H, W) whose sides are multiples of 32 px."""
        (_, _, pool3, pool4, pool5), _ = self.encoder(images)
        x = self.dropout(F.relu(self.fc6(pool5)))
        x = self.dropout(F.relu(self.fc7(x)))
        x = self.up32(self.score32(x)) + self.score16(pool4)
        x = self.up16(x) + self.score8(pool3)
        return self.up8(x)  # type: ignore[no-any-return]  # modules are untyped callables


class FCN8(ForegroundMethod):
    """FCN-8s.

    Args:
        task: Types and pixel size of the training data; types are ignored.
        features: Channels of the first stage; 64 in the paper.
        weights: ``imagenet``, ``none``, or a file with the weights of torchvision's VGG16 or of the whole network.
        dropout: Dropout rate after each of the two hidden layers.
        weight_decay: L2 penalty on kernels.

    Raises:
        ConfigError: If an option is out of range, or the weights are unavailable.
        DataError: If the file of weights does not fit.
    """

    card = MethodCard(
        name="fcn8",
        variants=(
            Variant("fcn8", "FCN8"),
            Variant("fcn8-ws", "FCN8 + WS"),
            Variant("fcn", "FCN"),
            Variant("fcn-pp", "FCN + PP"),
        ),
        summary="Fully convolutional VGG16; sums the scores of three strides.",
        paper="Long et al., Fully Convolutional Networks for Semantic Segmentation, CVPR 2015",
        url="https://doi.org/10.1109/CVPR.2015.7298965",
        recipe=HOVERNET_COMPARISON + ", cross-entropy. VGG16 starts from ImageNet weights and the scores from Glorot's "
        "random weights, as in Naylor et al. 2018 (section VI-D), whose rate is 1e-4 too.",
        deviations=(
            ONE_TRAINING,
            "FCN8 and FCN8 + WS are decoded as in Graham et al. 2019 (holes filled, at least 10 px; WS: watershed of "
            "the distance transform, as in their public code), FCN and FCN + PP as in Naylor et al. 2018 (components "
            "above 0.5; dynamics p1 = 10).",
            "The encoder starts from ImageNet; option weights=none starts from He et al.'s random weights; " + GLOROT,
            "The comparison of HoVer-Net resizes the scores. Here, as in the paper, two transposed convolutions start "
            "as bilinear interpolation and learn, and the last one is fixed.",
            adam_instead("with momentum"),
            "Adam instead of SGD with momentum, and FCN-8s at once instead of after FCN-32s and FCN-16s, as in both "
            "comparisons.",
            "The hidden layers pad their input by 3 cells; the paper pads the image by 100 px and crops. The "
            "interpolations pad their input with its border values.",
            "The hidden layers start from ImageNet too, as in the paper; Naylor et al. 2018 mention only the features.",
        ),
        pretrained="ImageNet (torchvision vgg16)",
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
        self,
        task: Task = UNTYPED,
        *,
        features: int = FEATURES,
        weights: str = IMAGENET,
        dropout: float = 0.5,
        weight_decay: float = 1e-5,
    ) -> None:
        super().__init__(task)
        self.codecs = {
            "fcn8": ObjectCodec(),
            "fcn8-ws": BinaryWatershedCodec(),
            "fcn": BinaryCodec(split=False, w0=0.0),
            "fcn-pp": BinaryDynamicsCodec(split=False, w0=0.0),
        }
        # About half the receptive field of the scores at stride 16 (100 px) and one cell of interpolation; farther
        # inside, the border influences only the coarsest scores.
        self.geometry = Geometry(multiple=STRIDE, context=64, minimum=STRIDE)
        self.weight_decay = weight_decay
        self.network = FCN8Network(features, dropout=dropout)
        load_pretrained(self.network, weights, features=features, norm=False)
