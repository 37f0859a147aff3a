"""Open the datasets of a run and check them against each other and the method."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.host.machine import Machine
from benchmark.registry import dataset_class, method_class
from benchmark.results.spec import RunSpec
from datamodules.sources import ImageSet, Sources
from postproc.errors import ConfigError, DataError

if TYPE_CHECKING:
    from datamodules.base import NucleiDataModule
    from models.base.method import NucleiMethod


def open_dataset(name: str, machine: Machine) -> NucleiDataModule:
    """Return a data module after checking that its files exist.

    Raises:
        ConfigError: If no dataset has that name.
        DataError: If its folder is missing or has an unknown layout.
    """
    data = dataset_class(name)(machine.data / name)
    if not data.records:
        raise DataError(data.missing_message())
    return data


def open_sources(spec: RunSpec, machine: Machine) -> Sources:
    """Return the images of a run: its training sets and the validation images of protocol ``strict``.

    Raises:
        ConfigError: If a split is unknown, or the sets differ in magnification (images are not rescaled).
        DataError: If files are missing.
    """
    sets = tuple(ImageSet(open_dataset(t.dataset, machine), t.split) for t in spec.training_sets)
    strict = spec.protocol == "strict"
    annotated = method_class(spec.method).card.needs != "none"
    sources = Sources(sets, _open_validation(spec, machine, sets), strict, annotated)
    first, *others = sets
    taken = {record.place for record in first.records()}
    for other in others:
        images = {record.place for record in other.records()}
        if taken & images:
            raise ConfigError(f"{other} shares {len(taken & images)} images with the other training sets")
        taken |= images
        found = other.data.training_magnification(other.split)
        if found != sources.magnification:
            raise ConfigError(
                f"{other.data.card.name} is at {found}x and {first.data.card.name} at {sources.magnification}x; "
                "combined training sets must have the same magnification"
            )
    if strict:
        sources.validation.records()  # raises if there are none
    return sources


def _open_validation(spec: RunSpec, machine: Machine, sets: tuple[ImageSet, ...]) -> ImageSet:
    """Return the validation images: those named by the run, else those of the training set.

    Raises:
        ConfigError: If they have no annotation, or share a patient with the training images.
        DataError: If files are missing.
    """
    target = spec.validation_set
    if target is None:
        return ImageSet(sets[0].data, "validation")
    source = ImageSet(open_dataset(target.dataset, machine), target.split)
    if source.data.card.annotation == "none":
        raise ConfigError(f"cannot validate on {target}: it has no annotation")
    trained = {record.group for each in sets for record in each.records() if not record.validation}
    shared = sorted(trained & {record.group for record in source.records()})
    if shared:
        raise ConfigError(
            f"{len(shared)} groups (patients) of {target} are also training images, for example {shared[0]!r}. Exclude "
            f"them from {spec.dataset}, or validate on other images."
        )
    return source


def trained_images_of(sources: Sources) -> set[Path | str]:
    """Return the files of all images used for training or for the choice of checkpoint and parameters."""
    return files_of((*sources.train, *([sources.validation] if sources.elsewhere else [])))


def files_of(sets: Iterable[ImageSet]) -> set[Path | str]:
    """Return the files of the images of some sets.

    For tiles of whole slides, which may be parts of images in other datasets, the patients are returned instead.
    """
    return {
        record.group if data.card.annotation == "none" else record.place
        for data, split in sets
        for record in data.select(split)
    }


def check_pair(method: NucleiMethod, data: NucleiDataModule) -> None:
    """Reject a training set that lacks the annotation required by the method."""
    needs, has = method.card.needs, data.card.annotation
    if needs != "none" and has == "none":
        raise ConfigError(f"{method.card.name} needs annotation, but {data.card.name} has none")
    if needs == "instances" and has == "points":
        raise ConfigError(
            f"{method.card.name} needs outlines, but {data.card.name} has only points. List methods for point "
            "annotation with: nucbench list methods"
        )
