"""Layout of synthetic tissue: epithelium, stroma with fibres, and bare slide."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
"""float32 (H, W)."""


@dataclass(frozen=True)
class Tissue:
    """Tissue between the nuclei.

    Attributes:
        epithelium: In [0, 1]: 1 in epithelium or tumour, 0 in stroma.
        empty: In [0, 1]: 1 where the slide is bare.
        fibres: Stroma texture with approximately zero mean and unit variance.
        along_fibres: Direction of the fibres in radians.
        across_gland: Direction from the border of the epithelium inwards, in radians.
        infiltrate: In [0, 1]: share of inflammatory cells in the stroma.
    """

    epithelium: Field
    empty: Field
    fibres: Field
    along_fibres: Field
    across_gland: Field
    infiltrate: Field


def noise(shape: tuple[int, int], cell: float, rng: np.random.Generator) -> Field:
    """Return smooth noise of about unit variance with grains `cell` pixels wide (at least one)."""
    cell = max(cell, 1.0)
    grid = (int(shape[0] / cell) + 3, int(shape[1] / cell) + 3)
    coarse = rng.standard_normal(grid, dtype=np.float32)
    height, width = round(grid[0] * cell), round(grid[1] * cell)
    fine = cv2.resize(coarse, (max(width, shape[1]), max(height, shape[0])), interpolation=cv2.INTER_CUBIC)
    top, left = (fine.shape[0] - shape[0]) // 2, (fine.shape[1] - shape[1]) // 2
    # bicubic interpolation of white noise keeps about 0.7 of its standard deviation
    return np.ascontiguousarray(fine[top : top + shape[0], left : left + shape[1]]) * np.float32(1.4)


def soft_step(field: Field, threshold: float, width: float) -> Field:
    """Return 0 below the threshold, 1 above it, with a ramp of `width` between."""
    return np.asarray(np.clip((field - np.float32(threshold)) / np.float32(width) + 0.5, 0, 1), np.float32)


def lay_out(shape: tuple[int, int], rng: np.random.Generator, scale: float) -> Tissue:
    """Lay out epithelium, stroma and bare slide.

    Args:
        shape: (H, W) in pixels.
        rng: The only source of randomness.
        scale: Magnification relative to 40x.
    """
    gland = noise(shape, 150 * scale, rng) + 0.25 * noise(shape, 40 * scale, rng)
    cut = float(np.quantile(gland, rng.uniform(0.4, 0.6)))
    epithelium = soft_step(gland, cut, 0.16)
    lumen = soft_step(gland, float(np.quantile(gland, rng.uniform(0.93, 0.99))), 0.12)
    down, right = np.gradient(cv2.GaussianBlur(gland, (0, 0), 8 * scale))

    angle = rng.uniform(0, np.pi)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    across = (y * np.cos(angle) - x * np.sin(angle)).astype(np.float32)
    across += 28 * scale * noise(shape, 150 * scale, rng) + 5 * scale * noise(shape, 35 * scale, rng)
    along = (x * np.cos(angle) + y * np.sin(angle)).astype(np.float32)
    fibres = sum(
        weight * _warped(across, along, (thick * scale, long * scale), rng)
        for weight, thick, long in ((0.35, 8, 60), (0.5, 3.5, 40), (0.5, 2, 18), (0.3, 1.5, 6))
    )
    slope_y, slope_x = np.gradient(across)
    clefts = soft_step(np.asarray(fibres, np.float32), rng.uniform(1.6, 2.2), 0.35)
    clefts *= soft_step(noise(shape, 70 * scale, rng), 0.2, 0.6)
    return Tissue(
        epithelium=epithelium,
        empty=np.maximum(lumen, clefts * (1 - epithelium)),
        fibres=np.asarray(fibres, np.float32),
        along_fibres=np.arctan2(-slope_x, slope_y).astype(np.float32),
        across_gland=np.arctan2(down, right).astype(np.float32),
        infiltrate=soft_step(noise(shape, 90 * scale, rng), 0.3, 1.0),
    )


def _warped(across: Field, along: Field, grain: tuple[float, float], rng: np.random.Generator) -> Field:
    """Sample noise with grains of (thickness, length) pixels in the curved coordinates (across, along)."""
    coarse = rng.standard_normal((256, 64), dtype=np.float32)
    rows, columns = across / np.float32(max(grain[0], 1.0)), along / np.float32(max(grain[1], 1.0))
    return np.asarray(cv2.remap(coarse, columns, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP)) * np.float32(1.4)
