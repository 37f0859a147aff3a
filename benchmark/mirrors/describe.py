"""Description of a run for dashboards: configuration, tags, scores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from benchmark.host.environment import environment
from benchmark.results.spec import RunSpec, Target
from models.base.recipe import Recipe

if TYPE_CHECKING:
    from datamodules.base import NucleiDataModule
    from models.base.method import NucleiMethod


def configuration(spec: RunSpec, method: NucleiMethod, data: NucleiDataModule) -> dict[str, Any]:
    """Return the spec, the recipe, the cards of method and data, and the environment, as JSON types."""
    content = {
        **spec.to_dict(),
        "run_id": spec.run_id,
        "recipe": _recipe(spec.overrides.applied_to(method.recipe)) if method.card.trained else None,
        "card": {"title": method.card.title, **asdict(method.card)},
        "data": asdict(data.card),
        "environment": environment(),
    }
    return json.loads(json.dumps(content, default=str))  # type: ignore[no-any-return]  # an object


def _recipe(recipe: Recipe) -> dict[str, Any]:
    content = asdict(recipe)
    for phase, stored in zip(recipe.phases, content["phases"], strict=True):
        stored["schedule"] = repr(phase.schedule)  # a mapping would omit its name
    return content


def tags(spec: RunSpec, method: NucleiMethod) -> list[str]:
    """Return method, training sets and protocol, without repetitions."""
    sets = [target.dataset for target in spec.training_sets] if method.card.trained else []
    return list(dict.fromkeys([spec.method, *sets, spec.protocol]))


def figures(target: Target, variant: str, default: str, summary: Mapping[str, float]) -> dict[str, float]:
    """Name the scores of an evaluation so that runs of different methods share columns and charts.

    ``kumar.test/aji`` is the score of the first variant of a method, ``kumar.test/<variant>/aji`` that of another one.
    """
    prefix = str(target) if variant == default else f"{target}/{variant}"
    return {f"{prefix}/{name}": value for name, value in summary.items()}


def fitted(stored: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    """Return the chosen post-processing parameters per variant, and the best validation score of each, if any.

    Args:
        stored: Content of ``params.json``.
    """
    chosen = {variant: dict(entry["params"]) for variant, entry in stored.items()}
    scores = {name: [float(trial["score"]) for trial in entry["trials"]] for name, entry in stored.items()}
    return chosen, {f"validation/{name}/score": max(values) for name, values in scores.items() if values}
