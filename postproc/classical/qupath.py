"""QuPath's watershed cell detection, rebuilt.

Bankhead et al., QuPath: Open source software for digital pathology image analysis, Scientific Reports 7, 2017.
Steps, order and defaults follow the public source of versions 0.1 to 0.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from scipy.ndimage import find_objects

from postproc.classical.base import (
    ClassicalCodec,
    Grey,
    Image,
    Mask,
    Stain,
    areas,
    keep,
    means,
    optical_density,
    rgb,
    split_by_shape,
    unmixing,
)
from postproc.codec import Array, Params, tunable
from postproc.instances import Instances
from postproc.pixels.components import connected_components, fill_holes
from postproc.pixels.labels import LabelMap, relabel
from postproc.pixels.morphology import h_maxima_transform, reconstruct, regional_maxima
from postproc.pixels.watershed import watershed

HAEMATOXYLIN: Stain = (0.65111, 0.70119, 0.29049)
EOSIN: Stain = (0.2159, 0.8012, 0.5581)
"""QuPath's default stain vectors for H&E images; its white is 255."""

BUMP = 1e-3
"""Minimum height of a maximum of the filtered image that becomes a separate fragment."""

LAPLACIAN = np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]], np.float32)
SQUARE = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class QuPathParams(Params):
    """Settings of the dialogue, with its defaults for brightfield images.

    Attributes:
        pixel_size: Microns per pixel at which nuclei are detected; images of coarser resolution are not enlarged.
        background_radius: Radius in microns of the opening that estimates the background; 0 = no subtraction.
        median_radius: Radius in microns of the median filter; 0 = none.
        sigma: Sigma in microns of the Gaussian blur.
        min_area: Square microns; smaller nuclei are dropped.
        max_area: Square microns; larger nuclei are dropped.
        threshold: Mean optical density of haematoxylin above the background that a nucleus must exceed.
        max_background: Optical density of the background above which nuclei are not searched for.
    """

    pixel_size: float = 0.5
    background_radius: float = 8.0
    median_radius: float = 0.0
    sigma: float = tunable(1.5, (1.0, 1.5, 2.0))
    min_area: float = 10.0
    max_area: float = 400.0
    threshold: float = tunable(0.1, (0.05, 0.1, 0.15, 0.2))
    max_background: float = 2.0


class QuPathCodec(ClassicalCodec[QuPathParams]):
    """Image to nuclei by watershed cell detection.

    Maps: ``image`` uint8 (3, H, W), RGB.

    Args:
        mpp: Microns per pixel of the images; None = 0.25.
    """

    params_type: ClassVar[type[Params]] = QuPathParams

    def decode(self, maps: Mapping[str, Array], params: QuPathParams) -> Instances:
        """Return the nuclei, without the cells that QuPath grows around them."""
        image = rgb(maps)
        pixel = max(params.pixel_size, self.mpp)
        small = _shrink(image, self.mpp / pixel)
        found = detect(haematoxylin(small), pixel, params)
        shape = (image.shape[0], image.shape[1])
        return Instances(shape, labels=enlarge(found, shape))


def haematoxylin(image: Image) -> Grey:
    """Return the optical density of haematoxylin, float32 (H, W), by colour deconvolution of RGB."""
    amount = unmixing(HAEMATOXYLIN, EOSIN)[:, 0].astype(np.float32)
    return np.ascontiguousarray(optical_density(image) @ amount)


def detect(stain: Grey, pixel: float, params: QuPathParams) -> LabelMap:
    """Find nuclei in the optical density of haematoxylin.

    Args:
        stain: (H, W).
        pixel: Microns per pixel.
        params: Settings.

    Returns:
        int32 (H, W), ids 1..N.
    """
    median = params.median_radius / pixel
    smooth = np.asarray(cv2.medianBlur(stain, 3 if median < 2 else 5), np.float32) if median > 0 else stain
    raised, blocked = _above_background(smooth, params.background_radius / pixel, params.max_background)
    sigma = params.sigma / pixel
    curved = _curvature(raised, sigma)
    spots = curved > 0
    nuclear = _dilate(_fragments(curved, spots, raised, blocked, params.threshold)) & spots
    labels = split_by_shape(fill_holes(nuclear))
    if sigma > 1.5:
        labels = _refine(labels > 0, stain)
    labels = _filled(labels)
    size, level = areas(labels) * pixel**2, means(labels, raised)
    return keep(labels, (size >= params.min_area) & (size <= params.max_area) & (level >= params.threshold))


