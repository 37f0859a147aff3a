"""Shared parts of the classical pipelines: the image as map, colour deconvolution, and splitting by shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from postproc.codec import Array, Codec, Maps, P, Targets
from postproc.codecs.binary import part_touching
from postproc.errors import DataError
from postproc.pixels.components import compact, connected_components
from postproc.pixels.labels import LabelMap
from postproc.pixels.morphology import h_maxima_transform, regional_maxima
from postproc.pixels.watershed import watershed

Image = NDArray[np.uint8]
Grey = NDArray[np.float32]
Mask = NDArray[np.bool_]
Stain = tuple[float, float, float]

USUAL_MPP = 0.25
"""Microns per pixel assumed where the training images' are unknown: those of most scanners at 40x."""

EDM_TOLERANCE = 0.5
"""Pixels by which a maximum of ImageJ's distance map must rise above its saddle to be a separate particle."""

NUCLEUS, TISSUE = (0.64, 0.72, 0.27), (0.09, 0.95, 0.28)
"""Stain vectors with which `ClassicalCodec.perfect` paints nuclei and the tissue between them."""


class ClassicalCodec(Codec[P]):
    """Base of pipelines that find nuclei without training.

    Maps: ``image`` uint8 (3, H, W), RGB. Targets: ``foreground`` uint8 (H, W), 1 = nucleus, touching nuclei separated
        by 1 px; they are not used for training.

    Args:
        mpp: Microns per pixel of the images; None = `USUAL_MPP`.
    """

    def __init__(self, mpp: float | None = None) -> None:
        self.mpp = mpp or USUAL_MPP

    def encode(self, truth: Any) -> Targets:
        """Return ``foreground``.

        Raises:
            DataError: If the annotation has no outlines.
        """
        if truth.labels is None:
            raise DataError(
                "classical pipelines find outlines and this annotation has none. Use a dataset with label maps."
            )
        return {"foreground": (part_touching(truth.labels) > 0).astype(np.uint8)}

    def perfect(self, targets: Mapping[str, Array]) -> Maps:
        """Paint an image in which exactly the nuclei are stained with haematoxylin, evenly."""
        nuclear = np.asarray(targets["foreground"], np.float64)[None]
        density = 0.7 * nuclear * _column(NUCLEUS) + 0.15 * (1 - nuclear) * _column(TISSUE)
        return {"image": np.rint(255 * 10**-density).astype(np.uint8)}

    def microns(self, length: float) -> float:
        """Convert a length from microns to pixels of the images."""
        return length / self.mpp


def _column(stain: Stain) -> NDArray[np.float64]:
    return np.array(stain)[:, None, None]


def rgb(maps: Mapping[str, Array]) -> Image:
    """Return the image of `ClassicalCodec`'s maps as uint8 (H, W, 3)."""
    return np.ascontiguousarray(np.asarray(maps["image"], np.uint8).transpose(1, 2, 0))


def optical_density(image: Image) -> Grey:
    """Return the decadic optical density against white, float32 (H, W, 3); black counts as level 1."""
    table = -np.log10(np.maximum(np.arange(256), 1) / 255).astype(np.float32)
    return table[image]


def unmixing(first: Stain, second: Stain) -> NDArray[np.float64]:
    """Return the matrix (3, 3) that turns optical densities of R, G and B into amounts of stain.

    Ruifrok and Johnston 2001. The third stain is perpendicular to the first two.

    Args:
        first: Optical densities of R, G and B of the first stain; of any length.
        second: The same for the second stain.
    """
    stains = np.array([first, second, np.cross(first, second)])
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    return np.linalg.inv(stains)


def split_by_shape(mask: Mask) -> LabelMap:
    """Split a mask at its necks, as ImageJ's Process > Binary > Watershed does.

    Maxima of the Euclidean distance map that rise more than `EDM_TOLERANCE` above their saddle are particles; the
    border of the image does not count as background. Where two of them meet, a line of 1 px becomes background.

    Args:
        mask: (H, W).

    Returns:
        int32 (H, W), ids 1..N; no two particles touch, not even at a corner.
    """
    if not mask.any():
        return np.zeros(mask.shape, np.int32)
    distance = np.asarray(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)
    if mask.all():  # without background OpenCV has no distance to return
        return np.ones(mask.shape, np.int32)
    cut = h_maxima_transform(distance, EDM_TOLERANCE)
    markers, _ = connected_components(regional_maxima(cut) & mask, 8)
    return compact(part_touching(watershed(-cut, markers, mask, ties="raster")))


def areas(labels: LabelMap) -> NDArray[np.int64]:
    """Return the area of each object in pixels, int64 (N + 1,); the first is the background's."""
    return np.bincount(labels.ravel(), minlength=int(labels.max(initial=0)) + 1)


def means(labels: LabelMap, values: Grey) -> NDArray[np.float64]:
    """Return the mean value on each object, float64 (N + 1,); the first is the background's."""
    count = areas(labels)
    return np.bincount(labels.ravel(), weights=values.ravel(), minlength=len(count)) / np.maximum(count, 1)


def keep(labels: LabelMap, kept: NDArray[np.bool_]) -> LabelMap:
    """Drop the objects k for which ``kept[k]`` is False, and renumber the rest."""
    number = np.where(kept, np.arange(len(kept)), 0)
    number[0] = 0
    return compact(number[labels].astype(np.int32))
