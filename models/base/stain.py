"""Stain normalisation by colour transfer (Reinhard et al. 2001), on batches of images."""

from __future__ import annotations

import torch
from torch import Tensor

_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.95047, 1.0, 1.08883)
"""CIE XYZ of white (D65, 2 degrees)."""

TARGET = ((56.0, 30.2, -11.3), (16.0, 8.5, 7.4))
"""Target mean and standard deviation of L*, a* and b*: the averages over the 16 training images of Kumar."""


def rgb_to_lab(images: Tensor) -> Tensor:
    """Convert sRGB (B, 3, H, W) in [0, 1] to CIE L*a*b* (D65)."""
    linear = torch.where(images > 0.04045, ((images + 0.055) / 1.055).clamp(min=0) ** 2.4, images / 12.92)
    ratio = _mix(linear, torch.tensor(_TO_XYZ)) / _channels(_WHITE, images)
    x, y, z = torch.where(ratio > 0.008856, ratio.clamp(min=1e-9) ** (1 / 3), 7.787 * ratio + 16 / 116).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Convert CIE L*a*b* (B, 3, H, W) to sRGB, clipped to [0, 1]."""
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    bent = torch.stack([y + a / 500, y, y - b / 200], dim=1)
    ratio = torch.where(bent > 0.2068966, bent**3, (bent - 16 / 116) / 7.787)
    linear = _mix(ratio * _channels(_WHITE, lab), torch.linalg.inv(torch.tensor(_TO_XYZ, dtype=torch.float64)))
    linear = linear.clamp(0, 1)
    return torch.where(linear > 0.0031308, 1.055 * linear.clamp(min=1e-9) ** (1 / 2.4) - 0.055, 12.92 * linear)


def lab_statistics(images: Tensor) -> Tensor:
    """Return the mean and standard deviation of L*, a* and b* of each sRGB image, (B, 2, 3)."""
    deviation, mean = torch.std_mean(rgb_to_lab(images), dim=(2, 3), correction=0)
    return torch.stack([mean, deviation], dim=1)


def transfer_colour(images: Tensor, statistics: Tensor, target: Tensor | None = None) -> Tensor:
    """Match images to a target mean and standard deviation in each channel of L*a*b*.

    Args:
        images: sRGB (B, 3, H, W) in [0, 1].
        statistics: (B, 2, 3), `lab_statistics` of the whole images. A channel without contrast is shifted but not
            scaled.
        target: (2, 3), mean and standard deviation of L*, a* and b*; None = `TARGET`.

    Returns:
        sRGB of the same shape, in [0, 1].
    """
    mean, deviation = statistics.to(images)[..., None, None].unbind(1)
    wanted = (torch.tensor(TARGET) if target is None else target).to(images)[:, None, :, None, None]
    scale = torch.where(deviation > 0.5, wanted[1] / deviation, 1.0)
    return lab_to_rgb((rgb_to_lab(images) - mean) * scale + wanted[0])


def _channels(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device, dtype=like.dtype)[:, None, None]


def _mix(images: Tensor, matrix: Tensor) -> Tensor:
    """Multiply the channels of each pixel by a matrix, element-wise because autocast keeps that in float32."""
    rows = matrix.to(images)
    red, green, blue = images.unbind(1)
    mixed = [row[0] * red + row[1] * green + row[2] * blue for row in rows]
    return torch.stack(mixed, dim=1)


__all__ = ["TARGET", "lab_statistics", "lab_to_rgb", "rgb_to_lab", "transfer_colour"]
