"""How long a run may train, judged from stored runs of the same method."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from benchmark.environment import hardware
from benchmark.registry import dataset_class, method_class
from benchmark.spec import RunSpec
from benchmark.store import read_json
from datamodules.splits import belongs
from models.recipe import Recipe


def estimated_minutes(spec: RunSpec, runs: Path) -> float | None:
    """Estimate the minutes of training.

    The time per step is the median over stored runs of the method on this hardware with the same options, crop and
    batch size. ``max_minutes`` bounds the estimate.

    Args:
        spec: The run.
        runs: Folder of all runs.

    Returns:
        Minutes; None where neither a stored run nor ``max_minutes`` tells.
    """
    kind = method_class(spec.method)
    if not kind.card.trained:
        return 0.0
    limit = spec.overrides.max_minutes
    # options that change the recipe are not seen: the method is not built
    steps = planned_steps(spec, spec.overrides.applied_to(kind.recipe))
    rates: list[float] = [
        record["training"]["minutes"] / record["training"]["steps"]
        for record in map(read_json, sorted((runs / spec.method).glob("*/*/record.json")))
        if _alike(record, spec)
    ]
    if not rates:
        return limit
    minutes = steps * median(rates)
    return minutes if limit is None else min(minutes, limit)


def planned_steps(spec: RunSpec, recipe: Recipe) -> int:
    """Return the optimiser steps of a run, from its recipe and the committed splits of its training sets."""
    images = sum(_images(target.dataset, target.split, spec.protocol) for target in spec.training_sets)
    total = 0
    for phase in recipe.phases:
        per_epoch = max(1, images * recipe.crops_per_image // phase.batch_size)
        total += phase.total_steps(per_epoch)
    return total


def _images(dataset: str, split: str, protocol: str) -> int:
    strict = protocol == "strict"
    rows = dataset_class(dataset).splits().values()
    return sum(belongs(row, split) and not (strict and row.validation) for row in rows)


def _alike(record: dict[str, Any], spec: RunSpec) -> bool:
    training, given = record["training"], spec.overrides.given()
    stored = record.get("overrides", {})
    return (
        bool(training.get("steps"))
        and training.get("hardware") == hardware()
        and record.get("options", {}) == dict(spec.options)
        and all(stored.get(key) == given.get(key) for key in ("crop", "batch_size"))
    )
