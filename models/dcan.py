"""DCAN: deep contour-aware network (Chen et al. 2016, 2017)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.vgg import make_layers

from benchmark.forward.network import Outputs
from models.base.card import MethodCard, Variant
from models.base.losses import cross_entropy
from models.base.memory_format import keep_format
from models.base.method import UNTYPED, Batch, NucleiMethod, Task
from models.base.recipe import Phase, Recipe, Step
from models.base.weights import (
    IMAGENET,
    IMAGENET_MEAN,
    IMAGENET_STD,
    NONE,
    from_torchvision,
    load_exactly,
    read_state,
    rename,
    weights_file,
)
from models.networks.vgg import VGG16
from postproc.codecs.contour import ContourCodec
from postproc.errors import ConfigError
from postproc.windows import Geometry

FEATURES = 64
"""Channels of VGG-16's first convolution."""
STRIDES = (8, 16, 32)
"""Px of the image to a px of the features whose logits are fused (figure 3: before and after the last two poolings)."""
HEADS = ("object", "contour")
EPOCHS = 240
DISCOUNT_EVERY = 50
"""Epochs after which the weight of the auxiliary losses falls by 10."""


class DCANetwork(nn.Module):
    """VGG-16 with two pairs of classes at three depths, up-sampled and summed (Chen et al. 2016, figure 3).

    Args:
        features: Channels of the first convolution, 64 in the paper; all other widths are in proportion.
        dropout: Share dropped between the two convolutions at stride 32.
    """

    def __init__(self, features: int = FEATURES, dropout: float = 0.5) -> None:
        super().__init__()
        # torchvision's own order of layers, so that its weights fit.
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
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # all have one

    def forward(self, images: Tensor) -> Outputs:
        """Return the logits of images (B, 3, H, W), H and W multiples of 32.

        Returns:
            ``object_8``, ``object_16``, ``object_32`` and the same of ``contour``: (B, 2, H, W) each.
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
            # Enlarging the classes in place of the features gives the same, at a hundredth of the cost.
            logits = keep_format(classifier(level))
            logits = keep_format(F.interpolate(logits, scale_factor=stride, mode="bilinear", align_corners=False))
            for head, part in zip(HEADS, logits.chunk(len(HEADS), dim=1), strict=True):
                outputs[f"{head}_{stride}"] = part
        return outputs


class DCAN(NucleiMethod):
    """DCAN.

    Args:
        task: What the training data asks for; types are ignored.
        features: Channels of the first convolution; 64 in the paper.
        weights: ``imagenet`` (VGG-16), ``none``, or the path of a file with the weights of torchvision's VGG-16.
        contour: Width of the contour on each side of a nucleus' border, px; 3 in the paper.
        dropout: Share dropped in the deepest layers.
        weight_decay: L2 penalty on the kernels.

    Raises:
        ConfigError: If ImageNet weights are asked for with other `features`, or cannot be had.
    """

    card = MethodCard(
        name="dcan",
        variants=(Variant("dcan", "DCAN"),),
        summary="VGG network for nuclei and their contours, supervised at three depths; contours part touching nuclei.",
        paper="Chen et al., DCAN: Deep Contour-Aware Networks for Object Instance Segmentation from Histology Images, "
        "Medical Image Analysis 36, 2017 (and CVPR 2016)",
        url="https://doi.org/10.1016/j.media.2016.11.004",
        recipe="As in the comparison of HoVer-Net (public code of Graham et al. 2019): Adam, weight decay 1e-5; the "
        "auxiliary losses weigh 1, and a tenth of it after every 5/24 of the training.",
        deviations=(
            "Adam in place of stochastic gradient descent from 1e-3, and 256 px in place of 480, as in the comparison "
            "of HoVer-Net, whose figures the tables show; so are dropout and the 1024 channels at stride 32.",
            "The encoder starts from VGG-16 on ImageNet, not from DeepLab on PASCAL VOC, whose weights are not on a "
            "public server. Other kernels are He et al.'s, since all layers are followed by a ReLU; the comparison "
            "draws Glorot's.",
            "Up-sampling is bilinear and fixed, as in the comparison; the paper starts from it and learns it.",
            "The structuring element of the contours is the comparison's diamond; the paper has a disc. At 40x the 3 "
            "px of both cover the smallest nuclei whole: true maps decode to a mean PQ of 0.975 on Kumar and 0.902 on "
            "CoNSeP. `contour` 2 gives 0.992 and 0.966, but stride 8 hardly resolves so narrow a contour.",
            "Cores are px of object > 0.5 and contour < 0.5, as in the paper; the comparison thresholds the difference "
            "at 0.3, and at 0.1 on CPM-17.",
            "Cores grow back within the nuclear px, nearest first, by at most 5 px; the comparison dilates each by 3 "
            "px, over the background too and over its neighbours, and the paper smoothes by a disc. Cores under 5 px "
            "are dropped; the comparison drops those under 20, which costs true nuclei.",
            "Crops are drawn at random, 16 of each image in an epoch: as many as fit into 1000 x 1000 px.",
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
        if weights == IMAGENET and features != FEATURES:
            raise ConfigError(f"features={features}: VGG-16 has {FEATURES}. Use weights=none with other widths.")
        if weights == IMAGENET:
            pretrained = from_torchvision("vgg16")
            state, origin = pretrained.state, pretrained.origin
        else:
            path = weights_file(weights)
            state, origin = read_state(path), str(path)
        load_exactly(self.network.encoder, rename(state, ((r"^features\.", ""),), drop=("classifier.",)), origin)
        self.mean, self.std = IMAGENET_MEAN, IMAGENET_STD

    def forward(self, images: Tensor) -> Outputs:
        """Return the logits of the three depths, as `DCANetwork`."""
        return self.network(images)  # type: ignore[no-any-return]  # modules are untyped callables

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropies of the sum, and those of each depth with a weight that falls (equation 1).

        Args:
            outputs: What `forward` gave.
            batch: ``object`` and ``contour``, int64 (B, H, W).
        """
        terms = {}
        for head, fused in fuse(outputs).items():
            terms[head] = cross_entropy(fused, batch[head])
            each = [cross_entropy(outputs[f"{head}_{stride}"], batch[head]) for stride in STRIDES]
            terms[f"{head}_auxiliary"] = self.auxiliary_weight() * torch.stack(each).sum()
        return terms

    def auxiliary_weight(self) -> float:
        """Return the weight of the auxiliary losses, by the share of the training that is done."""
        return float(10.0 ** -((self.progress * EPOCHS) // DISCOUNT_EVERY))

    def activate(self, outputs: Outputs) -> Outputs:
        """Return ``object`` and ``contour``, (B, 1, H, W), the probabilities after fusion."""
        return {head: fused.softmax(dim=1)[:, 1:] for head, fused in fuse(outputs).items()}


def fuse(outputs: Outputs) -> Outputs:
    """Return the sum of the logits over depths, by head."""
    return {head: torch.stack([outputs[f"{head}_{stride}"] for stride in STRIDES]).sum(dim=0) for head in HEADS}
