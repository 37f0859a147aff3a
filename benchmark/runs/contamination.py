"""Find the images of a test set that a model was trained on, by file, group and content."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.host.machine import Machine
from benchmark.registry import DATASETS
from benchmark.results.parent import Parent
from benchmark.results.spec import Target
from benchmark.results.store import RunStore
from benchmark.results.trained_images import NOTHING_TRAINED, TrainedImages
from benchmark.runs.datasets import files_of, open_dataset, trained_images_of
from datamodules.reading.pixel_hash import hash_image
from datamodules.sources import ImageSet, Sources
from postproc.errors import ConfigError, DataError

NAMED = 3
"""Images that a message names."""


@dataclass(frozen=True)
class Overlap:
    """Images of a test set that are, or may be, training images.

    Attributes:
        seen: Image id -> the training image with the same file, group (tiles) or pixels.
        similar: Image id -> a training image of the same appearance, perhaps re-encoded or rescaled.
    """

    seen: Mapping[str, str] = field(default_factory=dict)
    similar: Mapping[str, str] = field(default_factory=dict)

    def tell(self, images: str) -> None:
        """Print a line for each kind of overlap; nothing if there is none.

        Args:
            images: The test set, ``dataset.split``.
        """
        if self.seen:
            print(
                f"note: {_counted(self.seen)} of {images} {'is a' if len(self.seen) == 1 else 'are'} training "
                f"image{'s' * (len(self.seen) != 1)} ({_pairs(self.seen)}); its "
                "scores do not apply to new images and are left out of tables",
                flush=True,
            )
        if self.similar:
            print(
                f"warning: {_counted(self.similar)} of {images} may be training images that were re-encoded or "
                f"rescaled ({_pairs(self.similar)}); tables mark the scores",
                flush=True,
            )


@dataclass(frozen=True)
class KnownImages:
    """Everything known about the images of a training.

    Attributes:
        files: Their files; for tiles of slides, their groups (`trained_images_of`).
        hashes: Hashes of their pixels.
    """

    files: frozenset[Path | str] = frozenset()
    hashes: TrainedImages = NOTHING_TRAINED

    def overlap(self, images: ImageSet) -> Overlap:
        """Compare a test set with the training images; its images are read one at a time.

        Synthetic stand-ins are compared by file only: those of all datasets are drawn from the same seeds.
        """
        hashed = bool(self.hashes.sets) and not images.data.is_stand_in
        seen: dict[str, str] = {}
        similar: dict[str, str] = {}
        for record in images.records():
            found = self.hashes.match(hash_image(images.data.read_image(record).image)) if hashed else None
            if found and found.exact:
                seen[record.image_id] = found.name
            elif record.place in self.files:
                seen[record.image_id] = "the same file"
            elif record.group in self.files:
                seen[record.image_id] = f"the slide or patient {record.group}"
            elif found:
                similar[record.image_id] = found.name
        return Overlap(seen, similar)


def known_images(store: RunStore, sources: Sources, machine: Machine | None = None) -> KnownImages:
    """Return the training images of a run; their hashes are computed once and stored in its directory.

    Args:
        store: The run.
        sources: Its images.
        machine: Folders in which the training images of its parent are looked for; None = only by their hashes.
    """
    if not store.trained_images_file.exists():
        hash_sources(sources).write(store.trained_images_file)
    hashes = TrainedImages.read(store.trained_images_file)
    files = trained_images_of(sources)
    parent = Parent.read(store.parent_file)
    if parent is not None and machine is not None:
        files |= files_of(each for name in parent.trained_on if (each := _find_set(name, machine)))
    return KnownImages(frozenset(files), hashes)


def hash_sources(sources: Sources) -> TrainedImages:
    """Return the hashes of all images used for training or for the choice of checkpoint and parameters."""
    return hash_sets([*sources.train, *([sources.validation] if sources.elsewhere else [])])


def hash_sets(sets: Iterable[ImageSet]) -> TrainedImages:
    """Read the images of some sets and return their hashes."""
    return TrainedImages(
        {
            str(images): {
                record.image_id: hash_image(images.data.read_image(record).image) for record in images.records()
            }
            for images in sets
        }
    )


def hash_named(names: Iterable[str], machine: Machine) -> TrainedImages:
    """Return the hashes of training sets named ``dataset`` or ``dataset.split``, as far as their images exist here.

    Sets of unknown datasets and of datasets without files are left out; a line names them.
    """
    found: list[ImageSet] = []
    missing: list[str] = []
    for name in names:
        images = _find_set(name, machine)
        if images is None:
            missing.append(name)
        else:
            found.append(images)
    if missing:
        print(
            f"note: no images of {', '.join(missing)} here, so test images are not compared with those that the model "
            "was trained on",
            flush=True,
        )
    return hash_sets(found)


def _find_set(name: str, machine: Machine) -> ImageSet | None:
    """Open a training set; None if the dataset is unknown, or its images are not here."""
    if name.partition(".")[0] not in DATASETS:
        return None
    target = Target.parse(name, "train")
    try:
        images = ImageSet(open_dataset(target.dataset, machine), target.split)
        images.records()
    except (DataError, ConfigError):  # sets of one's own may have other splits by now
        return None
    return images


def _counted(pairs: Mapping[str, str]) -> str:
    return f"{len(pairs)} image{'s' * (len(pairs) != 1)}"


def _pairs(pairs: Mapping[str, str]) -> str:
    named = [f"{image} = {trained}" for image, trained in list(pairs.items())[:NAMED]]
    return ", ".join(named) + (f" and {len(pairs) - NAMED} more" if len(pairs) > NAMED else "")


__all__ = ["KnownImages", "Overlap", "hash_named", "hash_sets", "hash_sources", "known_images"]
