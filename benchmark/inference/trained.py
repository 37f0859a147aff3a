"""`Trained`: a method with weights, ready to predict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmark.forward.maps import InferenceSettings
from postproc.codec import Params
from postproc.instances import Instances

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

    def settings(self, *, tta: bool = False, compile: bool = False) -> InferenceSettings:
        """Return the settings of inference.

        Args:
            tta: Average maps over mirrored and rotated images, also if the model does not.
            compile: Compile the network with torch.compile.

        Raises:
            ConfigError: If the maps of the method cannot be averaged.
        """
        tta = tta or self.tta
        if tta:
            self.method.check_symmetries()
        return InferenceSettings(precision=self.precision, compile=compile, tta=tta)

    def segment(self, image: NDArray[np.uint8], magnification: float | None) -> Instances:
        """Find the nuclei of an image with the default variant, see `NucleiMethod.segment`."""
        variant, params = next(iter(self.params.items()))
        settings = self.settings()
        return self.method.segment(image, magnification, variant=variant, params=params, settings=settings)
