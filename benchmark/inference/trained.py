"""`Trained`: a method that is ready to predict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from postproc.codec import Params

if TYPE_CHECKING:
    from models.base.method import NucleiMethod


@dataclass(frozen=True)
class Trained:
    """A method that is ready to predict.

    Attributes:
        method: In eval mode, with its weights, on a GPU where there is one.
        params: Post-processing parameters of each variant; the default one first.
        magnification: Of the training images; None where unknown.
        precision: Lightning precision of inference.
        trained_on: Training sets, each ``dataset.split``.
    """

    method: NucleiMethod
    params: dict[str, Params]
    magnification: float | None
    precision: str
    trained_on: tuple[str, ...]
