"""Type balancing for any method: sampling of training crops and weights of types in the loss.

Neither is part of a paper's recipe; a run enables them with ``balance`` (`benchmark.results.spec.Overrides`).

``crops``: each training crop is drawn from a window around a nucleus. First its type is drawn, with equal probability
for each type in the training set, then a nucleus of that type. The window is a quarter larger than the crop, so the
nucleus is within an eighth of the crop's side from the centre, except near image borders.

``loss``: in the cross-entropy over types, each type is weighted inversely to its share of the typed pixels in the
training set (of the nuclei for point annotation). The total weight of nuclear pixels is unchanged and background has
weight 1: the balance shifts between types, not between nuclei and background.
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
"""The window is larger than the crop by 1 / SPARE of its side."""


def check_balance(spec: RunSpec, method: NucleiMethod) -> None:
    """Reject a balance that would have no effect.

    Raises:
        ConfigError: If the training data has no types, or the method does not use them.
    """
    balance = spec.overrides.balance
    if balance is None:
        return
    if not method.task.types:
        raise ConfigError(f"balance={balance}: {spec.dataset} has no types; leave it out")
    if not method.card.trained or method.card.needs == "none":
        raise ConfigError(f"balance={balance}: {spec.method} does not use annotation; leave it out")
    if balance != "crops" and not method.weighs_types:
        raise ConfigError(
            f"balance={balance}: the loss of {spec.method} with these options has no cross-entropy over types; use "
            "balance=crops, or the option classify=true if the method has one"
        )


def window_side(spec: RunSpec, recipe: Recipe) -> int | None:
    """Return the side in pixels of the windows from which crops are drawn; None = whole images."""
    return recipe.crop + recipe.crop // SPARE if spec.overrides.balance in ("crops", "both") else None


def weighs_loss(spec: RunSpec) -> bool:
    """Return whether the loss weights types."""
    return spec.overrides.balance in ("loss", "both")


def type_weights(samples: Iterable[Sample], types: int) -> NDArray[np.float32]:
    """Return the weights of background and types in the cross-entropy over types.

    Args:
        samples: The training images.
        types: Number of types T.

    Returns:
        float32 (T + 1,): 1 for background, 1 / (K s) for a type with share s, where K types occur, and 1 for types that
        do not occur.
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
