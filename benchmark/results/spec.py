"""`RunSpec`: the definition of a run, and the name derived from it."""

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
from datamodules.reading.schema import LARGEST_SEED, STRICT, Flag, Integer, Name, Number, Text, check
from datamodules.reading.splits import belongs
from models.base.recipe import SCHEDULES, Recipe
from postproc.errors import ConfigError, unknown_name

PROTOCOLS = ("strict", "paper")
EXTERNAL = "external"
"""Protocol of weights that were trained elsewhere, in an unknown way."""
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
BALANCES = ("crops", "loss", "both")
LOSS = "loss"
MONITORS = (LOSS, "dice", "aji", "pq", "f1")
"""What can choose the checkpoint. The loss is the default: DIST and KiNet stop early by the validation error, it is
computed after every epoch, and it does not depend on post-processing parameters, which are tuned later."""
FORMAT = 1
"""Version of the files in a run directory."""


@dataclass(frozen=True)
class Overrides:
    """Changes to the recipe of the method; None keeps the value of the recipe.

    The fields are options of ``nucbench run`` and settings of sweep files. Their descriptions below are the help texts.

    Attributes:
        crop: Side of the training crops in pixels.
        batch_size: Crops per step and GPU.
        lr: Learning rate at the start of each phase.
        epochs: Length of the training in epochs, over all phases.
        steps: Length of the training in optimiser steps, over all phases.
        schedule: Learning-rate schedule.
        augment: Augmentation policy.
        crops_per_image: Crops drawn from each image per epoch.
        max_minutes: Stop training after this many minutes; a cosine schedule is stretched over them.
        label_share: Share of the training images whose nucleus labels are used, for example 0.05; the others keep
            only their regions. Only for point datasets.
        balance: How to balance types of uneven frequency. crops: centre each training crop on a nucleus of a
            uniformly drawn type. loss: weight each type in the cross-entropy by the inverse of its share of the
            annotated pixels. both: crops and loss.
        ema: Decay of the moving average of the weights, for example 0.999; 0 = no average.
        monitor: What chooses the checkpoint under protocol strict: the validation loss, or a score on whole validation
            images, computed up to 40 times per phase. Default: loss.
        tta: Average the network's maps over the eight mirrored and rotated versions of each image, in tuning and
            prediction; takes eight times as long. Weights of the same run without this option are reused.
        start_from: Trained model to start from instead of initial weights: run directory, exported folder, or name of
            a shipped model. Its options are taken over unless given; heads of other nucleus types start anew.
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
    tta: Flag = False
    start_from: Name | None = None

    def __post_init__(self) -> None:
        """Check that numbers are positive, the share of labels is at most 1, and names are among their choices.

        Raises:
            ConfigError: If a value is invalid.
        """
        for each in dataclasses.fields(self):
            value, known = getattr(self, each.name), each.metadata.get("choices")
            if known and value is not None and value not in known:
                raise unknown_name(each.name, value, known)
        if self.augment is not None:
            from datamodules.drawing.augment import build_policy  # imports torch, which tables do not need

            build_policy(self.augment)
        if self.label_share is not None and self.label_share > 1:
            raise ConfigError(f"label_share is {self.label_share}; give a share of the images, 0.05 for 5 %")
        if self.label_share == 1:
            object.__setattr__(self, "label_share", None)  # all labels: the same run as without the option
        if self.monitor == LOSS:
            object.__setattr__(self, "monitor", None)  # the default: the same run as without the option
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ConfigError(f"ema must be at least 0 and below 1, for example 0.999, not {self.ema}")
        for name, value in dataclasses.asdict(self).items():
            if name in ("ema", "tta"):
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
            ConfigError: If a name is unknown, or a value has a wrong type or is invalid.
        """
        return check(cls, content, place, ConfigError)

    def applied_to(self, recipe: Recipe) -> Recipe:
        """Return a recipe with the overrides that are set and concern the recipe."""
        given = self.given()
        for name in ("max_minutes", "label_share", "balance", "monitor", "tta", "start_from"):
            given.pop(name, None)
        return recipe.override(**given)

    def given(self) -> dict[str, Any]:
        """Return the overrides that are set."""
        settings = dataclasses.asdict(self).items()
        return {name: value for name, value in settings if value is not None and value is not False}


