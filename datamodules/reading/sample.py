"""`Sample`: one image with its annotation and metadata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from postproc.instances import Instances


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a dataset.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        truth: The annotation, at the same (H, W).
        image_id: Unique in the dataset; the file name without its extension.
        group: Patient; organ or image if no patient is known. Never in two splits.
        magnification: Objective magnification (40.0, 20.0), None if unknown.
        mpp: Microns per pixel, None if unknown.
        tissue: Tissue or organ as the dataset names it, for tables by tissue; empty if it is not read with the image.
    """

    image: NDArray[np.uint8]
    truth: Instances
    image_id: str
    group: str
    magnification: float | None = None
    mpp: float | None = None
    tissue: str = ""

    def __post_init__(self) -> None:
        """Check the image.

        Raises:
            ValueError: If the image is not uint8 RGB or its size differs from the annotation's.
        """
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3:
            raise ValueError(
                f"{self.image_id}: image is {self.image.dtype} {self.image.shape}, expected uint8 (H, W, 3)"
            )
        if self.image.shape[:2] != self.truth.shape:
            raise ValueError(f"{self.image_id}: image is {self.image.shape[:2]} px, annotation {self.truth.shape}")

    def __repr__(self) -> str:
        """Return a summary without arrays."""
        scale = f", {self.magnification:g}x" if self.magnification else ""
        return f"Sample({self.image_id!r} of {self.group!r}{scale}, {self.truth!r})"

    def to(self, *_: Any, **__: Any) -> Sample:
        """Return self: Lightning moves batches between devices, but images are moved tile by tile."""
        return self
