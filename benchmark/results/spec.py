"""`RunSpec`: what a run is, and the name that follows from it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pydantic import ConfigDict

from benchmark.registry import DATASETS, METHODS, dataset_class
from datamodules.reading.schema import LARGEST_SEED, STRICT, Integer, Name, Number, Text, check
from datamodules.reading.splits import belongs
from models.base.recipe import SCHEDULES, Recipe
from postproc.errors import ConfigError, unknown_name

PROTOCOLS = ("strict", "paper")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
BALANCES = ("crops", "loss", "both")
LOSS = "loss"
MONITORS = (LOSS, "dice", "aji", "pq", "f1")
"""What may choose the checkpoint. The loss is the default: DIST and KiNet stop early by their validation error, it is
computed after every epoch, and it does not depend on post-processing parameters that are tuned afterwards."""
FORMAT = 1
"""Version of the files in a run directory."""


@dataclass(frozen=True)
class Overrides:
    """What a run trains differently from the method's recipe; None keeps the recipe's value.

    The fields are the options of ``nucbench run`` and the settings of sweep files; what follows is their help.

    Attributes:
        crop: Side of the training crops, px.
        batch_size: Crops per step and GPU.
        lr: Learning rate at the start of each phase.
        epochs: Epochs in place of the recipe's length, over all phases.
        steps: Optimiser steps in place of the recipe's length, over all phases.
        schedule: Learning-rate schedule in place of the recipe's.
        augment: Augmentation policy in place of the recipe's.
        crops_per_image: Crops drawn from each image in an epoch.
        max_minutes: Stop training after that many minutes; a cosine schedule is stretched over them.
        label_share: Share of the training images whose nucleus labels are used, for example 0.05; the others keep
            their regions alone. Datasets of points only.
        balance: For data whose types are unevenly frequent. crops: each training crop lies around a nucleus of a type
            drawn uniformly, not anywhere. loss: in the cross-entropy over types, each type weighs inversely to its
            share of the annotated px. both: the two together.
        ema: Decay of the moving average of the weights in place of the recipe's, for example 0.999; 0 = no average.
        monitor: With protocol strict, what chooses the checkpoint: the validation loss, or a score of whole validation
            images, decoded and scored up to 40 times in a phase. Default: loss.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    crop: Integer | None = None
    batch_size: Integer | None = None
    lr: Number | None = None
    epochs: Integer | None = None
    steps: Integer | None = None
    schedule: Name | None = field(default=None, metadata={"choices": tuple(SCHEDULES)})
    augment: Name | None = None
    crops_per_image: Integer | None = None
    max_minutes: Number | None = None
    label_share: Number | None = None
    balance: Name | None = field(default=None, metadata={"choices": BALANCES})
    ema: Number | None = None
    monitor: Name | None = field(default=None, metadata={"choices": MONITORS})

    def __post_init__(self) -> None:
        """Check that every number is positive, and the share of labels at most 1.

        Raises:
            ConfigError: If one is not, or a name is none of its choices.
        """
        for each in dataclasses.fields(self):
            value, known = getattr(self, each.name), each.metadata.get("choices")
            if known and value is not None and value not in known:
                raise unknown_name(each.name, value, known)
        if self.augment is not None:
            from datamodules.drawing.augment import build_policy  # imports torch, which tables do without

            build_policy(self.augment)
        if self.label_share is not None and self.label_share > 1:
            raise ConfigError(f"label_share is {self.label_share}; give a share of the images, 0.05 for 5 %")
        if self.label_share == 1:
            object.__setattr__(self, "label_share", None)  # all labels, as in a run that says nothing of them
        if self.monitor == LOSS:
            object.__setattr__(self, "monitor", None)  # as in a run that says nothing of it
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ConfigError(f"ema must be at least 0 and below 1, for example 0.999, not {self.ema}")
        for name, value in dataclasses.asdict(self).items():
            if name == "ema":
                continue
            if isinstance(value, int | float) and not (value > 0 and math.isfinite(value)):
                raise ConfigError(f"{name} must be a positive number, not {value}")

    @classmethod
    def read(cls, content: Mapping[str, Any], place: str = "overrides") -> Overrides:
        """Read overrides by name.

        Args:
            content: Name -> value.
            place: Where they were read, for messages.

        Raises:
            ConfigError: If a name is unknown, or a value of another kind or not positive.
        """
        return check(cls, content, place, ConfigError)

    def applied_to(self, recipe: Recipe) -> Recipe:
        """Return a recipe with the overrides that are set, but for those that are no part of one."""
        given = self.given()
        for name in ("max_minutes", "label_share", "balance", "monitor"):
            given.pop(name, None)
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
        validate: What protocol ``strict`` validates on, ``dataset.split`` (or ``dataset``: its ``validation``); empty =
            the validation images of the training set.
    """

    method: Name
    dataset: Name
    split: Name = "train"
    protocol: Name = "paper"
    seed: Integer = 0
    precision: Name = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)
    overrides: Overrides = field(default_factory=Overrides)
    also: tuple[Name, ...] = ()
    validate: Text = ""

    def __post_init__(self) -> None:
        """Check names.

        Raises:
            ConfigError: If a name is unknown, or validation images are named under protocol ``paper``.
        """
        for kind, name, choices in (
            ("method", self.method, METHODS),
            ("dataset", self.dataset, DATASETS),
            ("protocol", self.protocol, PROTOCOLS),
            ("precision", self.precision, PRECISIONS),
        ):
            if name not in choices:
                raise unknown_name(kind, name, choices)
        if not 0 <= self.seed <= LARGEST_SEED:
            raise ConfigError(f"seed must be 0 to {LARGEST_SEED}, not {self.seed}")
        if self.validation_set is not None and self.protocol != "strict":
            raise ConfigError(f"validate={self.validate}: protocol paper chooses nothing; use --protocol strict")
        if self.overrides.monitor is not None and self.protocol != "strict":
            raise ConfigError(
                f"monitor={self.overrides.monitor}: protocol paper keeps the last checkpoint; use --protocol strict"
            )
        training_sets = self.training_sets
        if self.overrides.label_share is not None:
            for target in training_sets:
                if dataset_class(target.dataset).card.annotation != "points":
                    raise ConfigError(
                        f"label_share is for images of points, {target.dataset} has outlines; train on images of it "
                        "with --train-split instead"
                    )

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as JSON types, without overrides and further sets of images that are not set."""
        content = dataclasses.asdict(dataclasses.replace(self, options=dict(sorted(self.options.items()))))
        content["overrides"] = self.overrides.given()
        also, validate = content.pop("also"), content.pop("validate")
        return content | ({"also": list(also)} if also else {}) | ({"validate": validate} if validate else {})

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], place: str = "the spec of a run") -> RunSpec:
        """Read the output of `to_dict`.

        Args:
            content: The output.
            place: Where it was read, for messages.

        Raises:
            ConfigError: If a key is missing or unknown, or a value is wrong.
        """
        overrides = content.get("overrides", {})
        if isinstance(overrides, Mapping):  # names similar to an unknown one are known there
            content = {**content, "overrides": Overrides.read(overrides, f"{place}: overrides")}
        return check(cls, content, place, ConfigError)

    @property
    def training_sets(self) -> tuple[Target, ...]:
        """Every training set with its split, the one that gives types and magnification first."""
        return (Target(self.dataset, self.split), *(Target.parse(text, "train") for text in self.also))

    @property
    def validation_set(self) -> Target | None:
        """The other dataset that protocol ``strict`` validates on, if there is one."""
        if not self.validate:
            return None
        dataset, _, split = self.validate.partition(".")
        return Target.parse(f"{dataset}.{split or 'validation'}")

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

        A dataset whose card states no images is the user's own and has the split.

        Raises:
            ConfigError: If the dataset is unknown.
        """
        dataset, _, split = text.partition(".")
        if dataset not in DATASETS:
            raise unknown_name("dataset", dataset, DATASETS)
        if not split:
            known = dataset_class(dataset).card.images
            split = default if not known or any(name.partition("_")[0] == default for name in known) else "all"
        return cls(dataset, split)

    def check(self) -> None:
        """Refuse a split that the dataset does not have; one of a user's own set is known when it is read.

        Raises:
            ConfigError: If no image of the committed splits belongs to it.
        """
        kind = dataset_class(self.dataset)
        rows = list(kind.splits().values()) if kind.card.images else []
        named, _, groups = self.split.partition(":")
        if named in ("group", "except-group"):
            known = {row.group for row in rows}
            for group in groups.split(","):
                if rows and group not in known:
                    raise unknown_name(f"group of {self.dataset}", group, known)
        elif rows and not any(belongs(row, self.split) for row in rows):
            known = {row.split for row in rows} | {row.split.partition("_")[0] for row in rows}
            raise unknown_name(f"split of {self.dataset}", self.split, known | {"all", "fit", "validation"})

    def __str__(self) -> str:
        return f"{self.dataset}.{self.split}"
