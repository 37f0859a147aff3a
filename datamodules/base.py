"""`NucleiDataModule`: the base of every dataset."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytorch_lightning as pl
from torch.utils.data import DataLoader

from datamodules.drawing.items import ItemDataset, Items
from datamodules.drawing.loading import Loading, sample_loader
from datamodules.reading.card import DatasetCard
from datamodules.reading.records import Record, check_groups
from datamodules.reading.sample import Sample
from datamodules.reading.splits import SplitRow, belongs, read_splits
from datamodules.reading.stacks import read_image_of
from datamodules.sources import ImageSet, Sources, TrainingData
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
        batch_size: Items per batch; None = the recipe's, of the method that a `pl.Trainer` trains.
        crops_per_image: Items drawn from each image in an epoch; None = the recipe's.
        workers: Processes that draw items; 0 draws in the training process.
        split: Split to train on. Its validation images, if any, are used for validation and not for training.
        test_split: Split for `pl.Trainer.test` and `predict`; None = ``test``, or ``all`` if the dataset has none.
        seed: Seed of the crops and their augmentation.
    """

    card: ClassVar[DatasetCard]

    def __init__(
        self,
        root: Path | str,
        *,
        batch_size: int | None = None,
        crops_per_image: int | None = None,
        workers: int = 0,
        split: str = "train",
        test_split: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.root = Path(root)
        self._batch_size, self._crops_per_image = batch_size, crops_per_image
        self._workers, self._split, self._test_split, self._seed = workers, split, test_split, seed
        self._records: list[Record] | None = None
        self._training: TrainingData | None = None

    # ---- implemented by each dataset ---------------------------------------------------------------------------

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
            root: Output folder, created if missing.
            images: Number of images over all splits; None = the fewest that give every split two images.
            size: Side of the images, in pixels.
            seed: Seed of the generator.
        """

    @classmethod
    def write_simulated(
        cls, root: Path, source: NucleiDataModule, *, images: int | None = None, size: int | None = None, seed: int = 0
    ) -> None:
        """Write images simulated from the annotation of another dataset, the `outlines` of the card.

        Args:
            root: Output folder, created if missing.
            source: That dataset.
            images: Number of images over all splits; None = all.
            size: Side of the images, in pixels; None = that of the source.
            seed: Seed of the generator.

        Raises:
            ConfigError: If the images of this dataset are not simulated from others.
        """
        raise ConfigError(f"{cls.card.name} is not simulated from the annotation of {source.card.name}")

    # ---- implemented by the base class --------------------------------------------------------------------------

    @classmethod
    def survey(cls, root: Path) -> tuple[list[Record], list[str]]:
        """List the images under `root`, and a message for each file that cannot be used.

        Raises:
            DataError: If the layout is not recognised; by default also for the first such file, as `index`.
        """
        return cls.index(root), []

    def read_image(self, record: Record) -> Sample:
        """Read one image without its annotation.

        Raises:
            DataError: If the image is unreadable.
        """
        image = read_image_of(record)
        truth = Instances((image.shape[0], image.shape[1]))
        return Sample(image, truth, record.image_id, record.group, self.card.magnification, self.card.mpp)

    @classmethod
    def splits(cls) -> dict[str, SplitRow]:
        """Return the committed splits: image id -> line of ``splits/<name>.csv`` beside the module of the class.

        Raises:
            DataError: If there is no such file.
        """
        modules = dict.fromkeys(kind.__module__ for kind in cls.__mro__ if issubclass(kind, NucleiDataModule))
        files = [getattr(sys.modules.get(name), "__file__", None) for name in modules]
        return read_splits(cls.card.name, [Path(file).parent for file in files if file])

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
        """Return a message on where to get the data and the expected layout."""
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
                f"the committed split of {self.card.name} has no validation images among those in {self.root}, but "
                "protocol strict needs them; use --protocol paper, or give other images with --validate"
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

    def plot(self, sample: Sample | str) -> Figure:
        """Draw an image with the outlines (or centres) of its nuclei, coloured by type.

        Args:
            sample: One of `samples`, or the id of an image.

        Raises:
            ConfigError: If there is no image of that id.
        """
        from datamodules.drawing.plot import plot_sample  # imports matplotlib, which reading does not need

        if isinstance(sample, str):
            known = {record.image_id: record for record in self.records}
            if sample not in known:
                raise unknown_name(f"image of {self.card.name}", sample, known)
            sample = self.read(known[sample])
        return plot_sample(sample, self.card.types)

    def fingerprint(self, split: str, *, annotated: bool = True) -> dict[str, Any]:
        """Return images, nuclei and a hash over file contents, for the record of a run.

        Args:
            split: The images.
            annotated: Also count and hash the annotation; if False, the number of nuclei is None.
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
        """Return the most frequent magnification of the images of a split, None if unknown."""
        if self.card.magnification is not None:
            return self.card.magnification
        known = Counter(self.read_image(record).magnification for record in self.select(split))
        return known.most_common(1)[0][0]

    @property
    def is_stand_in(self) -> bool:
        """Whether the images are synthetic stand-ins; scores on them say nothing about the dataset."""
        return (self.root / SYNTHETIC_MARKER).exists() and not self.card.generated

    # ---- Lightning -----------------------------------------------------------------------------------------------

    @property
    def scored_card(self) -> DatasetCard | None:
        """Card of the dataset whose whole images are scored in validation and test."""
        testing = self.trainer is not None and self.trainer.testing
        return self.card if testing or self._training is None else self._training.scored_card

    @property
    def magnification(self) -> float | None:
        """Magnification of the training images; None = unknown."""
        return self.training_magnification(self._split)

    def setup(self, stage: str) -> None:
        """Take the settings for training items from the method that a `pl.Trainer` trains.

        Raises:
            ConfigError: If the dataset has no such split, or the trained module is not a method of nucbench.
        """
        if self.trainer is None or stage not in ("fit", "validate"):
            return
        method: Any = self.trainer.lightning_module
        if not hasattr(method, "loading"):
            raise ConfigError(f"{type(method).__name__} does not define how training items are drawn (`loading`)")
        loading: Loading = method.loading(
            seed=self._seed, workers=self._workers, rank=self.trainer.global_rank, world=self.trainer.world_size
        )
        loading = dataclasses.replace(
            loading,
            batch_size=loading.batch_size if self._batch_size is None else self._batch_size,
            crops_per_image=loading.crops_per_image if self._crops_per_image is None else self._crops_per_image,
        )
        self._training = TrainingData(self._sources(method.card.needs != "none"), loading, _OfTrainer(self.trainer))

    def _sources(self, annotated: bool) -> Sources:
        if self._training is not None and self._training.sources.annotated == annotated:
            return self._training.sources  # its images have been read
        strict = any(record.validation for record in self.select(self._split))
        return Sources((ImageSet(self, self._split),), ImageSet(self, "validation"), strict, annotated)

    def training_items(self, sources: Sources, loading: Loading) -> Items:
        """Return the training items of all epochs; item k of epoch e has the key ``e * length + k``."""
        images = sources.training_images
        chosen = images if loading.choose is None else loading.choose(images)
        return ItemDataset(chosen, loading.train, loading.crops_per_image, loading.seed, loading.window)

    def train_dataloader(self) -> DataLoader[Targets]:
        """Return the loader of training items."""
        return self._set_up().train_dataloader()

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Return the loader of validation crops and whole validation images; empty if there are none."""
        return self._set_up().val_dataloader()

    def test_dataloader(self) -> DataLoader[Sample]:
        """Return the loader of whole test images, read one at a time."""
        split = self._test_split
        if split is None:
            split = "test" if any(record.split.partition("_")[0] == "test" for record in self.records) else "all"
        return sample_loader(_Samples(self, self.select(split)))

    def predict_dataloader(self) -> DataLoader[Sample]:
        """Return the same loader as `test_dataloader`."""
        return self.test_dataloader()

    def _set_up(self) -> TrainingData:
        if self._training is None:
            raise ConfigError("the loaders depend on the trained method: use the data module with a pl.Trainer")
        return self._training


class _OfTrainer:
    """Position of a plain trainer (`datamodules.sources.Position`)."""

    batches = 0

    def __init__(self, trainer: pl.Trainer) -> None:
        self._trainer = trainer

    @property
    def epoch(self) -> int:
        return self._trainer.current_epoch


class _Samples(Sequence[Sample]):
    """Images that are read on access."""

    def __init__(self, data: NucleiDataModule, records: list[Record]) -> None:
        self._data, self._records = data, records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: Any) -> Any:
        return self._data.read(self._records[index])


__all__ = ["NucleiDataModule"]
