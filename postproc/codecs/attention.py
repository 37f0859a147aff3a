"""Decode the attention map of the self-supervised method into nuclei.

Sahasrabudhe et al., Self-supervised Nuclei Segmentation in Histopathological Images Using Attention, MICCAI
2020, section 3.4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from postproc.codec import Array, Codec, Maps, Params, Targets, tunable
from postproc.errors import DataError
from postproc.instances import Instances
from postproc.pixels.components import compact
from postproc.pixels.euclidean import disc_maxima, squared_distance
from postproc.pixels.labels import LabelMap
from postproc.pixels.watershed import watershed

Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class AttentionParams(Params):
    """The four parameters that the paper selects on validation images, and the threshold.

    Attributes:
        coarse: Radius in pixels of the first opening and closing; 0 = none.
        fine: Radius in pixels of the second opening and closing; 0 = none.
        sigma: Sigma in pixels of the Gaussian blur of the distance transform.
        window: Radius in pixels of the disc in which a marker is the highest value.
        percentile: Percentage of the image's pixels that are background; None = use the learnt threshold, which is 0 in
            the map.
    """

    coarse: float = tunable(2, (1, 2, 3))
    fine: float = tunable(1, (0, 1, 2))
    sigma: float = tunable(1, (0.5, 1, 2))
    window: float = tunable(7, (5, 7, 9))
    percentile: float | None = None


@dataclass(frozen=True)
class AttentionCodec(Codec[AttentionParams]):
    """Decodes the confidence map of a whole image into nuclei; training does not use the annotation.

    The attention is a sigmoid of ``r * (confidence - tau)``: it exceeds one half where the confidence exceeds
    tau, whatever the compression r.
    """

    params_type: ClassVar[type[Params]] = AttentionParams

    def encode(self, truth: Instances) -> Targets:
        """Return the reference for validation: ``foreground``, uint8 (H, W), 1 = nucleus.

        Raises:
            DataError: If the annotation has no outlines.
        """
        if truth.labels is None:
            raise DataError(
                "the epoch of the self-supervised method is chosen by the Dice score on validation images, "
                "which needs outlines of nuclei, and this annotation has none. Use protocol 'paper' or "
                "another dataset."
            )
        return {"foreground": (truth.labels > 0).astype(np.uint8)}

    def decode(self, maps: Mapping[str, Array], params: AttentionParams) -> Instances:
        """Return the nuclei of one image.

        Args:
            maps: ``attention`` float (1, H, W): confidence minus the learnt tau.
            params: Parameters of the post-processing.
        """
        confidence = np.asarray(maps["attention"][0], np.float32)
        tau = 0.0 if params.percentile is None else float(np.percentile(confidence, params.percentile))
        mask = clean((confidence > tau).astype(np.uint8), params.coarse, params.fine)
        return Instances(confidence.shape, labels=split_touching(mask, params.sigma, params.window))

    def perfect(self, targets: Mapping[str, Array]) -> Maps:
        """Return a confidence of 1 on nuclei, -1 elsewhere; touching nuclei can be separated by shape only."""
        return {"attention": (2.0 * targets["foreground"] - 1)[None].astype(np.float32)}


def clean(mask: Mask, coarse: float, fine: float) -> Mask:
    """Open and close a mask with a coarse disc, then with a fine one.

    Args:
        mask: uint8 (H, W), 0 or 1.
        coarse: Radius of the first disc in pixels.
        fine: Radius of the second disc in pixels.
    """
    for radius in (coarse, fine):
        for step in (cv2.MORPH_OPEN, cv2.MORPH_CLOSE):
            mask = cv2.morphologyEx(mask, step, disc(radius))
    return mask


def split_touching(mask: Mask, sigma: float, window: float) -> LabelMap:
    """Split a mask into nuclei by a watershed of its distance transform.

    A part of the mask without a marker (where another part within `window` has a higher maximum) is dropped, as in the
    authors' code.

    Args:
        mask: uint8 (H, W), 0 or 1.
        sigma: Gaussian blur of the distance transform in pixels.
        window: Radius in pixels of the disc in which a marker is the highest value.

    Returns:
        int32 (H, W), ids 1..N without gaps.
    """
    if not mask.any():
        return np.zeros(mask.shape, np.int32)
    nuclear = mask > 0
    distance = np.sqrt(squared_distance(nuclear).astype(np.float32))
    smooth = np.asarray(cv2.GaussianBlur(distance, (0, 0), sigma) if sigma > 0 else distance, np.float32)
    _, markers = cv2.connectedComponents(disc_maxima(smooth, nuclear, window).view(np.uint8), connectivity=8)
    return compact(watershed(-smooth, markers, nuclear, ties="raster"))


def disc(radius: float) -> Mask:
    """Return a disc as structuring element: the pixels whose centres are within `radius` px of its centre."""
    reach = int(radius)
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    inside: Mask = (x * x + y * y <= radius * radius).astype(np.uint8)
    return inside


__all__ = ["AttentionCodec", "AttentionParams", "clean", "disc", "split_touching"]
