"""Detection of nuclei as points (KiNet: Xing 2019, IV-C, table I), from counts that are summed over images.

Names of counts: ``n_true``, ``n_pred``, ``n_found``, ``n_distance_sum``, ``n_distance_sum2`` (pixels, pixels^2); per
class t ``n_true_t``, ``n_pred_t``, ``n_match_t``; at each threshold x of the precision-recall curve
``n_pred@x``, ``n_found@x``, ``n_pred_t@x``, ``n_match_t@x``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.metrics.assignment import Pairing, gated_pairing

THRESHOLDS = tuple(k / 20 for k in range(21))
"""xi of the precision-recall curve: 0 to 1 in steps of 0.05 (Xing 2019, IV-D, parameters)."""


def detection_counts(n_true: int, n_pred: int, pairs: Pairing) -> dict[str, float]:
    """Count the detections of one image.

    Args:
        n_true: Number of annotated nuclei.
        n_pred: Number of detections.
        pairs: Pairing of `gated_pairing`.
    """
    return {
        "n_true": float(n_true),
        "n_pred": float(n_pred),
        "n_found": float(len(pairs.true)),
        "n_distance_sum": float(pairs.distance.sum()),
        "n_distance_sum2": float((pairs.distance**2).sum()),
    }


def class_counts(true_types: NDArray[Any], pred_types: NDArray[Any], pairs: Pairing, types: int) -> dict[str, float]:
    """Count the nuclei of each class, and the pairs of the same class.

    Pairing ignores classes. A detection is correct for its class if it is paired with a nucleus of the same class.

    Args:
        true_types: (N,), 1..T, 0 = no type.
        pred_types: (M,), 1..T.
        pairs: Pairing of `gated_pairing`.
        types: Number of types T.
    """
    agreed = true_types[pairs.true][true_types[pairs.true] == pred_types[pairs.pred]]
    counts: dict[str, float] = {}
    for name, values in (("true", true_types), ("pred", pred_types), ("match", agreed)):
        sums = np.bincount(values[values <= types], minlength=types + 1)
        counts |= {f"n_{name}_{t}": float(sums[t]) for t in range(1, types + 1)}
    return counts


def curve_counts(
    true: NDArray[Any],
    candidates: NDArray[Any],
    scores: NDArray[Any],
    radius: float,
    types: tuple[NDArray[Any], NDArray[Any], int] | None = None,
) -> dict[str, float]:
    """Count the detections of one image at each threshold of the precision-recall curve.

    Args:
        true: (N, 2), annotated centres in pixels.
        candidates: (M, 2), all peaks of the proximity maps in pixels, including weak ones.
        scores: (M,), height of each peak as a fraction of the maximum of the map; at threshold xi, peaks of at least xi
            are detections (Xing 2019, III-C).
        radius: Matching radius in pixels.
        types: Classes of the annotated nuclei, classes of the candidates, and number of classes; None without classes.
    """
    counts: dict[str, float] = {}
    for threshold in THRESHOLDS:
        kept = np.flatnonzero(scores >= threshold)
        pairs = gated_pairing(true, candidates[kept], radius)
        at = f"@{threshold:.2f}"
        counts["n_pred" + at], counts["n_found" + at] = float(len(kept)), float(len(pairs.true))
        if types is not None:
            classes = class_counts(types[0], types[1][kept], pairs, types[2])
            counts |= {name + at: n for name, n in classes.items() if not name.startswith("n_true")}
    return counts


def detection_scores(counts: Mapping[str, float]) -> dict[str, float]:
    """Return the detection scores of one image, or of sums over images.

    Returns:
        ``precision``, ``recall``, ``f1`` (NaN without nuclei on both sides, 0 without nuclei on one side),
        ``distance_mean`` and ``distance_std`` (pixels, over the pairs; population standard deviation; NaN without
        pairs).
    """
    n_true, n_pred, tp = counts["n_true"], counts["n_pred"], counts["n_found"]
    precision, recall, f1 = _precision_recall_f1(n_true, n_pred, tp)
    mean = counts["n_distance_sum"] / tp if tp else math.nan
    # rounding can give a slightly negative variance if all distances are equal
    std = math.sqrt(max(counts["n_distance_sum2"] / tp - mean**2, 0.0)) if tp else math.nan
    return {"precision": precision, "recall": recall, "f1": f1, "distance_mean": mean, "distance_std": std}


def class_scores(counts: Mapping[str, float], at: str = "") -> dict[str, float]:
    """Return precision, recall and F1 averaged over the classes.

    The weight of a class is its share of the annotated nuclei (Xing 2019, IV-C). A class that is annotated but never
    predicted has precision 0.

    Args:
        counts: Counts of `class_counts`, of one image or summed over images.
        at: Suffix of the counts of one threshold of the curve.

    Returns:
        ``precision_c``, ``recall_c``, ``f1_c``; NaN if no nucleus has a class on either side.
    """
    rows = [(counts[f"n_true_{t}"], counts[f"n_pred_{t}{at}"], counts[f"n_match_{t}{at}"]) for t in _classes(counts)]
    names = ("precision_c", "recall_c", "f1_c")
    total = sum(row[0] for row in rows)
    if total == 0:
        return dict.fromkeys(names, 0.0 if sum(row[1] for row in rows) else math.nan)
    means = [0.0, 0.0, 0.0]
    for row in rows:
        if row[0]:
            means = [m + row[0] / total * s for m, s in zip(means, _precision_recall_f1(*row), strict=True)]
    return dict(zip(names, means, strict=True))


def curve_scores(counts: Mapping[str, float]) -> dict[str, float]:
    """Return the areas under the precision-recall curves of one image, or of sums over images.

    Args:
        counts: Counts of `curve_counts`, with the ``n_true`` of `detection_counts` and `class_counts`.

    Returns:
        ``auc`` of the detection and, with classes, ``auc_c`` of the weighted classification.
    """
    n_true = counts["n_true"]
    detection: list[tuple[float, float]] = []
    classification: list[tuple[float, float]] = []
    classes = bool(_classes(counts))
    for threshold in THRESHOLDS:
        at = f"@{threshold:.2f}"
        if counts["n_pred" + at] == 0:
            continue  # precision is undefined without detections
        precision, recall, _ = _precision_recall_f1(n_true, counts["n_pred" + at], counts["n_found" + at])
        detection.append((recall, precision))
        if classes:
            scores = class_scores(counts, at)
            classification.append((scores["recall_c"], scores["precision_c"]))
    areas = {"auc": area_under_curve(detection) if n_true else math.nan}
    return areas | ({"auc_c": area_under_curve(classification) if n_true else math.nan} if classes else {})


def area_under_curve(points: list[tuple[float, float]]) -> float:
    """Return the area under a precision-recall curve by the trapezoidal rule.

    Args:
        points: (recall, precision) at increasing thresholds. The curve is extended from the last point horizontally to
            recall 0; no area is added beyond the highest recall.
    """
    if not points:
        return 0.0
    curve = [*points, (0.0, points[-1][1])]
    return sum((a[0] - b[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(curve))


def _precision_recall_f1(n_true: float, n_pred: float, tp: float) -> tuple[float, float, float]:
    if n_true + n_pred == 0:
        return math.nan, math.nan, math.nan
    return tp / n_pred if n_pred else 0.0, tp / n_true if n_true else 0.0, 2 * tp / (n_true + n_pred)


def _classes(counts: Mapping[str, float]) -> list[int]:
    matches = (re.fullmatch(r"n_match_(\d+)", name) for name in counts)
    return sorted(int(match[1]) for match in matches if match)
