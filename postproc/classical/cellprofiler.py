"""Cell Profiler's IdentifyPrimaryObjects, rebuilt.

Carpenter et al., CellProfiler: image analysis software for identifying and quantifying cell phenotypes, Genome Biology
7, 2006. Steps, order and defaults follow the module's public source and help in version 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import cv2
import numpy as np
from skimage.filters import threshold_li, threshold_multiotsu, threshold_otsu
from skimage.segmentation import watershed

from postproc.classical.base import ClassicalCodec, Grey, Image, Mask, areas, keep, rgb
from postproc.codec import Array, Params, tunable
from postproc.errors import unknown_name
from postproc.instances import Instances
from postproc.pixels.compiled import compiled
from postproc.pixels.components import connected_components, fill_object_holes
from postproc.pixels.labels import LabelMap

Threshold = Literal["otsu-3", "otsu", "cross-entropy"]
"""Global thresholds of the module: Otsu with three classes, of which the middle one is background; with two; and
least cross-entropy (Li and Lee 1993)."""

SMOOTHING = 2.35 / 3.5
"""Automatic size of the declumping filter, as a share of the smallest diameter; 2.35 is its width in sigmas."""


@dataclass(frozen=True)
class CellProfilerParams(Params):
    """Settings of the module: its defaults, except the typical diameters, which it asks the user to set.

    The module proposes 10 to 40 px, for cultured cells at low magnification. At 40x its automatic smoothing then splits
    each nucleus into several: on 8 training images of Kumar, PQ is 0.14 with 2.5 to 10 microns and 0.33 with 4 to 15.

    Attributes:
        min_diameter: Microns; smaller objects are dropped. Smoothing and the distance between maxima follow from it.
        max_diameter: Microns; larger objects are dropped.
        threshold_sigma: Sigma in pixels of the Gaussian blur before the threshold is applied; the module's "smoothing
            scale" of 1.3488.
        correction: Factor by which the automatic threshold is multiplied.
    """

    min_diameter: float = tunable(4.0, (3.0, 4.0, 5.0))
    max_diameter: float = 15.0
    threshold_sigma: float = 1.0
    correction: float = tunable(1.0, (0.9, 1.0, 1.1, 1.2))


class CellProfilerCodec(ClassicalCodec[CellProfilerParams]):
    """Image to nuclei by a global threshold on grey levels and declumping by intensity.

    Maps: ``image`` uint8 (3, H, W), RGB.

    Args:
        mpp: Microns per pixel of the images; None = 0.25.
        threshold: How the global threshold is found.

    Raises:
        ConfigError: If the threshold is unknown.
    """

    params_type: ClassVar[type[Params]] = CellProfilerParams

    def __init__(self, mpp: float | None = None, threshold: Threshold = "otsu-3") -> None:
        if threshold not in get_args(Threshold):
            raise unknown_name("threshold", threshold, get_args(Threshold))
        super().__init__(mpp)
        self.threshold = threshold

    def decode(self, maps: Mapping[str, Array], params: CellProfilerParams) -> Instances:
        """Return the objects within the range of diameters; those at the border of the image are kept."""
        dark = darkness(rgb(maps))
        least, most = self.microns(params.min_diameter), self.microns(params.max_diameter)
        labels = declump(dark, _fill(self._foreground(dark, params), most**2), least)
        size = areas(labels)
        labels = keep(labels, (size >= math.pi * least**2 / 4) & (size <= math.pi * most**2 / 4))
        labels = fill_object_holes(labels)
        return Instances(labels.shape, labels=labels)

    def _foreground(self, dark: Grey, params: CellProfilerParams) -> Mask:
        """Mark the pixels of the smoothed image above the threshold of the raw image."""
        smooth = dark
        if params.threshold_sigma > 0:
            smooth = np.asarray(cv2.GaussianBlur(dark, (0, 0), params.threshold_sigma), np.float32)
        return np.asarray(smooth >= params.correction * global_threshold(dark, self.threshold))


def darkness(image: Image) -> Grey:
    """Return 1 minus the mean of R, G and B (ColorToGray, then ImageMath's inversion), float32 (H, W) in [0, 1]."""
    return np.asarray(1 - image.mean(axis=2) / 255, np.float32)


def global_threshold(dark: Grey, threshold: Threshold) -> float:
    """Return the level at and above which pixels are objects; infinity for a uniform image."""
    levels = np.unique(dark)
    if len(levels) < 3:  # all thresholds between two levels are equivalent: use the middle
        return float(levels.mean()) if len(levels) == 2 else math.inf
    if threshold == "otsu-3":
        return float(threshold_multiotsu(dark, 3)[-1])
    return float(threshold_otsu(dark) if threshold == "otsu" else threshold_li(dark))


def _fill(mask: Mask, largest: float) -> Mask:
    """Fill the holes of fewer than `largest` px; background connected to the border of the image is not a hole."""
    holes, _ = connected_components(~mask, 4)
    size = areas(holes)
    fill = size < largest
    rim = np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]])
    fill[np.unique(rim)] = False
    fill[0] = False
    return np.asarray(mask | fill[holes])


