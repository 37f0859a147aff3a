"""`Network`: interface of methods for inference on whole images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor

from postproc.codec import Maps
from postproc.symmetry import Symmetry
from postproc.windows import DenseStitcher, Geometry, Stitcher

BATCH_PIXELS = 1 << 18
"""Pixels of the inputs of a batch of small windows. Weights are read, and under autocast cast, once for each batch."""

Outputs = dict[str, Tensor]
"""Raw output of a network: name -> logits (B, C, h, w)."""


class Network(pl.LightningModule, ABC):
    """A network that runs tile by tile: preparation of images, and conversion of outputs to maps.

    Attributes:
        geometry: Input sizes, margin and context of the network.
        mean: Per-channel mean of the input, in [0, 1] (that of ImageNet for pretrained encoders).
        std: Per-channel standard deviation of the input.
        own_statistics: Whether `statistics` depends on the image.
    """

    geometry: Geometry
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    own_statistics: ClassVar[bool] = False

    @abstractmethod
    def forward(self, images: Tensor) -> Outputs:
        """Return the logits, each (B, C, h, w), of prepared images, float (B, 3, H, W)."""

    @abstractmethod
    def activate(self, outputs: Outputs) -> Outputs:
        """Convert logits to the maps that the codec decodes (probabilities, distances), (B, C, h, w)."""

    @property
    @abstractmethod
    def training_crop(self) -> int:
        """Side of the training crops in pixels."""

    def statistics(self, images: Tensor) -> Tensor:
        """Return mean and standard deviation per channel, (B, 2, 3), for `prepare`.

        Args:
            images: float (B, 3, H, W) in [0, 1]: crops in training, the whole image in inference, so that all its tiles
                are prepared in the same way.
        """
        fixed = torch.tensor([self.mean, self.std], device=images.device)
        return fixed.expand(len(images), 2, 3)

    def prepare(self, images: Tensor, statistics: Tensor | None = None) -> Tensor:
        """Scale uint8 (B, 3, H, W) to [0, 1] and standardise by `statistics` (default: those of `images`)."""
        scaled = images.to(self.device).float() / 255
        given = self.statistics(scaled) if statistics is None else statistics.to(scaled)
        prepared = (scaled - given[:, 0, :, None, None]) / given[:, 1, :, None, None]
        return prepared.contiguous(memory_format=torch.channels_last)

    def predict_batch(self, images: Tensor) -> list[Maps]:
        """Return the activated maps of prepared tiles of equal size, one dictionary of float32 arrays per tile."""
        outputs = {name: value.float() for name, value in self(images).items()}
        arrays = {name: value.float().cpu().numpy() for name, value in self.activate(outputs).items()}
        return [{name: value[i] for name, value in arrays.items()} for i in range(len(images))]

    @abstractmethod
    def undo(self, maps: Maps, symmetry: Symmetry) -> Maps:
        """Return the maps of a tile from those of the mirrored and rotated tile."""

    def stitcher(self, shape: tuple[int, int]) -> Stitcher:
        """Return the stitcher of the tiles of an image of (H, W) px."""
        return DenseStitcher(shape)


__all__ = ["BATCH_PIXELS", "Network", "Outputs"]
