"""One-sided Wilcoxon signed-rank test with its exact distribution, and Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class SignedRank:
    """Result of the test that one method scores higher than another.

    Attributes:
        n: Number of images in which both have a value.
        zeros: Number of these in which both have the same value; the test excludes them.
        statistic: Sum of the ranks of the images in which the first is higher; NaN if there is no difference.
        p: Probability of a sum at least as large if neither is better; 1 if there is no difference.
    """

    n: int
    zeros: int
    statistic: float
    p: float


def signed_rank(first: ArrayLike, second: ArrayLike) -> SignedRank:
    """Test whether `first` is higher than `second`, image by image (Naylor 2018, section VI-E).

    Images in which either lacks a value are left out, then those without a difference (Wilcoxon's own treatment).
    Equal absolute differences share the mean of their ranks. The p-value is exact for any number of images, also
    with ties: all assignments of signs to the observed ranks are counted.

    Args:
        first: (N,) scores, NaN where undefined.
        second: (N,) scores of the same images in the same order.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    difference = (a - b)[np.isfinite(a) & np.isfinite(b)]
    n, zeros = len(difference), int((difference == 0).sum())
    # Mathematically equal differences (0.3 - 0.2, 0.4 - 0.3) must share a rank despite rounding errors.
    difference = np.round(difference[difference != 0], 12)
    if not len(difference):
        return SignedRank(n, zeros, float("nan"), 1.0)
    doubled = np.rint(2 * pd.Series(np.abs(difference)).rank().to_numpy()).astype(int)  # half ranks become integers
    observed = int(doubled[difference > 0].sum())
    return SignedRank(n, zeros, observed / 2, float(min(1.0, _distribution(doubled)[observed:].sum())))


def _distribution(ranks: NDArray[np.int_]) -> NDArray[np.float64]:
    """Return the probability of each sum of ranks, if each rank is included with probability 1/2."""
    probability = np.zeros(int(ranks.sum()) + 1)
    probability[0] = 1.0
    for rank in ranks:
        moved = np.zeros_like(probability)
        moved[rank:] = probability[: len(probability) - rank]
        probability = (probability + moved) / 2
    return probability


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values corrected for the number of tests (Holm 1979), in the given order."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    corrected = [0.0] * len(p)
    largest = 0.0
    for done, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - done) * p[i]))
        corrected[i] = largest
    return corrected


__all__ = ["SignedRank", "holm", "signed_rank"]
