"""Losses shared by networks; all are computed in float32, regardless of the precision of the network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SMOOTH = 1e-3
"""Smoothing of the Dice loss (HoVer-Net, eq. 5)."""
GRADIENT_WEIGHT = 2.0
"""Weight of the gradient term (lambda_b; HoVer-Net, section III-A.1); all other weights are 1."""
SOBEL_SIZE = 5
"""Side of the Sobel kernels of the gradient loss, in pixels (HoVer-Net's public code)."""


def cross_entropy(
    logits: Tensor, target: Tensor, weight: Tensor | None = None, *, classes: Tensor | None = None
) -> Tensor:
    """Return the cross-entropy, averaged over all pixels (HoVer-Net, eq. 4; U-Net, eq. 1).

    The weighted loss is divided by the number of pixels, not by the sum of the weights: as in U-Net's energy
    function, a crop with many close nuclei has a larger weight than an empty crop. The same holds for class weights.

    Args:
        logits: (B, K, h, w), or (N, K).
        target: int64 (B, h, w), class of each pixel, or (N,).
        weight: float (B, h, w), weight of each pixel; None = 1 everywhere.
        classes: float (K,), weight of each class (`NucleiMethod.type_weights`); None = 1 for all.
    """
    classes = None if classes is None else classes.to(logits.device, torch.float32)
    each = F.cross_entropy(logits.float(), target, weight=classes, reduction="none")
    return each.mean() if weight is None else (each * weight.float()).mean()


def dice_loss(logits: Tensor, target: Tensor, smooth: float = SMOOTH) -> Tensor:
    """Return the Dice loss (HoVer-Net, eq. 5) of each class over the whole batch, summed over classes.

    The background counts as a class, so that the loss is in [0, K]. Due to `smooth`, the loss of a class that is
    neither present nor predicted is close to 0.

    Args:
        logits: (B, K, h, w).
        target: int64 (B, h, w), class of each pixel.
        smooth: Added to numerator and denominator.
    """
    classes = logits.shape[1]
    probability = logits.float().softmax(dim=1)
    truth = F.one_hot(target, classes).movedim(-1, 1).float()
    common = (probability * truth).sum(dim=(0, 2, 3))
    total = probability.sum(dim=(0, 2, 3)) + truth.sum(dim=(0, 2, 3))
    return (1 - (2 * common + smooth) / (total + smooth)).sum()


def hover_terms(outputs: dict[str, Tensor], batch: dict[str, Tensor], types: Tensor | None = None) -> dict[str, Tensor]:
    """Return the weighted terms of HoVer-Net's loss (eq. 1) by name.

    Args:
        outputs: ``hv`` (B, 2, h, w), and logits ``np`` (B, 2, h, w), ``tp`` (B, T + 1, h, w) or both.
        batch: ``hv`` float (B, 2, h, w), ``np`` and, if the outputs contain it, ``tp`` int64 (B, h, w).
        types: float (T + 1,), weights of background and types in the cross-entropy of ``tp``; None = equal weights.
    """
    terms = {
        "hv_mse": mse_loss(outputs["hv"], batch["hv"]),
        "hv_gradient": GRADIENT_WEIGHT * gradient_mse(outputs["hv"], batch["hv"], batch["np"]),
    }
    for branch in ("np", "tp"):
        if branch in outputs:
            weights = types if branch == "tp" else None
            terms[f"{branch}_ce"] = cross_entropy(outputs[branch], batch[branch], classes=weights)
            terms[f"{branch}_dice"] = dice_loss(outputs[branch], batch[branch])
    return terms


def mse_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared error over all pixels and channels (HoVer-Net, eq. 2; DIST, eq. 3)."""
    return F.mse_loss(predicted.float(), target.float())


def gradient_mse(predicted: Tensor, target: Tensor, nuclei: Tensor, size: int = SOBEL_SIZE) -> Tensor:
    """Return the mean squared error of the gradients of HoVer maps on nuclear pixels (HoVer-Net, eq. 3).

    The horizontal map is differentiated horizontally and the vertical map vertically. As in the public code, the sum
    is divided by twice the number m of nuclear pixels (the count of both components), and pixels outside the image
    are 0.

    Args:
        predicted: (B, 2, h, w), horizontal and vertical map.
        target: (B, 2, h, w).
        nuclei: (B, h, w), non-zero on nuclear pixels; without any, the loss is 0.
        size: Side of the Sobel kernels in pixels, odd.
    """
    kernels = sobel_kernels(size, predicted.device)[:, None]
    focus = (nuclei > 0).float()[:, None]
    # Autocast would run the convolution in half precision. One convolution suffices: the derivative is linear.
    with torch.autocast(predicted.device.type, enabled=False):
        error = F.conv2d(predicted.float() - target.float(), kernels, padding=size // 2, groups=2)
    return (error.square() * focus).sum() / (2 * focus.sum() + 1e-8)


def sobel_kernels(size: int, device: torch.device | None = None) -> Tensor:
    """Return the horizontal and the vertical derivative kernel, float32 (2, size, size).

    The elements at offset (x, y) pixels from the centre are x / (x² + y²) and y / (x² + y²), and 0 at the centre.

    Raises:
        ValueError: If `size` is even.
    """
    if size % 2 == 0:
        raise ValueError(f"size={size}: the size of a Sobel kernel must be odd")
    offset = torch.arange(size, device=device, dtype=torch.float32) - size // 2
    y, x = torch.meshgrid(offset, offset, indexing="ij")
    squared = (x.square() + y.square()).clamp(min=1)
    return torch.stack([x, y]) / squared
