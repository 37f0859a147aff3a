"""Datasets of a run: opened, checked against each other and the method."""

from __future__ import annotations

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
    """Return a data module whose files are known to be there.

    Raises:
        ConfigError: If there is no dataset of that name.
        DataError: If its folder is missing or not recognised.
    """
    data = dataset_class(name)(machine.data / name)
    if not data.records:
        raise DataError(data.missing_message())
    return data


def open_sources(spec: RunSpec, machine: Machine) -> Sources:
    """Return the images of a run: its training sets, and what protocol ``strict`` validates on.

    Raises:
        ConfigError: If a split is unknown, or the sets differ in magnification: their images would not be rescaled.
        DataError: If files are missing.
    """
    sets = tuple(ImageSet(open_dataset(t.dataset, machine), t.split) for t in spec.training_sets)
    strict = spec.protocol == "strict"
    annotated = method_class(spec.method).card.needs != "none"
    sources = Sources(sets, _open_validation(spec, machine, sets), strict, annotated)
    first, *others = sets
    taken = {record.image for record in first.records()}
    for other in others:
        images = {record.image for record in other.records()}
        if taken & images:
            raise ConfigError(f"{other} shares {len(taken & images)} images with the other training sets")
        taken |= images
        found = other.data.training_magnification(other.split)
        if found != sources.magnification:
            raise ConfigError(
                f"{other.data.card.name} is at {found}x and {first.data.card.name} at {sources.magnification}x; "
                "training sets that are used together must have one magnification"
            )
    if strict:
        sources.validation.records()  # raises where there are none
    return sources


def _open_validation(spec: RunSpec, machine: Machine, sets: tuple[ImageSet, ...]) -> ImageSet:
    """Return what is validated on: the images that the run names, else those that the training set sets aside.

    Raises:
        ConfigError: If they have no annotation, or a patient of theirs is trained on too.
        DataError: If files are missing.
    """
    target = spec.validation_set
    if target is None:
        return ImageSet(sets[0].data, "validation")
    source = ImageSet(open_dataset(target.dataset, machine), target.split)
    if source.data.card.annotation == "none":
        raise ConfigError(f"{target} cannot be validated on: it has no annotation")
    trained = {record.group for each in sets for record in each.records() if not record.validation}
    shared = sorted(trained & {record.group for record in source.records()})
    if shared:
        raise ConfigError(
            f"{len(shared)} groups (patients) of {target} are trained on too, for example {shared[0]!r}. Leave them "
            f"out of {spec.dataset}, or validate on others."
        )
    return source


def trained_images_of(sources: Sources) -> set[Path | str]:
    """Return the files of all images that a run is trained on or chooses its checkpoint and parameters with.

    Tiles of whole slides are parts of images that other datasets may hold: of these the patients are returned.
    """
    return {
        record.group if data.card.annotation == "none" else record.image
        for data, split in (*sources.train, *([sources.validation] if sources.elsewhere else []))
        for record in data.select(split)
    }


def check_pair(method: NucleiMethod, data: NucleiDataModule) -> None:
    """Refuse a training set that lacks what the method learns from."""
    needs, has = method.card.needs, data.card.annotation
    if needs != "none" and has == "none":
        raise ConfigError(f"{method.card.name} learns from annotation, and {data.card.name} has none")
    if needs == "instances" and has == "points":
        raise ConfigError(
            f"{method.card.name} learns from outlines, but {data.card.name} has only points. Methods that learn from "
            "points are listed by: nucbench list methods"
        )
