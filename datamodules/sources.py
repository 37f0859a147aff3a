"""`Sources` and `TrainingData`: the images of a training, and the loaders of one of its phases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from datamodules.drawing.items import EpochSampler, ItemDataset
from datamodules.drawing.labelled import has_nuclei
from datamodules.drawing.loading import VALIDATION_CROPS, Loading, item_loader, validation_loader
from datamodules.reading.card import DatasetCard
from datamodules.reading.records import Record
from datamodules.reading.sample import Sample
from postproc.codec import Targets

if TYPE_CHECKING:
    from datamodules.base import NucleiDataModule


class ImageSet(NamedTuple):
    """Images of a dataset.

    Attributes:
        data: The dataset.
        split: As for `NucleiDataModule.select`.
    """

    data: NucleiDataModule
    split: str

    def __str__(self) -> str:
        return f"{self.data.card.name}.{self.split}"

    def records(self) -> list[Record]:
        """Return the records of the images, without reading them."""
        return self.data.select(self.split)

    def samples(self) -> Iterator[Sample]:
        """Read the images one at a time."""
        return self.data.samples(self.split)


@dataclass(frozen=True)
class Sources:
    """The training and validation images of a training, each read once.

    Attributes:
        train: Training sets; the first gives types and magnification.
        validation: Validation images of protocol ``strict``.
        strict: True for protocol ``strict``: exclude the validation images from training.
        annotated: Whether to read the annotation of training images; False for methods that learn without it.
    """

    train: tuple[ImageSet, ...]
    validation: ImageSet
    strict: bool
    annotated: bool = True

    @property
    def first(self) -> ImageSet:
        """The training set that defines types and magnification."""
        return self.train[0]

    @property
    def elsewhere(self) -> bool:
        """Whether validation uses a different dataset from training."""
        return self.validation.data is not self.first.data

    @cached_property
    def magnification(self) -> float | None:
        """The most frequent magnification of the training images; None = unknown."""
        return self.first.data.training_magnification(self.first.split)

    @cached_property
    def training_images(self) -> list[Sample]:
        """The training images."""
        return [
            sample
            for data, split in self.train
            for sample in data.training_samples(split, self.strict, annotated=self.annotated)
        ]

    @cached_property
    def validation_images(self) -> list[Sample]:
        """The validation images of protocol ``strict``."""
        return list(self.validation.samples())


class Position(Protocol):
    """Position of a training in its items."""

    @property
    def epoch(self) -> int:
        """Number of the next epoch to draw."""

    @property
    def batches(self) -> int:
        """Number of finished batches of that epoch, if a run resumes in the middle of it."""


@dataclass
class Bookmark:
    """A `Position` kept by the caller: Lightning's count is off by one after resuming at the end of an epoch."""

    epoch: int = 0
    batches: int = 0


class TrainingData(pl.LightningDataModule):
    """The loaders of one phase of a training.

    Args:
        sources: The images.
        loading: Settings for drawing items.
        position: Position of the training; a resumed run draws the same items as an uninterrupted one.
    """

    def __init__(self, sources: Sources, loading: Loading, position: Position) -> None:
        super().__init__()
        self.sources = sources
        self.loading = loading
        self.position = position

    @property
    def scored_card(self) -> DatasetCard | None:
        """Card of the dataset whose whole images are scored in validation; None if none of them has nuclei."""
        return self.sources.validation.data.card if self._whole_images() else None

    @property
    def magnification(self) -> float | None:
        """Magnification of the training images; None = unknown."""
        return self.sources.magnification

    def train_dataloader(self) -> DataLoader[Targets]:
        """Return the loader of training items."""
        loading, position = self.loading, self.position
        items = self.sources.first.data.training_items(self.sources, loading)
        sampler = EpochSampler(
            len(items),
            lambda: position.epoch,
            loading.rank,
            loading.world,
            lambda: position.batches * loading.batch_size,
        )
        return item_loader(items, loading, sampler, drop_last=True)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return the loader of fixed batches of validation crops, then of whole images, one at a time.

        Whole images are divided among the processes. Nothing is loaded under protocol ``paper``.
        """
        if not self.sources.strict:
            return []
        loading = self.loading
        crops = ItemDataset(self.sources.validation_images, loading.validation, VALIDATION_CROPS, loading.seed)
        return validation_loader(crops, self._whole_images()[loading.rank :: loading.world], loading)

    def _whole_images(self) -> list[Sample]:
        return [sample for sample in self.sources.validation_images if has_nuclei(sample.truth)]


__all__ = ["Bookmark", "ImageSet", "Position", "Sources", "TrainingData"]