@dataclass(frozen=True)
class RunSpec:
    """One training: a method on the training images of a dataset, under a protocol, with a seed.

    Attributes:
        method: Registry name of the method.
        dataset: Registry name of the training set.
        split: Split to train on.
        protocol: ``strict`` holds out validation images and chooses the checkpoint and post-processing parameters on
            them; ``paper`` trains on all images, and keeps the last checkpoint and the parameters of the paper.
        seed: Seed of initialisation, crops and augmentation.
        precision: Lightning precision; ``auto`` = the fastest mixed precision of the hardware.
        options: Constructor arguments of the method that differ from the paper's.
        overrides: Recipe settings that differ from the paper's.
        also: Further training sets, each ``dataset.split``, added to the first.
        validate: Validation set of protocol ``strict``, ``dataset.split`` (or ``dataset`` for its ``validation``);
            empty = the validation images of the training set.
        adopted: Digest of weights that were trained elsewhere (`benchmark.runs.adopt`), whose training set may be any;
            empty = trained here.
        parent: Name and hash of the model that ``overrides.start_from`` names, found when the spec is made; the options
            of this model are then among `options`. Empty = none.
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
    adopted: Text = ""
    parent: Text = ""

    def __post_init__(self) -> None:
        """Check names.

        Raises:
            ConfigError: If a name is unknown, validation images are named under protocol ``paper``, or the model to
                start from is missing or of another method.
        """
        for kind, name, choices in (
            ("method", self.method, METHODS),
            ("dataset", self.dataset, (*DATASETS, *([self.dataset] if self.adopted else []))),
            ("protocol", self.protocol, (*PROTOCOLS, *([EXTERNAL] if self.adopted else []))),
            ("precision", self.precision, PRECISIONS),
        ):
            if name not in choices:
                raise unknown_name(kind, name, choices)
        if not 0 <= self.seed <= LARGEST_SEED:
            raise ConfigError(f"seed must be 0 to {LARGEST_SEED}, not {self.seed}")
        if self.validation_set is not None and self.protocol != "strict":
            raise ConfigError(f"validate={self.validate}: protocol paper does not validate; use --protocol strict")
        if self.overrides.monitor is not None and self.protocol != "strict":
            raise ConfigError(
                f"monitor={self.overrides.monitor}: protocol paper keeps the last checkpoint; use --protocol strict"
            )
        if self.overrides.start_from is not None and not self.parent:
            from benchmark.results.parent import inherited_options  # it builds on this module

            parent, options = inherited_options(self.overrides.start_from, self.method, self.options)
            object.__setattr__(self, "parent", parent)
            object.__setattr__(self, "options", options)
        training_sets = self.training_sets
        if self.overrides.label_share is not None:
            for target in training_sets:
                if dataset_class(target.dataset).card.annotation != "points":
                    raise ConfigError(
                        f"label_share is only for point datasets, but {target.dataset} has outlines; choose images "
                        "with --train-split instead"
                    )

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as JSON types, without unset overrides and unset further datasets."""
        content = dataclasses.asdict(dataclasses.replace(self, options=dict(sorted(self.options.items()))))
        content["overrides"] = self.overrides.given()
        also = list(content.pop("also"))
        optional = {"also": also} | {name: content.pop(name) for name in ("validate", "adopted", "parent")}
        return content | {name: value for name, value in optional.items() if value}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], place: str = "the spec of a run") -> RunSpec:
        """Read the output of `to_dict`.

        Args:
            content: The output.
            place: Source of the content in messages.

        Raises:
            ConfigError: If a key is missing or unknown, or a value is wrong.
        """
        overrides = content.get("overrides", {})
        if isinstance(overrides, Mapping):  # `Overrides.read` can suggest similar names
            content = {**content, "overrides": Overrides.read(overrides, f"{place}: overrides")}
        return check(cls, content, place, ConfigError)

    @property
    def training_sets(self) -> tuple[Target, ...]:
        """All training sets with their splits; the first defines types and magnification."""
        return (Target(self.dataset, self.split), *(Target.parse(text, "train") for text in self.also))

    @property
    def validation_set(self) -> Target | None:
        """The other dataset that protocol ``strict`` validates on, or None."""
        if not self.validate:
            return None
        dataset, _, split = self.validate.partition(".")
        return Target.parse(f"{dataset}.{split or 'validation'}")

    @property
    def run_id(self) -> str:
        """Folder of the run in the runs folder: method / training set / protocol, seed and hash of the spec."""
        content = self.to_dict()
        content["overrides"].pop("start_from", None)  # a place; `parent` says which weights lie there
        text = json.dumps(content, sort_keys=True)
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
        """Read ``dataset.split``, or ``dataset``: its split `default`, or all images if it has no split of that name.

        User datasets, whose cards state no images, are assumed to have the split.

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
        """Check that the dataset has the split; those of user datasets are only known when the data are read.

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
