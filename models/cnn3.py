"""CNN3: a patch classifier with three classes, applied fully convolutionally (Kumar et al. 2017)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.forward.network import Outputs
from models.base.card import MethodCard, Variant
from models.base.card_texts import NO_STAIN_NORMALISATION, UNKNOWN_AUGMENTATION
from models.base.method import UNTYPED, Batch, NucleiMethod, Task
from models.base.recipe import Phase, Recipe
from models.networks.blocks import Float32Conv2d
from postproc.codecs.region_growing import BoundaryCodec
from postproc.windows import Geometry

PATCH = 51
"""Side in pixels of the patch whose central pixel is classified."""

CHANNELS, KERNELS, DROPOUT = (25, 50, 80), (4, 5, 6), (0.1, 0.2, 0.25, 0.5, 0.5)
"""Channels and kernel sizes of the convolutions; dropout before each convolution and before both hidden layers."""

MEAN, STD = (0.691, 0.454, 0.610), (0.197, 0.212, 0.173)
"""Mean and standard deviation of R, G and B over the 16 training images of Kumar; the authors' script standardises."""

STRIP = 1 << 17
"""Pixels that the hidden layers process at once in inference: 1,024 channels of a large tile do not fit into memory."""


class PatchClassifier(nn.Module):
    """Three convolutions with max-pooling, two hidden layers and a classifier of the central pixel of 51 x 51 px.

    The network is applied to all pixels of an image at once: each pooling has stride 1 and doubles the dilation of all
    later layers. The output equals that of the network applied to the patch around each pixel.

    As in the authors' framework, the last pooling ignores the remainder of an odd size: of the 51 px of a side, the
    network sees only the first 47.

    Args:
        classes: Number of classes.
        hidden: Units of each hidden layer; 1,024 in the paper.
    """

    def __init__(self, classes: int, hidden: int = 1024) -> None:
        super().__init__()
        widths = (3, *CHANNELS)
        self.convolutions = nn.ModuleList(
            Float32Conv2d(widths[i], widths[i + 1], KERNELS[i], dilation=2**i) for i in range(len(KERNELS))
        )
        self.hidden = nn.ModuleList([nn.Linear(4 * CHANNELS[-1], hidden), nn.Linear(hidden, hidden)])
        self.head = nn.Linear(hidden, classes)
        for layer in (*self.convolutions, *self.hidden):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (B, classes, H - 50, W - 50), of images (B, 3, H, W)."""
        x = images
        for i, convolution in enumerate(self.convolutions):
            x = F.dropout2d(x, DROPOUT[i], self.training)
            x = F.max_pool2d(F.relu(convolution(x)), 2, stride=1, dilation=2**i)
        height, width = images.shape[-2] - PATCH + 1, images.shape[-1] - PATCH + 1
        rows = height if self.training else max(1, STRIP // (width * len(x)))
        x = x.permute(0, 2, 3, 1)
        strips = [self._classify(x, top, min(top + rows, height), width) for top in range(0, height, rows)]
        return torch.cat(strips, dim=1).permute(0, 3, 1, 2)

    def _classify(self, x: Tensor, top: int, bottom: int, width: int) -> Tensor:
        """Return the logits (B, bottom - top, width, classes) of rows of features (B, H', W', C)."""
        # The hidden layers see the 2 x 2 features of a patch after pooling; here these are 8 px apart.
        x = torch.cat([x[:, top + y : bottom + y, left : left + width] for y in (0, 8) for left in (0, 8)], dim=-1)
        for rate, layer in zip(DROPOUT[-2:], self.hidden, strict=True):
            x = F.relu(layer(F.dropout(x, rate, self.training)))
        return self.head(x)  # type: ignore[no-any-return]  # modules are untyped callables


RECIPE = Recipe(
    crop=101,
    phases=(Phase(batch_size=4, lr=0.01, steps=40_000),),
    crops_per_image=400,
    augment="hovernet",
    gradient_clip=5.0,
)
"""Training of CNN2 and CNN3."""

DEVIATIONS = (
    "In training too, the network is applied to all pixels of a crop at once: a crop of 101 px has 51 x 51 px of "
    "output. The loss is that of as many patches, which share their convolutions; they vary less than patches drawn "
    "one by one.",
    "Classes are balanced by weights, the reciprocals of their shares in the batch, instead of drawing equally many "
    "patches of each class.",
    "Widths, kernels, dropout, learning rate, momentum and the maximum norm of 1 of each unit's weights are those of "
    "the authors' public training script, because the paper was unavailable to us.",
    "40,000 steps of 4 crops, 400 million pixels; the gradient norm is limited to 5. The script trains for up to "
    "2,000 epochs, until the accuracy stops improving.",
    UNKNOWN_AUGMENTATION,
    NO_STAIN_NORMALISATION + " The paper normalises them.",
)


class CNN3(NucleiMethod):
    """Classifier of each pixel: outside, inside or boundary of a nucleus.

    Args:
        task: Types and pixel size of the training data; types are ignored.
        hidden: Units of each hidden layer.
        momentum: Momentum of SGD.
        max_norm: Maximum norm of the weights of each unit; 0 = unlimited.
    """

    card = MethodCard(
        name="cnn3",
        variants=(Variant("cnn3", "CNN3"),),
        summary="Classifies patches of 51 px as outside, inside or boundary; region growing.",
        paper="Kumar et al., A Dataset and a Technique for Generalized Nuclear Segmentation for Computational "
        "Pathology, IEEE TMI 36(7), 2017",
        url="https://doi.org/10.1109/TMI.2017.2677499",
        recipe="Patches of 51 px at 40x, SGD with momentum 0.6, dropout, norm of the weights of each unit at most 1.",
        deviations=(
            *DEVIATIONS,
            "The boundary is the outermost 2 px of a nucleus; we do not know the thickness in the paper.",
            "Region growing follows what we know of the paper: seeds in the inside class grow until the probability "
            "of the boundary passes its maximum. Thresholds and tolerance are our choice.",
        ),
    )
    small = {"hidden": 16}
    recipe = RECIPE
    classes = 3
    mean = MEAN
    std = STD

    def __init__(
        self, task: Task = UNTYPED, *, hidden: int = 1024, momentum: float = 0.6, max_norm: float = 1.0
    ) -> None:
        super().__init__(task)
        self.codecs = {"cnn3": BoundaryCodec()}
        self.geometry = Geometry(margin=PATCH // 2, minimum=PATCH)
        self.momentum = momentum
        self.max_norm = max_norm
        self.network = PatchClassifier(self.classes, hidden)

    def forward(self, images: Tensor) -> Outputs:
        """Return the logits ``classes``, (B, C, H - 50, W - 50), of prepared images (B, 3, H, W)."""
        return {"classes": self.network(images)}

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropy with balanced classes.

        Args:
            outputs: Outputs of `forward`.
            batch: ``classes`` int64 (B, h, w).
        """
        target = batch["classes"]
        count = torch.bincount(target.flatten(), minlength=self.classes).float()
        weight = torch.where(count > 0, target.numel() / (count.clamp(min=1) * (count > 0).sum()), 0.0)
        return {"ce": (F.cross_entropy(outputs["classes"], target, reduction="none") * weight[target]).mean()}

    def activate(self, outputs: Outputs) -> Outputs:
        """Return ``classes`` (B, C, h, w), the probability of each class."""
        return {"classes": outputs["classes"].softmax(dim=1)}

    def optimizer(self, parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """Return SGD with momentum."""
        return torch.optim.SGD(parameters, lr=lr, momentum=self.momentum)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Limit the norm of the weights of each unit."""
        if self.max_norm > 0:
            limit_norms(self.network, self.max_norm)


@torch.no_grad()
def limit_norms(network: nn.Module, limit: float) -> None:
    """Scale down the weights of each unit whose norm exceeds `limit`."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            norm = module.weight.flatten(1).norm(dim=1).clamp(min=1e-12)
            scale = (limit / norm).clamp(max=1)
            module.weight.mul_(scale.reshape(-1, *[1] * (module.weight.ndim - 1)))
