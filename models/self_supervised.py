"""Self-supervised attention on nuclei by classifying the magnification (Sahasrabudhe et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet34

from benchmark.forward.network import Outputs
from datamodules.drawing.crops import Drawer
from datamodules.drawing.magnification import LEVELS, MagnificationDrawer, draw_batch
from models.base.card import MethodCard, Variant
from models.base.method import UNTYPED, Batch, NucleiMethod, Task
from models.base.recipe import Phase, Recipe
from models.base.stain import lab_statistics, transfer_colour
from models.base.weights import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    NONE,
    from_torchvision,
    initial_state,
    load_exactly,
    rename,
)
from postproc.codec import Targets
from postproc.codecs.attention import AttentionCodec
from postproc.windows import Geometry

DILATIONS = (1, 2, 3, 5, 10, 20)
"""Dilations of the residual blocks."""

MOMENTUM = 0.1
"""Weight of the threshold of a batch in the running mean, which inference uses."""

TRANSFORMS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda images: images.flip(3),
    lambda images: images.flip(2),
    lambda images: images.transpose(2, 3),
    lambda images: images.rot90(1, (2, 3)),
    lambda images: images.rot90(2, (2, 3)),
    lambda images: images.rot90(3, (2, 3)),
)
"""Transforms to which the attention should be equivariant (section 3.2): flips, transpose, rotations."""


class SelfSupervised(NucleiMethod):
    """Attention network and magnification classifier, trained together without labels.

    Training uses only images and their magnification. The annotation of validation images selects the epoch and the
    post-processing (protocol ``strict``), as in the paper. Trained on tiles of whole slides (dataset ``tiles``), the
    method is M_proposed of the paper; trained on images of another dataset, it is M_-WSI.

    Args:
        task: Types and pixel size of the training data; types are ignored.
        smooth: Use the smoothness loss; False is M_-smooth of the paper.
        equivariance: Use the equivariance loss; False is M_-equiv.
        sparsity: Use the biased, compressed sigmoid; False is M_-sparse, with a plain sigmoid.
        normalise_stain: Match colours to those of a target (Reinhard).
        weights: Initial weights of the classifier: ``none`` = random, ``imagenet`` = torchvision's ResNet-34, or a
            file.
        compression: Slope of the sigmoid (r).
        percentile: Percentage of a tile without attention (eta).
        width: Channels of the attention network.
    """

    card = MethodCard(
        name="self-supervised",
        variants=(Variant("self-supervised", "Self-supervised", ("Self-supervised (patches)",)),),
        summary="Attention on nuclei that emerges from classifying the magnification; no labels in training.",
        paper="Sahasrabudhe et al., Self-supervised Nuclei Segmentation in Histopathological Images Using "
        "Attention, MICCAI 2020",
        url="https://doi.org/10.1007/978-3-030-59722-1_38",
        recipe="Adam, weight decay 1e-4, beta1 0.9, batches uniform over 10x, 20x and 40x, 100 batches per epoch; "
        "epoch and post-processing selected on validation images.",
        deviations=(
            "If trained on images of a dataset (the paper's ablation M_-WSI), images are reduced by area averaging to "
            "20x and 10x. The tissue filter is left out, since such images contain hardly any background. An image "
            "below 40x gives tiles at its own and lower magnifications.",
            "For tissue in a tile of a whole slide, the paper gives only the colour space, HSV: here tissue has a "
            "saturation of at least 0.08 and a value of at least 0.05. Tiles are side by side.",
            "The epoch is selected by the Dice score on eight fixed crops of 160 px of each validation image. The "
            "paper does not say how it selects the four post-processing parameters: here by the mean AJI.",
            "Widths and dilations are those of the authors' public code, since figure 1 is not legible: 64 channels, "
            "a 3 x 3 convolution, residual blocks of dilation 1, 2, 3, 5, 10 and 20, a 1 x 1 convolution.",
            "In inference, tau is the running mean (momentum 0.1) over the training batches, as in the public code; "
            "the paper does not say.",
            "Both sides of equation 4 use the tau of the batch and pass gradients; the public code fixes the "
            "transformed side, with the running tau. Its scale equivariance and stain jitter are not in the paper and "
            "are left out.",
            "The public code starts the classifier from ImageNet weights, which the paper does not mention; "
            "weights=imagenet does so.",
            "The target of Reinhard's colour transfer is the mean colour statistics of Kumar's training images. The "
            "transfer applies to each crop in training and each image in inference, also if tiles were already "
            "matched to a target image. The public code uses its own target image and first standardises the "
            "brightness.",
            "6,000 steps (60 epochs of 100 batches): the paper gives no duration; it states that the Dice score "
            "flattens after about 30 epochs.",
        ),
        needs="none",
    )
    small = {"width": 8}
    recipe = Recipe(
        crop=160,
        phases=(Phase(batch_size=32, lr=2e-4, steps=6_000),),
        crops_per_image=169,  # 100 batches of 32 from the paper's 19 training images
        augment="flips",  # applied by its drawer to a whole batch
    )
    mean = IMAGENET_MEAN
    std = IMAGENET_STD
    own_statistics = True
    tau: Tensor
    batches: Tensor

    def __init__(
        self,
        task: Task = UNTYPED,
        *,
        smooth: bool = True,
        equivariance: bool = True,
        sparsity: bool = True,
        normalise_stain: bool = True,
        weights: str = NONE,
        compression: float = 20.0,
        percentile: float = 93.0,
        width: int = 64,
    ) -> None:
        super().__init__(task)
        self.codecs = {"self-supervised": AttentionCodec()}
        self.geometry = Geometry(context=1 + 2 * sum(DILATIONS), minimum=1)
        self.smooth, self.equivariance, self.sparsity = smooth, equivariance, sparsity
        self.normalise_stain = normalise_stain
        self.compression = compression if sparsity else 1.0
        self.percentile = percentile
        self.attention = attention_network(width)
        self.classifier = scale_classifier(weights)
        self.register_buffer("tau", torch.zeros(()))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def drawer(self, recipe: Recipe, *, augment: bool) -> Drawer:
        """Return the drawer of tiles without annotation; for validation, of crops with their foreground."""
        return MagnificationDrawer(recipe.crop) if augment else super().drawer(recipe, augment=False)

    def collate(self, items: list[Targets]) -> Batch:
        """Draw a training batch with equally many crops of each magnification; stack validation crops."""
        return super().collate(draw_batch(items) if "seed" in items[0] else items)

    def statistics(self, images: Tensor) -> Tensor:
        """Return the statistics (B, 2, 3), in L*a*b* if stains are normalised."""
        return lab_statistics(images) if self.normalise_stain else super().statistics(images)

    def prepare(self, images: Tensor, statistics: Tensor | None = None) -> Tensor:
        """Normalise the stain of uint8 (B, 3, H, W), then standardise by ImageNet's statistics."""
        if not self.normalise_stain:
            return super().prepare(images, statistics)
        scaled = images.to(self.device).float() / 255
        given = self.statistics(scaled) if statistics is None else statistics
        mean, std = (torch.tensor(v, device=self.device)[:, None, None] for v in (self.mean, self.std))
        prepared = (transfer_colour(scaled, given) - mean) / std
        return prepared.contiguous(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Outputs:
        """Return the confidence ``attention``, (B, 1, H, W)."""
        return {"attention": self.attention(images)}

    def activate(self, outputs: Outputs) -> Outputs:
        """Return the confidence minus the learnt tau; it is positive where the attention exceeds 0.5."""
        return {"attention": outputs["attention"] - self.tau}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of equation 5, or ``1 - Dice`` for validation crops, which have a foreground."""
        images = self.prepare(batch["image"])
        confidence = self.attention(images).float()
        if "foreground" in batch:
            return {"dice": 1 - dice(confidence > self.tau, batch["foreground"])}
        tau = self.threshold(confidence)
        attention = self.sigmoid(confidence, tau)
        outputs = {"attention": attention, "scale": self.classifier(images * attention)}
        if self.equivariance:
            transform = TRANSFORMS[int(torch.randint(len(TRANSFORMS), ()))]
            outputs["expected"] = transform(attention)
            outputs["turned"] = self.sigmoid(self.attention(transform(images)).float(), tau)
        with torch.autocast(self.device.type, enabled=False):
            return self.loss({name: value.float() for name, value in outputs.items()}, batch)

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return ``scale`` (equation 2), ``smoothness`` (equation 3) and ``equivariance`` (equation 4).

        Args:
            outputs: ``attention`` (B, 1, H, W) in [0, 1]; ``scale``, logits (B, 3); ``expected``, the transformed
                attention, and ``turned``, the attention of the transformed images.
            batch: ``magnification``, int64 (B,).
        """
        terms = {"scale": F.cross_entropy(outputs["scale"], batch["magnification"])}
        if self.smooth:
            terms["smoothness"] = roughness(outputs["attention"])
        if self.equivariance:
            terms["equivariance"] = F.mse_loss(outputs["turned"], outputs["expected"])
        return terms

    def threshold(self, confidence: Tensor) -> Tensor:
        """Return tau of a batch (equation 1), without gradient; in training, update the running mean."""
        if not self.sparsity:
            return self.tau
        tau = sparse_threshold(confidence.detach(), self.percentile)
        if self.training:
            self.tau.copy_(torch.where(self.batches == 0, tau, torch.lerp(self.tau, tau, MOMENTUM)))
            self.batches += 1
        return tau

    def sigmoid(self, confidence: Tensor, tau: Tensor) -> Tensor:
        """Return the attention, ``1 / (1 + exp(-r (confidence - tau)))``."""
        return torch.sigmoid(self.compression * (confidence - tau))

    def optimizer(self, parameters: list[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """Return Adam with the paper's settings."""
        return torch.optim.Adam(parameters, lr=lr, betas=(0.9, 0.999), weight_decay=1e-4)


class DilatedBlock(nn.Module):
    """Two dilated 3 x 3 convolutions whose output is added to their input.

    Args:
        width: Number of channels.
        dilation: Dilation of the kernels in pixels.
    """

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.first = _convolution(width, width, dilation)
        self.second = _convolution(width, width, dilation)

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        return F.relu(features + self.second(F.relu(self.first(features))))


def _convolution(inputs: int, outputs: int, dilation: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
    )


def attention_network(width: int) -> nn.Sequential:
    """Return the attention network: images (B, 3, H, W) -> confidences (B, 1, H, W)."""
    blocks = [DilatedBlock(width, dilation) for dilation in DILATIONS]
    return nn.Sequential(_convolution(3, width, 1), nn.ReLU(), *blocks, nn.Conv2d(width, 1, 1))


def scale_classifier(weights: str) -> nn.Module:
    """Return a ResNet-34: images (B, 3, H, W) -> logits of the magnifications (B, 3).

    Args:
        weights: ``none``, ``imagenet`` or a file with a state of torchvision's ResNet-34.

    Raises:
        ConfigError: If the weights are unavailable.
        DataError: If the file does not fit.
    """
    network: nn.Module = resnet34(weights=None, num_classes=len(LEVELS))
    if weights == NONE:
        return network
    state, origin = initial_state(weights, lambda: from_torchvision("resnet34"))
    own = {name: value for name, value in network.state_dict().items() if name.startswith("fc.")}
    load_exactly(network, rename(state, (), drop=("fc.",)) | own, origin)
    return network


def sparse_threshold(confidence: Tensor, percentile: float) -> Tensor:
    """Return the mean over a batch (B, 1, H, W) of each confidence map's percentile (equation 1)."""
    flat = confidence.flatten(1)
    above = round((1 - percentile / 100) * flat.shape[1])
    return flat.kthvalue(max(flat.shape[1] - above, 1), dim=1).values.mean()


def roughness(attention: Tensor) -> Tensor:
    """Return the mean sum of absolute differences to the pixels below and on the right (equation 3)."""
    down = (attention[..., 1:, :-1] - attention[..., :-1, :-1]).abs()
    right = (attention[..., :-1, 1:] - attention[..., :-1, :-1]).abs()
    return (down + right).mean()


def dice(predicted: Tensor, foreground: Tensor) -> Tensor:
    """Return the Dice score, pooled over images, of masks (B, 1, H, W) and (B, H, W); 1 if both are empty."""
    mask, truth = predicted.flatten(1).float(), foreground.flatten(1).float()
    total = mask.sum() + truth.sum()
    return torch.where(total > 0, 2 * (mask * truth).sum() / total.clamp(min=1), 1.0)
