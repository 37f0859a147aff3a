"""`Trained`: a method with weights, ready to predict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from postproc.codec import Params

if TYPE_CHECKING:
    from models.base.method import NucleiMethod


@dataclass(frozen=True)
class Trained:
    """A method with weights, ready to predict.

    Attributes:
        method: Method in eval mode, with its weights, on a GPU if available.
        params: Post-processing parameters of each variant, the default variant first.
        magnification: Magnification of the training images; None if unknown.
        precision: Lightning precision of inference.
        trained_on: Training sets, each ``dataset.split``.
        tta: Average maps over mirrored and rotated images.
    """

    method: NucleiMethod
    params: dict[str, Params]
    magnification: float | None
    precision: str
    trained_on: tuple[str, ...]
    tta: bool = False
