"""All scores of one image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmark.metrics import detection
from benchmark.metrics.assignment import gated_pairing, published_pairing
from benchmark.metrics.centroids import centres
from benchmark.metrics.classification import (
    GATED,
    classification_counts,
    classification_scores,
    confusion_counts,
)
from benchmark.metrics.contingency import Contingency, contingency
from benchmark.metrics.instance import aji, aji_plus, dice2, panoptic_counts, panoptic_scores
from benchmark.metrics.pixel import dice, pixel_counts, pixel_scores
from benchmark.metrics.shape import average_dice, average_hausdorff
from benchmark.metrics.typed import image_scores, inside_counts, typed_counts
from postproc.instances import Instances


def score_image(
    truth: Instances,
    prediction: Instances,
    *,
    radius: float,
    types: int = 0,
    candidates: Instances | None = None,
    count_border: int | None = None,
) -> dict[str, float]:
    """Compute all scores of one image that apply to both sides.

    Label maps on both sides give object and pixel metrics; otherwise, centres on both sides give detection metrics.
    Types on both sides give F_d, F_c and accuracy, under the published and the gated pairing; with label maps also the
    PQ of each type (pq_1 ... pq_T) and their mean (mpq).

    Args:
        truth: The annotation.
        prediction: The prediction, of the same shape.
        radius: Matching radius in pixels (12 at 40x, 6 at 20x, 16 for Ki67).
        types: Number of types T; 0 = the largest type on either side.
        candidates: All peaks with their `scores`, including those too weak for `prediction`; adds the area under the
            precision-recall curve (Ki67).
        count_border: Border in pixels outside which the nuclei of each type are counted (CoNIC); None = not counted.

    Returns:
        Scores, then counts (``n_...``) from which `pooling.summarise` computes pooled scores. Order: dice, aji,
        aji_plus, dice2, dq, sq, pq; F_d, accuracy, F_c_1 ... F_c_T; other scores; counts.

    Raises:
        ValueError: If the shapes differ, or `candidates` have no scores, or no types although the truth has.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"the prediction has shape {prediction.shape}, the annotation {truth.shape}")
    first: dict[str, float] = {}
    rest: dict[str, float] = {}
    counts: dict[str, float] = {"n_true": float(truth.count), "n_pred": float(prediction.count)}
    types = types or max(_largest_type(truth), _largest_type(prediction))
    if truth.labels is not None and prediction.labels is not None:
        table = contingency(truth.labels, prediction.labels)
        first |= object_scores(table)
        rest |= pixel_scores(pixel_counts(table))
        rest["ahd"] = average_hausdorff(table, truth.labels, prediction.labels)
        rest["adc"] = average_dice(table)
        counts |= _map_counts(table)
        if truth.types is not None and prediction.types is not None:
            sums = typed_counts(table, truth.types, prediction.types, types)
            rest |= image_scores(sums)
            counts |= sums
            if count_border is not None:
                counts |= inside_counts(truth, prediction, types, count_border)
    elif _has_centres(truth) and _has_centres(prediction):
        scores, sums = _detection(truth, prediction, radius, types)
        rest |= scores
        counts |= sums
        if candidates is not None:
            counts |= _curve(truth, candidates, radius, types)
            rest |= detection.curve_scores(counts)
    if truth.types is not None and prediction.types is not None:
        sums, gated = _classification(truth, prediction, radius, types)
        scores = classification_scores(sums)
        rest = {"F_c": scores.pop("F_c")} | classification_scores(gated, GATED) | rest
        first |= scores
        counts |= sums | gated
    return first | rest | counts


def object_scores(table: Contingency) -> dict[str, float]:
    """Return dice, aji, aji_plus, dice2, dq, sq and pq; NaN for two empty maps, 0 for one empty map."""
    quality = panoptic_scores(panoptic_counts(table))
    return {
        "dice": dice(pixel_counts(table)),
        "aji": aji(table),
        "aji_plus": aji_plus(table),
        "dice2": dice2(table),
        "dq": quality.dq,
        "sq": quality.sq,
        "pq": quality.pq,
    }


def _map_counts(table: Contingency) -> dict[str, float]:
    counts: dict[str, float] = {"n_true": float(table.n_true), "n_pred": float(table.n_pred)}
    counts |= {f"n_{name}": float(count) for name, count in panoptic_counts(table)._asdict().items()}
    return counts | {f"n_pixel_{name}": float(n) for name, n in pixel_counts(table)._asdict().items()}


def _detection(
    truth: Instances, prediction: Instances, radius: float, types: int
) -> tuple[dict[str, float], dict[str, float]]:
    pairs = gated_pairing(centres(truth), centres(prediction), radius)
    counts = detection.detection_counts(truth.count, prediction.count, pairs)
    scores = detection.detection_scores(counts)
    if truth.types is not None and prediction.types is not None:
        counts |= detection.class_counts(truth.types, prediction.types, pairs, types)
        scores |= detection.class_scores(counts)
    return scores, counts


def _curve(truth: Instances, candidates: Instances, radius: float, types: int) -> dict[str, float]:
    if candidates.scores is None:
        raise ValueError("the candidates of the precision-recall curve have no scores")
    both: tuple[NDArray[np.int64], NDArray[np.int64], int] | None = None
    if truth.types is not None:
        if candidates.types is None:
            raise ValueError("the candidates of the precision-recall curve have no types, but the annotation has")
        both = (truth.types, candidates.types, types)
    return detection.curve_counts(centres(truth), centres(candidates), candidates.scores, radius, both)


def _classification(
    truth: Instances, prediction: Instances, radius: float, types: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the counts under the published and under the gated pairing."""
    assert truth.types is not None
    assert prediction.types is not None
    true, pred = centres(truth), centres(prediction)
    published = published_pairing(true, pred, radius)
    return (
        classification_counts(truth.types, prediction.types, published, types)
        | confusion_counts(truth.types, prediction.types, published, types),
        classification_counts(truth.types, prediction.types, gated_pairing(true, pred, radius), types, GATED),
    )


def _has_centres(nuclei: Instances) -> bool:
    return nuclei.points is not None or nuclei.labels is not None


def _largest_type(nuclei: Instances) -> int:
    return 0 if nuclei.types is None else int(nuclei.types.max(initial=0))
