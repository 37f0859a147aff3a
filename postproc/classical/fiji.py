"""Fiji's textbook pipeline for H&E: colour deconvolution, automatic threshold, binary watershed, particles.

Schindelin et al., Fiji: an open-source platform for biological-image analysis, Nature Methods 9, 2012.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from postproc.classical.base import ClassicalCodec, Image, Stain, areas, keep, rgb, split_by_shape
from postproc.codec import Array, Params, tunable
from postproc.instances import Instances
from postproc.pixels.components import fill_holes

HAEMATOXYLIN: Stain = (0.644211, 0.716556, 0.266844)
EOSIN: Stain = (0.092789, 0.954111, 0.283111)
"""Stain vectors "H&E" of the Colour Deconvolution plugin (Landini, after Ruifrok and Johnston)."""

LEAST = 0.001
"""Value with which the plugin replaces a zero in a stain vector."""


@dataclass(frozen=True)
class FijiParams(Params):
    """Settings of the pipeline.

    Attributes:
        min_area: Square microns; smaller particles are dropped (Analyze Particles, "Size"). The dialogue's default of 0
            keeps every speck.
    """

    min_area: float = tunable(10.0, (5.0, 10.0, 15.0, 20.0))


class FijiCodec(ClassicalCodec[FijiParams]):
    """Image to nuclei by threshold and watershed on the haematoxylin channel.

    Maps: ``image`` uint8 (3, H, W), RGB.

    Args:
        mpp: Microns per pixel of the images; None = 0.25.
    """

    params_type: ClassVar[type[Params]] = FijiParams

    def decode(self, maps: Mapping[str, Array], params: FijiParams) -> Instances:
        """Return the particles of at least the minimum size."""
        channel = haematoxylin_channel(rgb(maps))
        nuclear = channel <= default_threshold(np.bincount(channel.ravel(), minlength=256))
        labels = split_by_shape(fill_holes(nuclear))
        size = areas(labels) * self.mpp**2
        labels = keep(labels, size >= params.min_area)
        return Instances(labels.shape, labels=labels)


def haematoxylin_channel(image: Image) -> Image:
    """Return the plugin's 8-bit haematoxylin image: uint8 (H, W), 255 = no haematoxylin.

    Args:
        image: uint8 (H, W, 3) RGB.
    """
    amount = plugin_unmixing()[:, 0]
    table = np.log((np.arange(256) + 1.0) / 255)
    grey = 255 * np.exp(sum(table[image[..., channel]] * amount[channel] for channel in range(3)))
    return np.asarray(np.floor(np.minimum(grey, 255) + 0.5), np.uint8)


def plugin_unmixing() -> NDArray[np.float64]:
    """Return the plugin's matrix (3, 3) from densities of R, G and B to amounts of stain.

    In each of R, G and B, the square of the third stain is 1 minus the squares of the other two, so it is not
    perpendicular to them.
    """
    stains = np.zeros((3, 3))
    for row, stain in enumerate((HAEMATOXYLIN, EOSIN)):
        stains[row] = np.array(stain) / np.linalg.norm(stain)
    stains[2] = np.sqrt(np.maximum(1 - stains[0] ** 2 - stains[1] ** 2, 0))
    stains[2] /= np.linalg.norm(stains[2])
    stains[stains == 0] = LEAST
    return np.asarray(np.linalg.inv(stains), np.float64)


def default_threshold(histogram: NDArray[np.integer]) -> int:
    """Return ImageJ's "Default" threshold, a variant of IsoData (Ridler and Calvard 1978).

    Rising from the darkest level, the search stops at the first level that exceeds the midpoint between the means of
    the two classes; the threshold is that midpoint. The first and last level of the histogram are ignored, as in the
    core of ImageJ but not in Fiji's Auto Threshold plugin: on Kumar's training images 4 to 65 % of the pixels have no
    haematoxylin.

    Args:
        histogram: Counts of the levels 0..L - 1.

    Returns:
        The highest level that counts as dark.
    """
    count = np.array(histogram, np.float64)
    count[[0, -1]] = 0
    levels = np.flatnonzero(count)
    if len(levels) < 2:
        return len(count) // 2
    low, high = int(levels[0]), int(levels[-1])
    number, total = np.cumsum(count), np.cumsum(count * np.arange(len(count)))
    middle = float(low)
    for level in range(low, max(high - 1, low + 1)):
        dark = total[level] / number[level]
        middle = (dark + (total[-1] - total[level]) / (number[-1] - number[level])) / 2
        if level + 2 > middle:
            break
    return int(middle + 0.5)
