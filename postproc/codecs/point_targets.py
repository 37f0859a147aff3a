"""Nucleus centres as discs to classify or as a density to regress, and their decoding.

The methods that KiNet is compared with (Xing et al., IEEE TBME 2019, section IV-D) learn either a class per pixel or a
map per type. Both are decoded like KiNet's maps (section III-C).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from postproc.codec import Array, Maps, Targets, one_hot
from postproc.codecs.points import IGNORED, Floats, PointsCodec, PointsParams
from postproc.instances import Instances

REACH = 4.0
"""Number of standard deviations at which a Gaussian is truncated."""


@dataclass(frozen=True)
class DiscCodec(PointsCodec):
    """A class per pixel: the type of the closest nucleus in a disc around its centre, else background.

    All pixels of a disc have the same target, so the probabilities are smoothed before peaks are searched: otherwise
    every ripple on a disc's plateau would be a peak, and touching discs would have one in between.

    Args:
        types: Number of nucleus types T; 0 for data without types, with a single class of nuclei.
        radius: Pixels around a centre that belong to its nucleus.
        sigma: Standard deviation of the smoothing in pixels.
    """

    radius: float = 6.0
    sigma: float = 2.0

    def encode(self, truth: Instances) -> Targets:
        """Return ``classes`` int64 (H, W): 0 = background, 1..T = type (1 without types), -100 = not annotated.

        Args:
            truth: Annotation with points or labels, or neither.

        Raises:
            DataError: If nuclei have no types although the codec has types.
        """
        targets = super().encode(truth)
        if not targets["has_points"]:
            return {"classes": np.full(truth.shape, IGNORED, np.int64)}
        # proximity decreases with distance, so the highest one is that of the closest nucleus
        near = targets["proximity"]
        return {"classes": np.where(near.max(axis=0) > 0, near.argmax(axis=0) + 1, 0).astype(np.int64)}

    def decode(self, maps: Mapping[str, Array], params: PointsParams) -> Instances:
        """Return the detections of an image, see `PointsCodec.decode`.

        Args:
            maps: ``probability`` float (channels, H, W), of each type.
            params: Parameters of the search; they apply to the smoothed probability.
        """
        return super().decode(self._smooth(maps), params)

    def candidates(self, maps: Mapping[str, Array], params: PointsParams) -> Instances:
        """Return every peak, see `PointsCodec.candidates`."""
        return super().candidates(self._smooth(maps), params)

    def perfect(self, targets: Mapping[str, Array]) -> Maps:
        """Return the classes as probabilities."""
        return {"probability": one_hot(np.asarray(targets["classes"]), self.channels + 1)[1:]}

    def _smooth(self, maps: Mapping[str, Array]) -> Maps:
        return {"proximity": blur(np.asarray(maps["probability"], np.float32), self.sigma)}


@dataclass(frozen=True)
class DensityCodec(PointsCodec):
    """A Gaussian at each centre, added up (Xie et al. 2018), in units of the value at an isolated centre.

    Args:
        types: Number of nucleus types T; 0 for data without types.
        sigma: Standard deviation of the Gaussians in pixels.
    """

    sigma: float = 2.0

    @property
    def peak(self) -> float:
        """Nuclei per pixel at an isolated centre."""
        return 1 / (2 * math.pi * self.sigma**2)

    def encode(self, truth: Instances) -> Targets:
        """Return the densities of a crop.

        Returns:
            ``density`` float32 (channels, H, W), 1 at an isolated centre; ``has_points`` float32 (), 0 if the nuclei
            are not annotated at all, else 1.

        Raises:
            DataError: If nuclei have no types although the codec has types.
        """
        targets = super().encode(truth)
        centres = (targets["proximity"] == 1).astype(np.float32)
        return {"density": blur(centres, self.sigma) / np.float32(self.peak), "has_points": targets["has_points"]}

    def decode(self, maps: Mapping[str, Array], params: PointsParams) -> Instances:
        """Return the detections of an image from ``density`` float (channels, H, W), see `PointsCodec.decode`."""
        return super().decode({"proximity": maps["density"]}, params)

    def candidates(self, maps: Mapping[str, Array], params: PointsParams) -> Instances:
        """Return every peak, see `PointsCodec.candidates`."""
        return super().candidates({"proximity": maps["density"]}, params)

    def perfect(self, targets: Mapping[str, Array]) -> Maps:
        """Return the densities themselves."""
        return {"density": np.asarray(targets["density"], np.float32)}


def blur(maps: Floats, sigma: float) -> Floats:
    """Convolve each map of (channels, H, W) with a Gaussian of `sigma` px, zero-padded at the border."""
    side = 2 * math.ceil(REACH * sigma) + 1
    blurred = [cv2.GaussianBlur(one, (side, side), sigma, borderType=cv2.BORDER_CONSTANT) for one in maps]
    return np.stack(blurred).astype(np.float32)


__all__ = ["DensityCodec", "DiscCodec", "blur"]
