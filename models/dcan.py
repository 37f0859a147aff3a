"""DCAN: deep contour-aware network (Chen et al. 2016, 2017)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.vgg import make_layers

from benchmark.forward.network import Outputs
from models.base.card import MethodCard, Variant
from models.base.card_texts import GLOROT, HOVERNET_COMPARISON, RANDOM_CROPS, adam_instead
from models.base.losses import cross_entropy
from models.base.memory_format import keep_format
from models.base.method import UNTYPED, Batch, NucleiMethod, Task
from models.base.recipe import Phase, Recipe, Step
from models.base.weights import (
    IMAGENET,
    IMAGENET_MEAN,
    IMAGENET_STD,
    NONE,
    check_width,
    from_torchvision,
    initial_state,
)
from models.networks.vgg import FEATURES, VGG16, load_features
from postproc.codecs.contour import ContourCodec
from postproc.windows import Geometry

STRIDES = (8, 16, 32)
"""Strides in pixels of the features whose logits are fused (figure 3: before and after the last two poolings)."""
HEADS = ("object", "contour")
EPOCHS = 240
DISCOUNT_EVERY = 50
"""Epochs after which the weight of the auxiliary losses is divided by 10."""


class DCANetwork(nn.Module):
    """VGG16 with two binary classifiers at each of three depths, up-sampled and summed (Chen et al. 2016, figure 3).

    Args:
        features: Channels of the first convolution, 64 in the paper; all other widths are in proportion.
        dropout: Dropout rate between the two convolutions at stride 32.
    """

    def __init__(self, features: int = FEATURES, dropout: float = 0.5) -> None:
        super().__init__()
        # torchvision's order of layers, so that its weights fit.
        self.encoder = make_layers([factor * features or "M" for factor in VGG16])
        self.deep = nn.Sequential(
            nn.Conv2d(8 * features, 16 * features, 7, padding=3),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Conv2d(16 * features, 16 * features, 1),
            nn.ReLU(inplace=True),
        )
        depths = (8 * features, 8 * features, 16 * features)
        self.classifiers = nn.ModuleList(nn.Conv2d(width, 2 * len(HEADS), 1) for width in depths)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # all have a bias

    def forward(self, images: Tensor) -> Outputs:
        """Return the logits of images (B, 3, H, W); H and W are multiples of 32.

        Returns:
            ``object_8``, ``object_16``, ``object_32`` and the same for ``contour``, (B, 2, H, W) each.
        """
        levels = [images]
        x = images
        for layer in self.encoder:
            if isinstance(layer, nn.MaxPool2d):
                levels.append(x)
            x = layer(x)
        features = (levels[4], levels[5], self.deep(x))
        outputs = {}
        for stride, classifier, level in zip(STRIDES, self.classifiers, features, strict=True):
            # Up-sampling the logits instead of the features gives the same result at a hundredth of the cost.
            logits = keep_format(classifier(level))
            logits = keep_format(F.interpolate(logits, scale_factor=stride, mode="bilinear", align_corners=False))
            for head, part in zip(HEADS, logits.chunk(len(HEADS), dim=1), strict=True):
                outputs[f"{head}_{stride}"] = part
        return outputs


class DCAN(NucleiMethod):
    """DCAN.

    Args:
        task: Types and pixel size of the training data; types are ignored.
        features: Channels of the first convolution; 64 in the paper.
        weights: ``imagenet`` (VGG16), ``none``, or the path of a file with the weights of torchvision's VGG16.
        contour: Width of the contour on each side of the border of a nucleus, in pixels; 3 in the paper.
        dropout: Dropout rate in the deepest layers.
        weight_decay: L2 penalty on kernels.

    Raises:
        ConfigError: If ImageNet weights do not fit `features`, or the weights are unavailable.
        DataError: If the file of weights does not fit.
    """

    card = MethodCard(
        name="dcan",
        variants=(Variant("dcan", "DCAN"),),
        summary="VGG16 for nuclei and their contours, supervised at three depths; contours separate touching nuclei.",
        paper="Chen et al., DCAN: Deep Contour-Aware Networks for Object Instance Segmentation from Histology Images, "
        "Medical Image Analysis 36, 2017 (and CVPR 2016)",
        url="https://doi.org/10.1016/j.media.2016.11.004",
        recipe=HOVERNET_COMPARISON + "; the weight of the auxiliary losses is 1, divided by 10 after every 5/24 of the "
        "training, as in its public code.",
        deviations=(
            adam_instead("with learning rate 1e-3"),
            "Crops of 256 px instead of 480, dropout, and the 1024 channels at stride 32 are those of the comparison "
            "too.",
            "The encoder starts from VGG16 on ImageNet, not from DeepLab on PASCAL VOC, whose weights are not "
            "publicly hosted.",
            "Other kernels start from He et al.'s random weights, since a ReLU follows each layer; " + GLOROT,
            "Up-sampling is bilinear and fixed, as in the comparison; the paper starts from bilinear up-sampling and "
            "learns it.",
            "The structuring element of the contours is the diamond of the comparison; the paper uses a disc. At 40x, "
            "both elements of 3 px cover the smallest nuclei completely: true maps decode to a mean PQ of 0.975 on "
            "Kumar and 0.902 on CoNSeP. `contour` 2 gives 0.992 and 0.966, but stride 8 hardly resolves such narrow "
            "contours.",
            "Cores are pixels with object > 0.5 and contour < 0.5, as in the paper; the comparison thresholds the "
            "difference at 0.3, and at 0.1 on CPM-17.",
            "Cores grow back within the nuclear pixels, nearest first, by at most 5 px. The comparison dilates each "
            "by 3 px, also over background and neighbours; the paper smoothes with a disc. Cores under 5 px are "
            "dropped; the comparison drops those under 20 px, which loses true nuclei.",
            RANDOM_CROPS,
        ),
        pretrained="ImageNet (torchvision vgg16)",
    )
    small = {"features": 4, "weights": "none", "dropout": 0.0}
    recipe = Recipe(
        crop=256,
        phases=(Phase(batch_size=4, lr=1e-4, epochs=EPOCHS, schedule=Step(parts=2)),),
        crops_per_image=16,
        augment="hovernet",
    )

    def __init__(
        self,
        task: Task = UNTYPED,
        *,
        features: int = FEATURES,
        weights: str = IMAGENET,
        contour: int = 3,
        dropout: float = 0.5,
        weight_decay: float = 1e-5,
    ) -> None:
        super().__init__(task)
        self.codecs = {"dcan": ContourCodec(contour, contour)}
        self.geometry = Geometry(multiple=32, context=64, minimum=32)
        self.weight_decay = weight_decay
        self.network = DCANetwork(features, dropout)
        if weights != NONE:
            self._load(weights, features)

    def _load(self, weights: str, features: int) -> None:
        if weights == IMAGENET:
            check_width(weights, features, FEATURES, "VGG16")
        state, origin = initial_state(weights, lambda: from_torchvision("vgg16"))
        load_features(self.network.encoder, state, origin)
        self.mean, self.std = IMAGENET_MEAN, IMAGENET_STD

    def forward(self, images: Tensor) -> Outputs:
        """Return the logits of the three depths (`DCANetwork`) of prepared images."""
        return self.network(images)  # type: ignore[no-any-return]  # modules are untyped callables

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropies after fusion, and those of the depths with a decreasing weight (equation 1).

        Args:
            outputs: Outputs of `forward`.
            batch: ``object`` and ``contour``, int64 (B, H, W).
        """
        terms = {}
        for head, fused in fuse(outputs).items():
            terms[head] = cross_entropy(fused, batch[head])
            each = [cross_entropy(outputs[f"{head}_{stride}"], batch[head]) for stride in STRIDES]
            terms[f"{head}_auxiliary"] = self.auxiliary_weight() * torch.stack(each).sum()
        return terms

    def auxiliary_weight(self) -> float:
        """Return the weight of the auxiliary losses at the completed share of the training."""
        return float(10.0 ** -((self.progress * EPOCHS) // DISCOUNT_EVERY))

    def activate(self, outputs: Outputs) -> Outputs:
        """Return ``object`` and ``contour``, (B, 1, H, W), the probabilities after fusion."""
        return {head: fused.softmax(dim=1)[:, 1:] for head, fused in fuse(outputs).items()}


def fuse(outputs: Outputs) -> Outputs:
    """Return the sum of the logits over the depths, for each head."""
    return {head: torch.stack([outputs[f"{head}_{stride}"] for stride in STRIDES]).sum(dim=0) for head in HEADS}
