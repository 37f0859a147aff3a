"""`Instances`: the annotated or predicted nuclei of one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from postproc.pixels.labels import LabelMap


@dataclass(frozen=True, slots=True)
class Instances:
    """Nuclei of one image, annotated or predicted.

    Every field except `shape` is optional: detection datasets have points but no label map, images with weak annotation
    have regions only, and some segmentation datasets have no types.

    Attributes:
        shape: (H, W) of the image in pixels.
        labels: int32 (H, W), 0 = background, ids 1..N without gaps; None without outlines.
        points: float32 (N, 2), centres as (x, y) px; row k belongs to id k + 1 if there are labels.
        types: int64 (N,), 1..T, 0 = nucleus without a type; row k belongs to id k + 1 or to point k.
        scores: float32 (N,), confidence in [0, 1] of predictions, if known.
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
        if not isinstance(self.shape, tuple) or len(self.shape) != 2:
            raise ValueError(
                f"shape is {type(self.shape).__name__}, expected (H, W); give a label map as "
                "Instances(labels.shape, labels=labels)"
            )
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

    def __repr__(self) -> str:
        """Return the size, the number of nuclei and the names of the known fields."""
        names = ("labels", "points", "types", "scores", "regions")
        known = ", ".join(name for name in names if getattr(self, name) is not None)
        height, width = self.shape
        return f"Instances({height} x {width} px, {self.count} nuclei: {known or 'nothing known'})"

    def to(self, *_: Any, **__: Any) -> Instances:
        """Return self: Lightning moves results between devices, but NumPy arrays have none."""
        return self

    @property
    def count(self) -> int:
        """Number of nuclei; 0 if neither labels nor points are known."""
        if self.labels is not None:
            return int(self.labels.max(initial=0))
        return 0 if self.points is None else len(self.points)

    def centroids(self) -> NDArray[np.float32]:
        """Centres of the nuclei, float32 (N, 2) as (x, y) px: `points` if known, else the centroids of `labels`."""
        if self.points is not None:
            return self.points
        if self.labels is None:
            return np.zeros((0, 2), np.float32)
        from postproc.pixels.spans import coordinate_sums  # imports numba

        sums = coordinate_sums(self.labels)[1:]
        return np.asarray(sums[:, 1:] / np.maximum(sums[:, :1], 1), np.float32)
