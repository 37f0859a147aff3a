"""What a dashboard is told of a run: configuration, tags, figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from benchmark.host.environment import environment
from benchmark.results.spec import RunSpec, Target
from models.base.recipe import Recipe

if TYPE_CHECKING:
    from datamodules.base import NucleiDataModule
    from models.base.method import NucleiMethod


def configuration(spec: RunSpec, method: NucleiMethod, data: NucleiDataModule) -> dict[str, Any]:
    """Return the spec with everything that follows from it: recipe, facts of both cards, environment; JSON types."""
    card, source = method.card, data.card
    return {
        **spec.to_dict(),
        "run_id": spec.run_id,
        "recipe": _recipe(spec.overrides.applied_to(method.recipe)) if card.trained else None,
        "card": {
            "title": card.title,
            "variants": [variant.title for variant in card.variants],
            "paper": card.paper,
            "url": card.url,
            "tasks": list(card.tasks),
            "needs": card.needs,
            "trained": card.trained,
        },
        "data": {
            "title": source.title,
            "images": dict(source.images),
            "nuclei": source.nuclei,
            "types": list(source.types),
            "magnification": source.magnification,
            "mpp": source.mpp,
            "annotation": source.annotation,
            "licence": source.licence,
        },
        "environment": environment(),
    }


def _recipe(recipe: Recipe) -> dict[str, Any]:
    content = dataclasses.asdict(recipe)
    for phase, stored in zip(recipe.phases, content["phases"], strict=True):
        stored["schedule"] = repr(phase.schedule)  # as a mapping it would lose its name
        stored["frozen"] = list(phase.frozen)
    content["phases"] = list(content["phases"])
    return content


def tags(spec: RunSpec, method: NucleiMethod) -> list[str]:
    """Return method, training sets and protocol, each once."""
    sets = [target.dataset for target in spec.training_sets] if method.card.trained else []
    return list(dict.fromkeys([spec.method, *sets, spec.protocol]))


def figures(target: Target, variant: str, default: str, summary: Mapping[str, float]) -> dict[str, float]:
    """Name the scores of an evaluation so that runs of different methods share columns and charts.

    ``kumar.test/aji`` is the score of a method's first variant, ``kumar.test/<variant>/aji`` that of a further one.
    """
    prefix = str(target) if variant == default else f"{target}/{variant}"
    return {f"{prefix}/{name}": value for name, value in summary.items()}


def fitted(stored: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    """Return the chosen post-processing parameters per variant, and the best validation score of each, if any.

    Args:
        stored: Content of ``params.json``.
    """
    chosen = {variant: dict(entry["params"]) for variant, entry in stored.items()}
    best = {
        f"validation/{variant}/score": max(float(trial["score"]) for trial in entry["trials"])
        for variant, entry in stored.items()
        if entry["trials"]
    }
    return chosen, best
