"""`Sources` and `TrainingData`: the images of a training, and the loaders of one phase of it."""

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
        """Return the images, unread."""
        return self.data.select(self.split)

    def samples(self) -> Iterator[Sample]:
        """Read the images one after the other."""
        return self.data.samples(self.split)


@dataclass(frozen=True)
class Sources:
    """The images that a training learns from and is validated on, each read once.

    Attributes:
        train: Training sets; the first gives types and magnification.
        validation: What protocol ``strict`` validates on.
        strict: Protocol ``strict``: train without the validation images.
        annotated: Read the annotation of training images; False for methods that learn without any.
    """

    train: tuple[ImageSet, ...]
    validation: ImageSet
    strict: bool
    annotated: bool = True

    @property
    def first(self) -> ImageSet:
        """The training set that gives types and magnification."""
        return self.train[0]

    @property
    def elsewhere(self) -> bool:
        """Whether another dataset than the training set is validated on."""
        return self.validation.data is not self.first.data

    @cached_property
    def magnification(self) -> float | None:
        """The most frequent magnification of the training images; None = unknown."""
        return self.first.data.training_magnification(self.first.split)

    @cached_property
    def training_images(self) -> list[Sample]:
        """The images that are learnt from."""
        return [
            sample
            for data, split in self.train
            for sample in data.training_samples(split, self.strict, annotated=self.annotated)
        ]

    @cached_property
    def validation_images(self) -> list[Sample]:
        """The images that protocol ``strict`` validates on."""
        return list(self.validation.samples())


class Position(Protocol):
    """How far a training is in its items."""

    @property
    def epoch(self) -> int:
        """Number of the epoch that is drawn next."""

    @property
    def batches(self) -> int:
        """Batches of that epoch that are done already, when a run resumes in the middle of it."""


@dataclass
class Bookmark:
    """A `Position` that somebody keeps: Lightning's own count is off by one after a resume from the end of an epoch."""

    epoch: int = 0
    batches: int = 0


class TrainingData(pl.LightningDataModule):
    """The loaders of one phase of a training.

    Args:
        sources: The images.
        loading: How items are drawn from them.
        position: Where the training is; a resumed run draws the items that it would have drawn.
    """

    def __init__(self, sources: Sources, loading: Loading, position: Position) -> None:
        super().__init__()
        self.sources = sources
        self.loading = loading
        self.position = position

    @property
    def scored_card(self) -> DatasetCard | None:
        """Card of the dataset whose whole images are scored in validation; None where none of them has nuclei."""
        return self.sources.validation.data.card if self._whole_images() else None

    @property
    def magnification(self) -> float | None:
        """Of the training images; None = unknown."""
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
        """Return the loader of batches of validation crops, the same every time, then of whole images, one at a time.

        Of the whole images each process takes its share. Nothing is loaded under protocol ``paper``.
        """
        if not self.sources.strict:
            return []
        loading = self.loading
        crops = ItemDataset(self.sources.validation_images, loading.validation, VALIDATION_CROPS, loading.seed)
        return validation_loader(crops, self._whole_images()[loading.rank :: loading.world], loading)

    def _whole_images(self) -> list[Sample]:
        return [sample for sample in self.sources.validation_images if has_nuclei(sample.truth)]


__all__ = ["Bookmark", "ImageSet", "Position", "Sources", "TrainingData"]