def declump(dark: Grey, mask: Mask, least: float) -> LabelMap:
    """Divide the components of a mask between the maxima of the smoothed image.

    Args:
        dark: (H, W), objects are bright.
        mask: (H, W).
        least: Smallest diameter in pixels; sets the smoothing and the distance between maxima.

    Returns:
        int32 (H, W).
    """
    components, count = connected_components(mask, 8)
    if count == 0:
        return components
    peaks = local_maxima(_blur(dark, least), components, max(1.0, least / 1.5 - 0.5))
    markers, _ = connected_components(peaks, 8)
    return np.asarray(watershed(1 - dark, markers, mask=mask, connectivity=2), np.int32)


def _blur(dark: Grey, least: float) -> Grey:
    """Apply the automatic filter, truncated at half its size, with a correction at the image border."""
    size = SMOOTHING * least
    reach = max(int(size / 2), 1)
    sigma = size / 2.35
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2).astype(np.float32)
    blurred, weight = (
        cv2.sepFilter2D(values, cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_CONSTANT)
        for values in (dark, np.ones_like(dark))
    )
    return np.asarray(blurred / weight, np.float32)


def local_maxima(values: Grey, components: LabelMap, radius: float) -> Mask:
    """Mark the pixels that are the maximum of their component within `radius` px.

    Args:
        values: (H, W).
        components: int32 (H, W), 0 = background, where there are no maxima.
        radius: Search radius in pixels.
    """
    reach = int(radius)
    offsets = np.array(
        [
            (y, x)
            for y in range(-reach, reach + 1)
            for x in range(-reach, reach + 1)
            if 0 < x * x + y * y <= radius * radius
        ],
        np.int64,
    ).reshape(-1, 2)
    near_first = offsets[np.argsort((offsets**2).sum(axis=1), kind="stable")]  # close neighbours rule out most pixels
    return _local_maxima(np.ascontiguousarray(values), components, near_first)


@compiled
def _local_maxima(values: Grey, components: LabelMap, offsets: Array) -> Mask:
    # Each pixel is compared with its neighbours, nearest first, until a higher one is found.
    height, width = values.shape
    maxima = np.zeros((height, width), np.bool_)
    for y in range(height):
        for x in range(width):
            own = components[y, x]
            if own == 0:
                continue
            highest = True
            for k in range(offsets.shape[0]):
                ny, nx = y + offsets[k, 0], x + offsets[k, 1]
                if 0 <= ny < height and 0 <= nx < width and components[ny, nx] == own and values[ny, nx] > values[y, x]:
                    highest = False
                    break
            maxima[y, x] = highest
    return maxima
