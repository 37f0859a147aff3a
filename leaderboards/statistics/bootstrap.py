"""Bootstrap interval of a mean."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

RESAMPLES = 10_000
SEED = 0


def mean_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Return the bias-corrected and accelerated (BCa) bootstrap interval of the mean (Efron 1987).

    The images are drawn with replacement `RESAMPLES` times with a fixed seed, so that equal scores give equal
    intervals.

    Args:
        values: (N,) scores; NaN is left out.
        level: Coverage.

    Returns:
        Both ends; NaN if fewer than two values remain.
    """
    found = np.asarray(values, dtype=float)
    found = np.sort(found[np.isfinite(found)])  # independent of the order of the images
    if len(found) < 2:
        return float("nan"), float("nan")
    mean = found.mean()
    if np.ptp(found) == 0:
        return float(mean), float(mean)
    drawn = np.random.default_rng(SEED).integers(0, len(found), (RESAMPLES, len(found)))
    means = found[drawn].mean(axis=1)
    bias = ndtri(((means < mean).sum() + (means == mean).sum() / 2) / RESAMPLES)
    # A jackknife mean deviates from the mean of all by (x - mean) / (n - 1), so the skewness needs only x.
    centred = mean - (found.sum() - found) / (len(found) - 1)
    acceleration = (centred**3).sum() / (6 * (centred**2).sum() ** 1.5)
    tails = np.array([1 - level, 1 + level]) / 2
    z = bias + ndtri(tails)
    low, high = np.quantile(means, ndtr(bias + z / (1 - acceleration * z)))
    return float(low), float(high)


__all__ = ["RESAMPLES", "SEED", "mean_interval"]
