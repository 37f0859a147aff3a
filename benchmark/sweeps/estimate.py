"""Estimate the length of a training: steps from its recipe, minutes from stored runs of the same method."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmark.data.presence import is_there
from benchmark.host.environment import hardware
from benchmark.host.files import read_json
from benchmark.options import check_options, option_defaults, weight_options
from benchmark.registry import dataset_class, method_class
from benchmark.results.spec import RunSpec
from benchmark.runs.train import task_of
from datamodules.reading.splits import Placed, belongs
from models.base.recipe import Recipe
from models.base.weights import NONE
from postproc.errors import DataError


@dataclass(frozen=True)
class Plan:
    """Planned length of a training.

    Attributes:
        steps: Maximum number of optimiser steps; None if it depends on a user dataset whose images are missing.
        epochs: Maximum number of passes over the training images; None if the recipe counts steps.
        early: What can end the training earlier; empty if nothing can.
    """

    steps: int | None
    epochs: int | None
    early: str = ""

    def text(self) -> str:
        """Return steps and epochs as a short text."""
        steps = "steps unknown" if self.steps is None else f"{self.steps:,} steps"
        parts = [f"{self.epochs:,} epochs" if self.epochs else "", f"at most: {self.early}" if self.early else ""]
        inside = ", ".join(part for part in parts if part)
        return steps + (f" ({inside})" if inside else "")


def plan(spec: RunSpec, data: Path | None = None) -> Plan:
    """Return the planned length of a training.

    Args:
        spec: The run.
        data: Folder with one subfolder per dataset. Images are counted in it if it contains the dataset, otherwise, or
            with None, in the committed splits.
    """
    if not method_class(spec.method).card.trained:
        return Plan(0, None)
    recipe = spec.overrides.applied_to(recipe_of(spec))
    epochs = [phase.epochs for phase in recipe.phases]
    reasons = []
    if spec.overrides.max_minutes is not None:
        reasons.append(f"{spec.overrides.max_minutes:g} min")
    if spec.protocol == "strict" and recipe.patience is not None:
        reasons.append(f"{recipe.patience} epochs without a better validation")
    total = None if None in epochs else sum(each or 0 for each in epochs)
    return Plan(planned_steps(spec, recipe, data), total, " or ".join(reasons))


def recipe_of(spec: RunSpec) -> Recipe:
    """Return the recipe of a method with the options of a run.

    Options can change the recipe, so the method is built. If that would download or read weights, the recipe of the
    class is returned instead.
    """
    kind = method_class(spec.method)
    options = check_options(kind, spec.options)
    starting = {**option_defaults(kind), **options}
    reads = any(starting[name] != NONE for name in weight_options(kind))
    return kind.recipe if reads or not options else kind(task_of(spec), **options).recipe


def estimated_minutes(spec: RunSpec, runs: Path, data: Path | None = None) -> float | None:
    """Estimate the minutes of training.

    The time per step is the median over stored runs of the method on this hardware with the same options, crop and
    batch size. ``max_minutes`` bounds the estimate.

    Args:
        spec: The run.
        runs: Folder of all runs.
        data: As for `plan`.

    Returns:
        Minutes; None without such a run and without ``max_minutes``.
    """
    kind = method_class(spec.method)
    if not kind.card.trained:
        return 0.0
    limit = spec.overrides.max_minutes
    steps = plan(spec, data).steps
    rates: list[float] = []
    for path in sorted((runs / spec.method).glob("*/*/record.json")):
        with suppress(DataError, TypeError, KeyError, ZeroDivisionError, OverflowError):  # ignore damaged records
            record = read_json(path)
            if _alike(record, spec):
                rates.append(float(record["training"]["minutes"] / record["training"]["steps"]))
    if not rates or steps is None:
        return limit
    minutes = steps * median(rates)
    return minutes if limit is None else min(minutes, limit)


def planned_steps(spec: RunSpec, recipe: Recipe, data: Path | None = None) -> int | None:
    """Return the optimiser steps of a run.

    Args:
        spec: The run.
        recipe: Its recipe with overrides applied.
        data: As for `plan`.

    Returns:
        Steps; None if they depend on a user dataset whose images are missing.
    """
    counts = [count_images(target.dataset, target.split, spec.protocol, data) for target in spec.training_sets]
    total = 0
    for phase in recipe.phases:
        if phase.steps is None and None in counts:
            return None
        images = sum(count or 0 for count in counts)
        total += phase.total_steps(max(1, images * recipe.crops_per_image // phase.batch_size))
    return total


def count_images(dataset: str, split: str, protocol: str, data: Path | None) -> int | None:
    """Count the training images of a run in a split; None if unknown.

    Args:
        dataset: Registry name.
        split: Split to train on.
        protocol: Protocol; ``strict`` excludes the validation images.
        data: As for `plan`.
    """
    kind = dataset_class(dataset)
    records: Iterable[Placed] = ()
    if data is not None and is_there(data / dataset):
        try:
            records = kind(data / dataset).records
        except DataError:  # reported when the run starts
            records = ()
    placed = list(records) or list(kind.splits().values() if kind.card.images else ())
    if not placed:
        return None
    strict = protocol == "strict"
    return sum(belongs(row, split) and not (strict and row.validation) for row in placed)


def _alike(record: dict[str, Any], spec: RunSpec) -> bool:
    training, given = record["training"], spec.overrides.given()
    stored = record.get("overrides", {})
    return (
        bool(training.get("steps"))
        and training.get("hardware") == hardware()
        and record.get("options", {}) == dict(spec.options)
        and all(stored.get(key) == given.get(key) for key in ("crop", "batch_size"))
    )
