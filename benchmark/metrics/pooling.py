"""Scores of a set of images from the stored scores of each; needs neither torch nor numba."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from benchmark.metrics.classification import GATED, classification_scores
from benchmark.metrics.detection import class_scores, curve_scores, detection_scores
from benchmark.metrics.instance import PanopticCounts, panoptic_scores
from benchmark.metrics.pixel import PixelCounts, dice, pixel_scores

POOLED = "_pooled"
"""Suffix of scores from counts that are summed over images, beside the mean over images of the same name."""


def summarise(scores: pd.DataFrame) -> dict[str, float]:
    """Summarise the per-image scores of one set.

    A score is the mean over the images in which it is defined, as the papers report it (HoVer-Net IV-A). The
    classification scores (F_d, accuracy, F_c and their gated forms) are computed once from the counts summed
    over all images, as published. Where counts allow, scores of the pooled set follow under names that end in
    ``_pooled``.

    Args:
        scores: One row per image, columns as in `image.score_image`; columns that are no numbers are ignored,
            and a count that an image lacks (a type that it has not) is 0.

    Returns:
        ``images``; ``nan_images``, those without a nucleus on either side, which no mean includes; then the
        scores in the order of the columns; then the pooled ones.
    """
    numbers = scores.select_dtypes("number")
    is_count = numbers.columns.str.startswith("n_")
    counts = {str(name): float(total) for name, total in numbers.loc[:, is_count].sum().items()}
    means = {str(name): float(mean) for name, mean in numbers.loc[:, ~is_count].mean().items()}
    summary: dict[str, float] = {"images": float(len(scores)), "nan_images": float(_empty_images(numbers))}
    summary |= means | _classification(counts)
    for score, needed in _POOLED:
        if needed in counts:
            summary |= {name + POOLED: value for name, value in score(counts).items()}
    return summary


def _empty_images(numbers: pd.DataFrame) -> int:
    if "n_true" not in numbers or "n_pred" not in numbers:
        return 0
    return int(((numbers["n_true"] == 0) & (numbers["n_pred"] == 0)).sum())


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
    (detection_scores, "n_distance_sum"),
    (class_scores, "n_match_1"),
    (curve_scores, "n_pred@0.00"),
)
"""Scores of summed counts, and a count that is there if they apply."""
