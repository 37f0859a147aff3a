"""Detection and classification of nuclei by type (HoVer-Net, IV-B), from counts that are summed over images.

Names of counts in stored tables: ``n_tp_d``, ``n_fp_d``, ``n_fn_d`` (detection), ``n_correct``, ``n_wrong`` (A_c and
B_c of equation 9); for each type t ``n_tp_c_t``, ``n_fp_c_t``, ``n_fn_c_t``, ``n_fp_d_t``, ``n_fn_d_t``. Counts and
scores of the gated pairing have the suffix ``_gated``.

Confusion of the types under the published pairing: ``n_pair_i_j``, detected nuclei of annotated type i and predicted
type j; ``n_missed_i`` and ``n_extra_j``, unpaired nuclei; i, j = 0..T, 0 = no type.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.metrics.assignment import Pairing

UNLABELLED = 0
"""Type of annotated nuclei without a type (7,312 in CRCHisto)."""

GATED = "_gated"
"""Suffix of counts and scores under the gated pairing."""


def classification_counts(
    true_types: NDArray[Any], pred_types: NDArray[Any], pairs: Pairing, types: int, suffix: str = ""
) -> dict[str, float]:
    """Count detections and classifications of one image.

    A detected nucleus whose annotation has no type counts as detected, but neither as correctly nor as wrongly
    classified. This is the correction for incomplete annotations (IV-B): such nuclei are excluded from B_c, and from
    the predictions of type t whose annotation is not t.

    Args:
        true_types: (N,), 1..T, 0 = no type.
        pred_types: (M,), 1..T, 0 = no type.
        pairs: Detected nuclei.
        types: Number of types T.
        suffix: Appended to each name.
    """
    true, pred = true_types[pairs.true], pred_types[pairs.pred]
    labelled = true != UNLABELLED
    missed = np.delete(true_types, pairs.true)
    extra = np.delete(pred_types, pairs.pred)
    counts = {
        "n_tp_d": len(pairs.true),
        "n_fp_d": len(extra),
        "n_fn_d": len(missed),
        "n_correct": int((labelled & (true == pred)).sum()),
        "n_wrong": int((labelled & (true != pred)).sum()),
    }
    for t in range(1, types + 1):
        counts[f"n_tp_c_{t}"] = int(((true == t) & (pred == t)).sum())
        counts[f"n_fp_c_{t}"] = int((labelled & (true != t) & (pred == t)).sum())
        counts[f"n_fn_c_{t}"] = int(((true == t) & (pred != t)).sum())
        counts[f"n_fp_d_{t}"] = int((extra == t).sum())
        counts[f"n_fn_d_{t}"] = int((missed == t).sum())
    return {name + suffix: float(count) for name, count in counts.items()}


def confusion_counts(
    true_types: NDArray[Any], pred_types: NDArray[Any], pairs: Pairing, types: int
) -> dict[str, float]:
    """Count pairs by annotated and predicted type, and the unpaired nuclei of each type.

    Args:
        true_types: (N,), 1..T, 0 = no type.
        pred_types: (M,), 1..T; 0 and types above T = no type.
        pairs: Detected nuclei.
        types: Number of types T.
    """
    true = np.where(true_types > types, 0, true_types).astype(np.int64)
    pred = np.where(pred_types > types, 0, pred_types).astype(np.int64)
    side = types + 1
    table = np.bincount(true[pairs.true] * side + pred[pairs.pred], minlength=side * side).reshape(side, side)
    missed = np.bincount(np.delete(true, pairs.true), minlength=side)
    extra = np.bincount(np.delete(pred, pairs.pred), minlength=side)
    counts = {f"n_pair_{i}_{j}": float(table[i, j]) for i in range(side) for j in range(side)}
    counts |= {f"n_missed_{i}": float(missed[i]) for i in range(side)}
    return counts | {f"n_extra_{j}": float(extra[j]) for j in range(side)}


def confusion_matrix(counts: Mapping[str, float], types: int) -> NDArray[np.float64] | None:
    """Return the confusion matrix of the types of one image, or of sums over images.

    Args:
        counts: Counts of `confusion_counts`; may contain other counts.
        types: Number of types T.

    Returns:
        float64 (T + 2, T + 2): annotated types in rows, predicted types in columns, in the order 1..T, no type; missed
        nuclei in the last column, extra nuclei in the last row, and NaN in the last element. None if counts are
        missing.
    """
    order = [*range(1, types + 1), 0]
    matrix = np.full((types + 2, types + 2), np.nan)
    for row, i in enumerate(order):
        for column, j in enumerate(order):
            matrix[row, column] = counts.get(f"n_pair_{i}_{j}", np.nan)
        matrix[row, -1] = counts.get(f"n_missed_{i}", np.nan)
        matrix[-1, row] = counts.get(f"n_extra_{i}", np.nan)
    matrix[-1, -1] = 0
    if np.isnan(matrix).any():
        return None
    matrix[-1, -1] = np.nan
    return matrix


def classification_scores(counts: Mapping[str, float], suffix: str = "") -> dict[str, float]:
    """Return the scores of one image, or of sums over images.

    Args:
        counts: Counts of `classification_counts`; may contain other counts.
        suffix: Suffix of the counts and of the scores.

    Returns:
        ``F_d`` (F1 of the detection); ``accuracy`` (of the types of detected nuclei with an annotated type: 0 if none
        is detected, NaN if no detected nucleus has a type); ``F_c_t`` of each type t; ``F_c``, which is F_c^T of
        equation 9 over all types. NaN if neither side has a nucleus (of the type).
    """
    tp, fp, fn = (counts[f"n_{name}_d{suffix}"] for name in ("tp", "fp", "fn"))
    right, wrong = counts["n_correct" + suffix], counts["n_wrong" + suffix]
    scores = {
        "F_d": _ratio(2 * tp, 2 * tp + fp + fn),
        "accuracy": _ratio(right, right + wrong) if tp or not (fp or fn) else 0.0,
    }
    for t in _types(counts, suffix):
        scores[f"F_c_{t}"] = _f_c(*(counts[f"n_{name}_{t}{suffix}"] for name in _F_C_COUNTS))
    scores["F_c"] = _ratio(2 * right, 2 * (right + wrong) + fp + fn)
    return {name + suffix: value for name, value in scores.items()}


_F_C_COUNTS = ("tp_c", "fp_c", "fn_c", "fp_d", "fn_d")


def _f_c(tp_c: float, fp_c: float, fn_c: float, fp_d: float, fn_d: float) -> float:
    """Compute equation 8 with its weights (2, 2, 1, 1).

    Only nuclei that have the type on at least one side are counted, as the text before the equation states. TN_c is
    therefore 0, as in the published code.
    """
    return _ratio(2 * tp_c, 2 * tp_c + 2 * fp_c + 2 * fn_c + fp_d + fn_d)


def _types(counts: Mapping[str, float], suffix: str) -> list[int]:
    matches = (re.fullmatch(rf"n_tp_c_(\d+){suffix}", name) for name in counts)
    return sorted(int(match[1]) for match in matches if match)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
