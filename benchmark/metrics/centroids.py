"""Centroids of the nuclei of a label map, fast enough for whole slides."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from postproc.instances import Instances


def label_centroids(labels: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the centroids of the nuclei 1..N of a map, exact to the last digit of a float64.

    Args:
        labels: int32 (H, W), 0 = background.

    Returns:
        float64 (N, 2) as (x, y) px; NaN for an id that has no px.
    """
    from postproc.pixels.spans import coordinate_sums  # numba is loaded when something is scored, not before

    sums = coordinate_sums(np.ascontiguousarray(labels))[1:]
    with np.errstate(invalid="ignore"):
        return np.asarray(sums[:, 1:] / sums[:, :1], np.float64)


def centres(nuclei: Instances) -> NDArray[np.float64]:
    """Return `Instances.centroids` in float64: its points, or else the centroids of its label map.

    Distances decide at a sharp radius, so they are not rounded to float32 on the way.
    """
    if nuclei.points is not None:
        return nuclei.points.astype(np.float64)
    if nuclei.labels is None:
        return np.zeros((0, 2))
    return label_centroids(nuclei.labels)
