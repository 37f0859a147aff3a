"""Datasets of a run: opened, checked against each other and the method."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.host.machine import Machine
from benchmark.registry import dataset_class
from benchmark.results.spec import RunSpec
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


def open_training(spec: RunSpec, machine: Machine) -> NucleiDataModule:
    """Return the data module of a run's training set, with its further training sets in `also`.

    Raises:
        ConfigError: If a split is unknown, or the sets differ in magnification: their images would not be rescaled.
        DataError: If files are missing.
    """
    (data, split), *others = [(open_dataset(t.dataset, machine), t.split) for t in spec.training_sets]
    wanted = data.training_magnification(split)
    taken = {record.image for record in data.select(split)}
    for other, other_split in others:
        images = {record.image for record in other.select(other_split)}
        if taken & images:
            raise ConfigError(
                f"{other.card.name}.{other_split} shares {len(taken & images)} images with the other training sets"
            )
        taken |= images
        found = other.training_magnification(other_split)
        if found != wanted:
            raise ConfigError(
                f"{other.card.name} is at {found}x and {data.card.name} at {wanted}x; training sets that are used "
                "together must have one magnification"
            )
    data.also = tuple(others)
    data.validation_set = _open_validation(spec, machine, data)
    return data


def _open_validation(spec: RunSpec, machine: Machine, data: NucleiDataModule) -> tuple[NucleiDataModule, str] | None:
    """Return the other dataset that is validated on, with its split; None where the training set has its own images.

    Raises:
        ConfigError: If it has no annotation, or a patient of it is trained on too.
        DataError: If files are missing.
    """
    target = spec.validation_set
    if target is None:
        return None
    source = open_dataset(target.dataset, machine)
    if source.card.annotation == "none":
        raise ConfigError(f"{target} cannot be validated on: it has no annotation")
    sources = ((data, spec.split), *data.also)
    trained = {r.group for each, split in sources for r in each.select(split) if not r.validation}
    shared = sorted(trained & {record.group for record in source.select(target.split)})
    if shared:
        raise ConfigError(
            f"{len(shared)} groups (patients) of {target} are trained on too, for example {shared[0]!r}. Leave them "
            f"out of {spec.dataset}, or validate on others."
        )
    return source, target.split


def trained_images_of(spec: RunSpec, data: NucleiDataModule) -> set[Path | str]:
    """Return the files of all images that a run is trained on or chooses its checkpoint and parameters with.

    Tiles of whole slides are parts of images that other datasets may hold: of these the patients are returned.
    """
    sources = [(data, spec.split), *data.also, *([data.validation_set] if data.validation_set else [])]
    return {
        record.group if source.card.annotation == "none" else record.image
        for source, split in sources
        for record in source.select(split)
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
