"""Nuclei as the basins of maxima of high morphological dynamics."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from postproc.components import compact, connected_components, separate
from postproc.instances import LabelMap
from postproc.morphology import h_maxima_transform, regional_maxima
from postproc.watershed import watershed


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
        line: Leave empty what has another nucleus among its 8 neighbours: both sides of every split. Early
            versions of the official code and its copy in HoVer-Net's comparison do; the current one does not.

    Returns:
        int32 (H, W), ids 1..N.
    """
    cut = h_maxima_transform(levels, p1) if p1 >= 1 else levels
    maxima = regional_maxima(cut) & (cut > 0) & foreground
    markers, _ = connected_components(maxima, 8)
    labels = watershed(255 - cut, markers, foreground, ties="raster")
    return compact(labels * separate(labels)) if line else labels
