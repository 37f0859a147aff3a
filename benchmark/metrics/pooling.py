"""Summarise the stored scores of a set of images; imports neither torch nor numba."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.metrics.classification import GATED, classification_scores
from benchmark.metrics.detection import class_scores, curve_scores, detection_scores
from benchmark.metrics.instance import PanopticCounts, panoptic_scores
from benchmark.metrics.pixel import PixelCounts, dice, pixel_scores
from benchmark.metrics.typed import pooled_scores

POOLED = "_pooled"
"""Suffix of scores from counts summed over images; the score without the suffix is the mean over images."""


def summarise(scores: pd.DataFrame) -> dict[str, float]:
    """Summarise the per-image scores of one set.

    A score is the mean over the images in which it is defined, as in the papers (HoVer-Net IV-A). Classification scores
    (F_d, accuracy, F_c and their gated forms) are computed from counts summed over all images, as published. Further
    scores from summed counts follow with the suffix ``_pooled``.

    Args:
        scores: One row per image, columns as in `image.score_image`. Columns that are not numeric are ignored; a
            missing count of an image (a type that does not occur) is 0.

    Returns:
        ``images``; ``nan_images``, those without nuclei on both sides, which are excluded from all means; then the
        scores in the order of the columns; then the pooled scores.
    """
    return summarise_each(scores, np.zeros(len(scores), dtype=np.int64), 1)[0]


def summarise_each(scores: pd.DataFrame, sets: NDArray[np.int64], count: int) -> list[dict[str, float]]:
    """Summarise several sets like `summarise`, with a single pass through pandas.

    Args:
        scores: As for `summarise`, with the images of all sets. A count that no image of a set has is absent, not 0.
        sets: (N,), set of each row, 0 to `count` - 1.
        count: Number of sets.

    Returns:
        Summary of each set.
    """
    numbers = scores.select_dtypes("number")
    names = [str(name) for name in numbers.columns]
    order = np.argsort(sets, kind="stable")
    values = numbers.to_numpy(dtype=np.float64)[order]
    ends = np.cumsum(np.bincount(sets, minlength=count)).tolist()
    return [_summary(names, values[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def _summary(names: list[str], values: NDArray[np.float64]) -> dict[str, float]:
    present = ~np.isnan(values)
    known = present.sum(axis=0)
    sums = np.where(present, values, 0.0).sum(axis=0)
    with np.errstate(invalid="ignore"):
        means = sums / known
    counts: dict[str, float] = {}
    scores: dict[str, float] = {}
    for name, total, mean, images in zip(names, sums.tolist(), means.tolist(), known.tolist(), strict=True):
        if not name.startswith("n_"):
            scores[name] = mean
        elif images:
            counts[name] = total
    summary = {"images": float(len(values)), "nan_images": _empty_images(names, values)}
    summary |= scores | _classification(counts)
    for score, needed in _POOLED:
        if needed in counts:
            summary |= {name + POOLED: value for name, value in score(counts).items()}
    return summary


def _empty_images(names: list[str], values: NDArray[np.float64]) -> float:
    if "n_true" not in names or "n_pred" not in names:
        return 0.0
    return float((values[:, [names.index("n_true"), names.index("n_pred")]] == 0).all(axis=1).sum())


def _classification(counts: Mapping[str, float]) -> dict[str, float]:
    scores: dict[str, float] = {}
    for suffix in ("", GATED):
        if f"n_tp_d{suffix}" in counts:
            scores |= classification_scores(counts, suffix)
    return scores


def _panoptic(counts: Mapping[str, float]) -> dict[str, float]:
    tp, fp, fn = (int(counts[f"n_{name}"]) for name in ("tp", "fp", "fn"))
    return panoptic_scores(PanopticCounts(tp, fp, fn, counts["n_iou_sum"]))._asdict()


def _pixel(counts: Mapping[str, float]) -> dict[str, float]:
    sums = PixelCounts(*(int(counts[f"n_pixel_{name}"]) for name in PixelCounts._fields))
    return {"dice": dice(sums)} | pixel_scores(sums)


_POOLED: tuple[tuple[Callable[[Mapping[str, float]], dict[str, float]], str], ...] = (
    (_panoptic, "n_iou_sum"),
    (_pixel, "n_pixel_tp"),
    (pooled_scores, "n_tp_type_1"),
    (detection_scores, "n_distance_sum"),
    (class_scores, "n_match_1"),
    (curve_scores, "n_pred@0.00"),
)
"""Functions of summed counts, each with a count that must be present."""