def _shrink(image: Image, factor: float) -> Image:
    if factor >= 1:
        return image
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _disc(radius: float) -> Image:
    """Return ImageJ's circular neighbourhood, whose squared radius is larger by 1 than the disc's."""
    reach = int(np.sqrt(radius**2 + 1))
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    return np.asarray(x**2 + y**2 <= radius**2 + 1, np.uint8)


def _above_background(stain: Grey, radius: float, most: float) -> tuple[Grey, Mask]:
    """Subtract an opening by reconstruction, and mark where the background itself is too dark."""
    blocked = np.zeros(stain.shape, np.bool_)
    if radius <= 0:
        return stain, blocked
    low = np.asarray(cv2.erode(stain, _disc(radius)), np.float32)
    dark = low > most
    if most > 0 and dark.any():
        blocked = cv2.dilate(dark.astype(np.uint8), _disc(2 * radius)) > 0
        low[blocked] = stain.min()
    return stain - reconstruct(np.minimum(low, stain), stain), blocked


def _curvature(values: Grey, sigma: float) -> Grey:
    """Return the negative Laplacian of the blurred image, which is above 0 inside nuclei."""
    blurred = cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.filter2D(blurred, cv2.CV_32F, LAPLACIAN, borderType=cv2.BORDER_REPLICATE), np.float32)


def _fragments(curved: Grey, spots: Mask, raised: Grey, blocked: Mask, threshold: float) -> Mask:
    """Split the spots around their maxima and return the fragments that are stained strongly enough."""
    cut = h_maxima_transform(curved, BUMP)
    markers, _ = connected_components(regional_maxima(cut) & spots, 8)
    labels = watershed(-cut, markers, spots, ties="raster")
    kept = (means(labels, raised) > threshold) & (means(labels, blocked.astype(np.float32)) == 0)
    kept[0] = False
    return np.asarray(kept[labels])


def _dilate(mask: Mask) -> Mask:
    return np.asarray(cv2.dilate(mask.astype(np.uint8), SQUARE) > 0)


def _refine(mask: Mask, stain: Grey) -> LabelMap:
    """Remove outermost pixels that a finer filter rejects; the coarse filter makes thin nuclei too wide."""
    fine = (_curvature(stain, 1.0) > 0) & mask
    inner = cv2.erode(mask.astype(np.uint8), SQUARE) > 0
    return connected_components(np.asarray(inner | fine), 4)[0]


def _filled(labels: LabelMap) -> LabelMap:
    """Fill the holes of each object; an object inside a hole of another becomes part of it."""
    filled = labels.copy()
    for index, box in enumerate(find_objects(labels), start=1):
        if box is not None:
            whole = fill_holes(labels[box] == index)
            filled[box][whole] = index
    return relabel(filled)[0]


def enlarge(labels: LabelMap, shape: tuple[int, int]) -> LabelMap:
    """Enlarge objects to the size of a larger image, with smooth outlines.

    Each object's mask is interpolated linearly and thresholded at one half. Where two overlap, the later one wins.

    Args:
        labels: int32 (h, w).
        shape: (H, W) of the larger image.

    Returns:
        int32 (H, W), ids 1..N.
    """
    if labels.shape == shape:
        return labels
    large = np.zeros(shape, np.int32)
    scale = (shape[0] / labels.shape[0], shape[1] / labels.shape[1])
    for index, box in enumerate(find_objects(labels), start=1):
        if box is None:
            continue
        spans = [_span(side, factor, end) for side, factor, end in zip(box, scale, shape, strict=True)]
        (top, rows), (left, columns) = spans
        part = np.pad((labels[box] == index).astype(np.float32), 1)
        y, x = np.meshgrid(rows, columns, indexing="ij")
        inside = cv2.remap(part, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR) > 0.5
        large[top : top + len(rows), left : left + len(columns)][inside] = index
    return relabel(large)[0]


def _span(side: slice, factor: float, end: int) -> tuple[int, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Return the first pixel of the larger image that an object covers, and its pixels' positions in the padded mask.

    Positions are clamped, so that an object at the border of the small image reaches the border of the larger one.
    """
    first, last = max(int((side.start - 1) * factor), 0), min(int(np.ceil((side.stop + 1) * factor)), end)
    centres = (np.arange(first, last) + 0.5) / factor - 0.5
    return first, np.clip(centres, 0, end / factor - 1) - side.start + 1
