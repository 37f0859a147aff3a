"""Nuclei as basins of maxima with high morphological dynamics."""

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

    Naylor et al. 2017, section 2.2, on probabilities; Naylor et al. 2018, section IV-D, on distances. As in the
    official code, the watershed floods the map after the other maxima are cut off, and maxima are 8-connected while
    basins grow over 4 neighbours. Seeds of equal level are processed in raster order; scikit-image uses the order of
    its heap.

    Args:
        levels: uint8 (H, W), the map in integer levels; level 0 is never a nucleus.
        foreground: bool (H, W), the pixels that may belong to nuclei; parts without a maximum are dropped.
        p1: Dynamics that a maximum must exceed, in levels.
        line: Remove pixels that have another nucleus among their 8 neighbours, on both sides of every split. Versions
            of the official code differ in this; the version of the submission does it, and the paper does not mention
            it.

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
    """Mark the pixels that influence each other in `dynamics_watershed`, bool (H, W).

    A foreground pixel of level l keeps at least l - p1 when maxima are cut off. Pixels behind one of lower level cannot
    raise it above that, so only pixels of at least the lowest foreground level minus p1 matter. Level 0 is never part
    of a maximum.

    Args:
        levels: As in `dynamics_watershed`.
        foreground: As in `dynamics_watershed`.
        lowest: Lower bound of the levels of the foreground in the whole image.
        p1: As in `dynamics_watershed`.
    """
    depth = int(p1) if p1 >= 1 else 0
    return np.asarray((levels >= max(int(lowest) - depth, 1)) | foreground, np.bool_)
