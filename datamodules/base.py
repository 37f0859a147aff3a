"""`NucleiDataModule`: the base of every dataset."""

from __future__ import annotations

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytorch_lightning as pl
from torch.utils.data import DataLoader

from datamodules.drawing.items import EpochSampler, ItemDataset, Items
from datamodules.drawing.loading import VALIDATION_CROPS, Loading, loader
from datamodules.reading.card import DatasetCard
from datamodules.reading.files import read_rgb
from datamodules.reading.records import Record, check_groups
from datamodules.reading.sample import Sample
from datamodules.reading.splits import SplitRow, belongs, read_splits
from postproc.codec import Targets
from postproc.errors import ConfigError, DataError, unknown_name
from postproc.instances import Instances

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SYNTHETIC_MARKER = "SYNTHETIC.txt"
"""File that marks a folder of synthetic stand-ins."""


class NucleiDataModule(pl.LightningDataModule, ABC):
    """A dataset in its public layout.

    A subclass sets `card` and writes `index`, `read` and `write_synthetic`; its splits are in ``splits/<name>.csv``.

    Args:
        root: The dataset's own folder.
        loading: How to draw training items; None = as the recipe of the method says that a `pl.Trainer` trains.
        batch_size: Items per batch; None = the recipe's. For a plain `pl.Trainer`, as the following.
        crops_per_image: Items drawn from each image in an epoch; None = the recipe's.
        workers: Processes that draw items; 0 draws in the training process.
        split: Split to train on. Its validation images, where it has some, are validated on and not trained on.
        seed: Seed of the crops and their augmentation.

    Attributes:
        also: Further training sets with their split, whose images are trained on beside those of `loading.split`.
        validation_set: Dataset and split that protocol ``strict`` validates on; None = this set's own ``validation``.
        epoch: Number of the epoch that the training loader draws next. The runner keeps it, because Lightning's own
            count is off by one after a resume from the end of an epoch.
        batches: Batches of that epoch that are done already, when a run goes on in the middle of it.
    """

    card: ClassVar[DatasetCard]

    def __init__(
        self,
        root: Path | str,
        loading: Loading | None = None,
        *,
        batch_size: int | None = None,
        crops_per_image: int | None = None,
        workers: int = 0,
        split: str = "train",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.root = Path(root)
        self.loading = loading
        self._batch_size, self._crops_per_image = batch_size, crops_per_image
        self._workers, self._split, self._seed = workers, split, seed
        self._follows_trainer = False
        self.also: tuple[tuple[NucleiDataModule, str], ...] = ()
        self.validation_set: tuple[NucleiDataModule, str] | None = None
        self.epoch = 0
        self.batches = 0
        self._records: list[Record] | None = None
        self._train: list[Sample] | None = None
        self._validation: list[Sample] | None = None

    # ---- what a dataset writes -----------------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def index(cls, root: Path) -> list[Record]:
        """List the images under `root` without reading them, in a fixed order.

        Raises:
            DataError: If the layout is not recognised, or an image has no annotation.
        """

    @classmethod
    @abstractmethod
    def read(cls, record: Record) -> Sample:
        """Read one image with its annotation.

        Raises:
            DataError: If a file is unreadable, or image and annotation disagree; the message names the file.
        """

    @classmethod
    @abstractmethod
    def write_synthetic(cls, root: Path, *, images: int | None = None, size: int = 256, seed: int = 0) -> None:
        """Write a small stand-in of synthetic images in the dataset's own layout.

        Args:
            root: Folder to write, created where missing.
            images: Number of images over all splits; None = the least that gives every split two images.
            size: Side of the images in px.
            seed: Seed of the generator.
        """

    @classmethod
    def write_simulated(
        cls, root: Path, source: NucleiDataModule, *, images: int | None = None, size: int | None = None, seed: int = 0
    ) -> None:
        """Write images simulated from the annotation of another dataset, the one that the card names as `outlines`.

        Args:
            root: Folder to write, created where missing.
            source: That dataset.
            images: Number of images over all splits; None = all.
            size: Side of the images in px; None = that of the source.
            seed: Seed of the generator.

        Raises:
            ConfigError: If the images of this dataset are not simulated from others.
        """
        raise ConfigError(f"{cls.card.name} is not simulated from the annotation of {source.card.name}")

    # ---- what the base owns --------------------------------------------------------------------------------------

    def read_image(self, record: Record) -> Sample:
        """Read one image and none of its annotation files.

        Raises:
            DataError: If the image is unreadable.
        """
        image = read_rgb(record.image)
        truth = Instances((image.shape[0], image.shape[1]))
        return Sample(image, truth, record.image_id, record.group, self.card.magnification, self.card.mpp)

    @classmethod
    def splits(cls) -> dict[str, SplitRow]:
        """Return the committed splits: image id -> line of ``splits/<name>.csv``."""
        return read_splits(cls.card.name)

    @property
    def records(self) -> list[Record]:
        """The images under `root`, indexed once.

        Raises:
            DataError: If the folder is missing or holds no image; the message says where to get the data.
        """
        if self._records is None:
            if not self.root.is_dir():
                raise DataError(self.missing_message())
            self._records = self.index(self.root)
            if not self._records:
                raise DataError(f"no image found. {self.missing_message()}")
            check_groups(self._records, self.card.name)
        return self._records

    def missing_message(self) -> str:
        """Say where to get the data and what must lie where."""
        card = self.card
        return (
            f"dataset {card.name!r} expects its files in {self.root}. Get {card.title} from {card.url} "
            f"({card.licence}) and lay it out as:\n{card.layout}\n"
            f"`nucbench prepare {card.name}` gets it or says how; with --synthetic, it writes a synthetic stand-in."
        )

    def select(self, split: str) -> list[Record]:
        """Return the images of a split.

        Args:
            split: As for `datamodules.reading.splits.belongs`.

        Raises:
            ConfigError: If the dataset has no such split.
        """
        kind, _, names = split.partition(":")
        if kind in ("group", "except-group"):
            unknown = set(names.split(",")) - {r.group for r in self.records}
            if unknown:
                raise ConfigError(f"{self.card.name} has no group {sorted(unknown)}")
        chosen = [record for record in self.records if belongs(record, split)]
        if not chosen and split in ("validation", "fit"):
            raise ConfigError(
                f"the committed split of {self.card.name} marks no validation images among those in {self.root}, and "
                "protocol strict needs them; use --protocol paper, or name other ones with --validate"
            )
        if not chosen:
            known = sorted({"all", "validation", "fit", *(r.split for r in self.records)})
            raise ConfigError(f"{self.card.name} has no split {split!r}. Choices: {', '.join(known)}.")
        return chosen

    def samples(self, split: str) -> Iterator[Sample]:
        """Read the images of a split one after the other."""
        return (self.read(record) for record in self.select(split))

    def training_samples(self, split: str, strict: bool, *, annotated: bool = True) -> Iterator[Sample]:
        """Read the images of a split, without those that protocol ``strict`` keeps for validation."""
        read = self.read if annotated else self.read_image
        return (read(record) for record in self.select(split) if not (strict and record.validation))

    def validation_samples(self) -> Iterator[Sample]:
        """Read the images that protocol ``strict`` validates on."""
        data, split = self.validation_set or (self, "validation")
        return data.samples(split)

    def plot(self, sample: Sample | str) -> Figure:
        """Draw an image with the outlines (or centres) of its nuclei, coloured by type.

        Args:
            sample: One of `samples`, or the id of an image.

        Raises:
            ConfigError: If there is no image of that id.
        """
        from datamodules.drawing.plot import plot_sample  # imports matplotlib, which reading does without

        if isinstance(sample, str):
            known = {record.image_id: record for record in self.records}
            if sample not in known:
                raise unknown_name(f"image of {self.card.name}", sample, known)
            sample = self.read(known[sample])
        return plot_sample(sample, self.card.types)

    def fingerprint(self, split: str, *, annotated: bool = True) -> dict[str, Any]:
        """Return images, nuclei and a hash over file contents, to be stored with a run.

        Args:
            split: The images.
            annotated: Count and hash the annotation too; without it, the number of nuclei is None.
        """
        digest = hashlib.sha256()
        nuclei = 0
        chosen = self.select(split)
        for record in chosen:
            sample = self.read(record) if annotated else self.read_image(record)
            nuclei += sample.truth.count
            for array in (sample.image, sample.truth.labels, sample.truth.points, sample.truth.types):
                if array is not None:
                    digest.update(np.ascontiguousarray(array).tobytes())
        return {
            "dataset": self.card.name,
            "split": split,
            "images": len(chosen),
            "nuclei": nuclei if annotated else None,
            "sha256": digest.hexdigest(),
            "synthetic": self.is_stand_in,
        }

    def training_magnification(self, split: str) -> float | None:
        """Return the most frequent magnification of the images of a split, None where unknown."""
        if self.card.magnification is not None:
            return self.card.magnification
        known = Counter(self.read_image(record).magnification for record in self.select(split))
        return known.most_common(1)[0][0]

    @property
    def is_stand_in(self) -> bool:
        """Whether the images are generated in place of real ones; a score on them says nothing of the dataset."""
        return (self.root / SYNTHETIC_MARKER).exists() and not self.card.generated

    # ---- Lightning -----------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Take over from the method of a plain `pl.Trainer` how its items are drawn, unless a `Loading` was given.

        Raises:
            ConfigError: If the dataset has no such split, or the module that is trained is no method of nucbench.
        """
        if self.trainer is None or (self.loading is not None and not self._follows_trainer):
            return
        method: Any = self.trainer.lightning_module
        if not hasattr(method, "loading"):
            raise ConfigError(f"{type(method).__name__} does not say how training items are drawn; give a Loading")
        loading: Loading = method.loading(
            strict=any(record.validation for record in self.select(self._split)),
            split=self._split,
            seed=self._seed,
            workers=self._workers,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
        )
        if self.loading is not None and self.loading.annotated != loading.annotated:
            self._train = None  # read with or without annotation, as the method before wanted
        self.loading = dataclasses.replace(
            loading,
            batch_size=loading.batch_size if self._batch_size is None else self._batch_size,
            crops_per_image=loading.crops_per_image if self._crops_per_image is None else self._crops_per_image,
        )
        self._follows_trainer = True

    def _epoch(self) -> int:
        """Return the number of the epoch that is drawn next."""
        return self.trainer.current_epoch if self._follows_trainer and self.trainer else self.epoch

    def _training(self) -> Loading:
        if self.loading is None:
            raise ConfigError("this data module was made for reading; give it a Loading to train")
        return self.loading

    def training_images(self) -> list[Sample]:
        """Return the images that training items are drawn from, which are read once."""
        loading = self._training()
        if self._train is None:
            sources = ((self, loading.split), *self.also)
            self._train = [
                sample
                for data, split in sources
                for sample in data.training_samples(split, loading.strict, annotated=loading.annotated)
            ]
        return self._train if loading.choose is None else loading.choose(self._train)

    def validation_images(self) -> list[Sample]:
        """Return the images that protocol ``strict`` validates on, which are read once."""
        if self._validation is None:
            self._validation = list(self.validation_samples())
        return self._validation

    def train_dataloader(self) -> DataLoader[Targets]:
        """Return the loader of training items; a resumed run draws the items that it would have drawn."""
        loading = self._training()
        items = self.training_items(loading)
        sampler = EpochSampler(
            len(items), self._epoch, loading.rank, loading.world, lambda: self.batches * loading.batch_size
        )
        return loader(items, loading, sampler, drop_last=True)

    def training_items(self, loading: Loading) -> Items:
        """Return the training items of all epochs; item k of epoch e has the key ``e * length + k``."""
        images = self.training_images()
        return ItemDataset(images, loading.train, loading.crops_per_image, loading.seed, loading.window)

    def val_dataloader(self) -> DataLoader[Targets] | list[Any]:
        """Return the loader of validation items: the same crops every time; empty under protocol ``paper``."""
        loading = self._training()
        if not loading.strict:
            return []
        items = ItemDataset(self.validation_images(), loading.validation, VALIDATION_CROPS, loading.seed)
        return loader(items, loading, None, drop_last=False)


__all__ = ["NucleiDataModule"]
