"""`RunSpec`: what a run is, and the name that follows from it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmark.registry import DATASETS, METHODS, dataset_class
from models.recipe import Recipe
from postproc.errors import ConfigError, unknown_name

PROTOCOLS = ("strict", "paper")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
FORMAT = 1
"""Version of the files in a run directory."""


@dataclass(frozen=True)
class Overrides:
    """What a run trains differently from the method's recipe; None keeps the recipe's value.

    Attributes:
        crop: Side of the training crops in px.
        batch_size: Crops per optimiser step (per GPU).
        lr: Learning rate at the start of each phase.
        epochs: Passes over the training images, over all phases.
        steps: Optimiser steps, over all phases; instead of `epochs`.
        schedule: Learning-rate schedule, ``constant`` or ``cosine``.
        augment: Augmentation policy.
        crops_per_image: Crops drawn from each image in an epoch.
        max_minutes: Training stops after that many minutes; a cosine is stretched over them.
    """

    crop: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    epochs: int | None = None
    steps: int | None = None
    schedule: str | None = None
    augment: str | None = None
    crops_per_image: int | None = None
    max_minutes: float | None = None

    def __post_init__(self) -> None:
        """Check that every number is positive.

        Raises:
            ConfigError: If one is not.
        """
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, int | float) and value <= 0:
                raise ConfigError(f"{name} must be positive, not {value}")

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Overrides:
        """Read overrides by name.

        Raises:
            ConfigError: If a name is unknown or a number not positive.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        for name in content:
            if name not in known:
                raise unknown_name("override", name, known)
        return cls(**content)

    def applied_to(self, recipe: Recipe) -> Recipe:
        """Return a recipe with the overrides that are set; `max_minutes` is no part of a recipe."""
        given = self.given()
        given.pop("max_minutes", None)
        return recipe.override(**given)

    def given(self) -> dict[str, Any]:
        """Return the overrides that are set."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclass(frozen=True)
class RunSpec:
    """One training: a method on the training images of a dataset, under a protocol, with a seed.

    Attributes:
        method: Registry name of the method.
        dataset: Registry name of the training set.
        split: Split to train on.
        protocol: ``strict`` keeps validation images and chooses checkpoint and post-processing on them; ``paper``
            trains on everything, keeps the last checkpoint and the paper's post-processing parameters.
        seed: Seed of initialisation, crops and augmentation.
        precision: Lightning precision; ``auto`` = the fastest mixed precision of the hardware.
        options: Constructor arguments of the method that differ from the paper's.
        overrides: Recipe settings that differ from the paper's.
        also: Further training sets, each ``dataset.split``, trained on together with the first.
    """

    method: str
    dataset: str
    split: str = "train"
    protocol: str = "paper"
    seed: int = 0
    precision: str = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)
    overrides: Overrides = field(default_factory=Overrides)
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check names.

        Raises:
            ConfigError: If a name is unknown.
        """
        for kind, name, choices in (
            ("method", self.method, METHODS),
            ("dataset", self.dataset, DATASETS),
            ("protocol", self.protocol, PROTOCOLS),
            ("precision", self.precision, PRECISIONS),
        ):
            if name not in choices:
                raise unknown_name(kind, name, choices)
        if self.seed < 0:
            raise ConfigError(f"seed must be 0 or more, not {self.seed}")
        for text in self.also:
            Target.parse(text, "train")

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as JSON types, without overrides and further training sets that are not set."""
        content = dataclasses.asdict(dataclasses.replace(self, options=dict(sorted(self.options.items()))))
        content["overrides"] = self.overrides.given()
        also = content.pop("also")
        return content | ({"also": list(also)} if also else {})

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> RunSpec:
        """Read what `to_dict` wrote.

        Raises:
            ConfigError: If a key is unknown.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        for name in content:
            if name not in known:
                raise unknown_name("key of a run", name, known)
        given = dict(content)
        given["overrides"] = Overrides.read(given.get("overrides", {}))
        given["also"] = tuple(given.get("also", ()))
        return cls(**given)

    @property
    def training_sets(self) -> tuple[Target, ...]:
        """Every training set with its split, the one that gives types and magnification first."""
        return (Target(self.dataset, self.split), *(Target.parse(text, "train") for text in self.also))

    @property
    def run_id(self) -> str:
        """Folder of the run below the runs folder: method / training set / protocol, seed and hash of the spec."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        names = [t.dataset if t.split == "train" else str(t) for t in self.training_sets]
        train = "+".join(names).replace(":", "-").replace(",", "+")
        return f"{self.method}/{train}/{self.protocol}-s{self.seed}-{digest}"


@dataclass(frozen=True)
class Target:
    """A set of images to evaluate on.

    Attributes:
        dataset: Registry name.
        split: Split of the dataset.
    """

    dataset: str
    split: str = "test"

    @classmethod
    def parse(cls, text: str, default: str = "test") -> Target:
        """Read ``dataset.split``, or ``dataset``: its split `default`, or all images where it has none of that name.

        Raises:
            ConfigError: If the dataset is unknown.
        """
        dataset, _, split = text.partition(".")
        if dataset not in DATASETS:
            raise unknown_name("dataset", dataset, DATASETS)
        if not split:
            known = dataset_class(dataset).card.images
            split = default if any(name.partition("_")[0] == default for name in known) else "all"
        return cls(dataset, split)

    def __str__(self) -> str:
        return f"{self.dataset}.{self.split}"
