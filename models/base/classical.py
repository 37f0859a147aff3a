"""Base of classical pipelines, which are not trained: the codec receives the image unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

import numpy as np
from torch import Tensor

from benchmark.forward.network import Outputs
from models.base.method import UNTYPED, Batch, NucleiMethod, Task
from models.base.recipe import Recipe
from postproc.classical.base import ClassicalCodec
from postproc.codec import Maps
from postproc.windows import Geometry


class ClassicalMethod(NucleiMethod):
    """A pipeline without trained parameters; a subclass sets `card` and `codec_type`.

    Attributes:
        codec_type: Codec that implements the pipeline.
    """

    codec_type: ClassVar[type[ClassicalCodec[Any]]]
    small: ClassVar[Mapping[str, Any]] = {}
    recipe = Recipe(crop=256, phases=(), augment="none")

    def __init__(self, task: Task = UNTYPED) -> None:
        super().__init__(task)
        self.codecs = {self.card.variants[0].key: self.codec_type(task.mpp)}
        self.geometry = Geometry(whole_image=True)

    def prepare(self, images: Tensor, statistics: Tensor | None = None) -> Tensor:
        """Return uint8 images (B, 3, H, W) unchanged."""
        return images

    def predict_batch(self, images: Tensor) -> list[Maps]:
        """Return the map ``image`` of each image, uint8 (3, H, W)."""
        return [{"image": np.ascontiguousarray(image)} for image in images.cpu().numpy()]

    def forward(self, images: Tensor) -> Outputs:
        """Raise an error: there is no network.

        Raises:
            NotImplementedError: Always.
        """
        self._refuse()

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Raise an error: there is no training.

        Raises:
            NotImplementedError: Always.
        """
        self._refuse()

    def activate(self, outputs: Outputs) -> Outputs:
        """Raise an error: there is no network.

        Raises:
            NotImplementedError: Always.
        """
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise NotImplementedError(f"{self.card.name} is a classical pipeline: it has no network and is not trained")
