"""`Instances`: what is known, or predicted, about the nuclei of one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LabelMap = NDArray[np.int32]
"""(H, W), 0 = background, k = the k-th nucleus."""


@dataclass(frozen=True, slots=True)
class Instances:
    """Nuclei of one image, annotated or predicted.

    Every field except `shape` may be missing: detection datasets have points and no label map, images with weak
    annotation have regions alone, segmentation datasets have no types.

    Attributes:
        shape: (H, W) of the image in px.
        labels: int32 (H, W), 0 = background, ids 1..N without gaps; None where there is no outline.
        points: float32 (N, 2), centres as (x, y) px; row k belongs to id k + 1 where there are labels.
        types: int64 (N,), 1..T, 0 = nucleus without a type; row k belongs to id k + 1 or to point k.
        scores: float32 (N,), confidence in [0, 1], of predictions that have one.
        regions: uint8 (H, W), weak annotation of tissue: 0 = not annotated, 1 = other tissue, 2 = tumour.
    """

    shape: tuple[int, int]
    labels: LabelMap | None = None
    points: NDArray[np.float32] | None = None
    types: NDArray[np.int64] | None = None
    scores: NDArray[np.float32] | None = None
    regions: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        """Check shapes and dtypes.

        Raises:
            ValueError: If a field has another shape or dtype than documented.
        """
        for name, dtype in (("labels", np.int32), ("regions", np.uint8)):
            value = getattr(self, name)
            if value is not None and (value.shape != self.shape or value.dtype != dtype):
                raise ValueError(f"{name} is {value.dtype} {value.shape}, expected {dtype.__name__} {self.shape}")
        if self.points is not None and (self.points.ndim != 2 or self.points.shape[1] != 2):
            raise ValueError(f"points has shape {self.points.shape}, expected (N, 2)")
        count = self.count
        for name in ("points", "types", "scores"):
            value = getattr(self, name)
            if value is not None and len(value) != count:
                raise ValueError(f"{name} has {len(value)} rows for {count} nuclei")

    @property
    def count(self) -> int:
        """Number of nuclei; 0 where neither labels nor points are known."""
        if self.labels is not None:
            return int(self.labels.max(initial=0))
        return 0 if self.points is None else len(self.points)

    def centroids(self) -> NDArray[np.float32]:
        """Centres of the nuclei, float32 (N, 2) as (x, y) px: `points`, or else the centroids of `labels`."""
        if self.points is not None:
            return self.points
        if self.labels is None:
            return np.zeros((0, 2), np.float32)
        from postproc.runs import coordinate_sums  # imports numba

        sums = coordinate_sums(self.labels)[1:]
        return np.asarray(sums[:, 1:] / np.maximum(sums[:, :1], 1), np.float32)


def relabel(
    labels: NDArray[np.integer], types: NDArray[np.integer] | None = None
) -> tuple[LabelMap, NDArray[np.int64] | None, NDArray[np.int64]]:
    """Number the nuclei of a map 1..N without gaps, in the order of their ids.

    Args:
        labels: (H, W), any integer dtype, 0 = background, gaps allowed.
        types: Row k belongs to id k + 1 of `labels` (so rows of missing ids exist too), or None.

    Returns:
        The int32 map, the int64 types of the ids that are left (or None), and those old ids, int64 (N,).

    Raises:
        ValueError: If an id is negative or `types` has no row for it.
    """
    ids = np.unique(labels)
    if ids.size and ids[0] < 0:
        raise ValueError(f"label map contains the negative id {ids[0]}")
    ids = ids[ids > 0].astype(np.int64)
    if ids.size and ids[-1] == ids.size:
        compact = labels.astype(np.int32)
    else:
        compact = np.where(labels > 0, np.searchsorted(ids, labels) + 1, 0).astype(np.int32)
    if types is None:
        return compact, None, ids
    if ids.size and ids[-1] > len(types):
        raise ValueError(f"id {ids[-1]} has no row among {len(types)} types")
    return compact, np.asarray(types)[ids - 1].astype(np.int64), ids
