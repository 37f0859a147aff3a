"""Nuclei as the basins of maxima of high morphological dynamics."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from postproc.pixels.components import compact, connected_components, separate
from postproc.pixels.labels import LabelMap
from postproc.pixels.morphology import h_maxima_transform, regional_maxima
from postproc.pixels.watershed import watershed


def dynamics_watershed(
    levels: NDArray[np.uint8], foreground: NDArray[np.bool_], p1: float, *, line: bool = False
) -> LabelMap:
    """Split a foreground into one basin per maximum whose dynamics exceed `p1`.

    Naylor et al. 2017, section 2.2, on probabilities; Naylor et al. 2018, section IV-D, on distances. As in
    the official code, the watershed floods the map with the other maxima already cut off, and maxima are
    8-connected while basins grow over 4 neighbours. Seeds of equal level are taken in raster order,
    scikit-image's in that of its heap.

    Args:
        levels: uint8 (H, W), the map in whole levels; level 0 is never a nucleus.
        foreground: bool (H, W), the pixels that may belong to nuclei; parts without a maximum are dropped.
        p1: Dynamics that a maximum must exceed, in levels.
        line: Leave empty what has another nucleus among its 8 neighbours: both sides of every split. Stored
            versions of the official code differ in this; that of the submitted paper does, the paper says nothing.

    Returns:
        int32 (H, W), ids 1..N.
    """
    cut = h_maxima_transform(levels, p1) if p1 >= 1 else levels
    maxima = regional_maxima(cut) & (cut > 0) & foreground
    markers, _ = connected_components(maxima, 8)
    labels = watershed(255 - cut, markers, foreground, ties="raster")
    return compact(np.where(separate(labels), labels, 0)) if line else labels


def dynamics_support(
    levels: NDArray[np.uint8], foreground: NDArray[np.bool_], lowest: float, p1: float
) -> NDArray[np.bool_]:
    """Mark the px that decide about each other in `dynamics_watershed`, bool (H, W).

    A px of the foreground, of level l, keeps at least l - p1 when maxima are cut off. What lies beyond a px of a lower
    level cannot raise it above that, so that only px of at least the lowest level in the foreground - p1 count; and
    level 0 is never part of a maximum.

    Args:
        levels: As in `dynamics_watershed`.
        foreground: Likewise.
        lowest: No px of the foreground, anywhere in the image, is of a lower level.
        p1: As in `dynamics_watershed`.
    """
    depth = int(p1) if p1 >= 1 else 0
    return np.asarray((levels >= max(int(lowest) - depth, 1)) | foreground, np.bool_)
