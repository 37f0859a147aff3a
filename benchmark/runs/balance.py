"""What evens out how often types are learnt, for any method: where crops are drawn, and what types weigh in the loss.

Neither is part of any paper's recipe; a run asks for them with ``balance`` (`benchmark.results.spec.Overrides`).

``crops``: each training item is drawn from a window around a nucleus. Its type is drawn first, each type of the
training set being equally likely, then the nucleus among all of that type; the window is a quarter larger than the
crop, so that the nucleus lies within an eighth of the crop's side from the middle, unless the image ends there.

``loss``: in the cross-entropy over types, each type weighs inversely to its share of the typed px of the training set
(of the nuclei, where these are points). The weights are such that the nuclear px weigh as much as before in all, and
background weighs 1: the balance shifts between types, not between nuclei and background.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmark.results.spec import RunSpec
from datamodules.reading.sample import Sample
from models.base.recipe import Recipe
from postproc.errors import ConfigError

if TYPE_CHECKING:
    from models.base.method import NucleiMethod

SPARE = 4
"""A window is larger than the crop by one part in this many."""


def check_balance(spec: RunSpec, method: NucleiMethod) -> None:
    """Refuse a balance that would do nothing.

    Raises:
        ConfigError: If the training data has no types, or the method does not learn from them.
    """
    balance = spec.overrides.balance
    if balance is None:
        return
    if not method.task.types:
        raise ConfigError(f"balance={balance}: {spec.dataset} has no types; leave it out")
    if not method.card.trained or method.card.needs == "none":
        raise ConfigError(f"balance={balance}: {spec.method} learns from no annotation; leave it out")
    if balance != "crops" and not method.weighs_types:
        raise ConfigError(
            f"balance={balance}: the loss of {spec.method} with these options has no cross-entropy over types; use "
            "balance=crops, or the option classify=true where it has one"
        )


def window_side(spec: RunSpec, recipe: Recipe) -> int | None:
    """Return the side in px of the windows that crops are drawn from; None = crops are drawn from whole images."""
    return recipe.crop + recipe.crop // SPARE if spec.overrides.balance in ("crops", "both") else None


def weighs_loss(spec: RunSpec) -> bool:
    """Tell whether types are weighed in the loss."""
    return spec.overrides.balance in ("loss", "both")


def type_weights(samples: Iterable[Sample], types: int) -> NDArray[np.float32]:
    """Return what background and types weigh in the cross-entropy over types.

    Args:
        samples: The training images.
        types: Number of types T.

    Returns:
        float32 (T + 1,): 1 for background, and 1 / (K s) for a type that makes up the share s, where K types occur; 1
        for one that does not occur.
    """
    counts = np.zeros(types + 1)
    for sample in samples:
        truth = sample.truth
        if truth.types is None:
            continue
        sizes = np.ones(truth.count) if truth.labels is None else np.bincount(truth.labels.ravel())[1:]
        counts += np.bincount(truth.types, weights=sizes, minlength=types + 1)[: types + 1]
    occurs = counts > 0
    occurs[0] = False
    weights = np.ones(types + 1, np.float32)
    weights[occurs] = counts[occurs].sum() / (occurs.sum() * counts[occurs])
    return weights


__all__ = ["check_balance", "type_weights", "weighs_loss", "window_side"]
