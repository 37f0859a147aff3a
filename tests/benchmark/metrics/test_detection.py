"""Detection scores of points, by hand and against plain code."""

import math

import numpy as np
import pytest

from benchmark.metrics.assignment import gated_pairing
from benchmark.metrics.detection import (
    THRESHOLDS,
    area_under_curve,
    class_counts,
    class_scores,
    curve_counts,
    curve_scores,
    detection_counts,
    detection_scores,
)

TRUE = np.array([[10.0, 10.0], [50.0, 10.0], [90.0, 10.0], [10.0, 90.0]])
PRED = np.array([[13.0, 14.0], [50.0, 22.0], [90.0, 27.0], [200.0, 200.0], [11.0, 10.0]])  # 5, 12, 17, far, 1 px


def test_detection_by_hand():
    pairs = gated_pairing(TRUE, PRED, 16)
    scores = detection_scores(detection_counts(len(TRUE), len(PRED), pairs))
    assert pairs.pred.tolist() == [4, 1]  # the nearer of two at the first nucleus; 17 px is too far
    assert scores == pytest.approx(
        {
            "precision": 2 / 5,
            "recall": 2 / 4,
            "f1": 4 / 9,
            "distance_mean": (1 + 12) / 2,
            "distance_std": np.std([1.0, 12.0]),
        }
    )


def test_equal_distances_have_no_spread():
    true = np.arange(6, dtype=float)[:, None] * [40, 0]
    pairs = gated_pairing(true, true + 0.1, 16)
    scores = detection_scores(detection_counts(6, 6, pairs))
    assert scores["distance_std"] == pytest.approx(0, abs=1e-6)


def test_empty_sides():
    none = np.zeros((0, 2))
    for a, b in ((none, TRUE), (TRUE, none)):
        scores = detection_scores(detection_counts(len(a), len(b), gated_pairing(a, b, 16)))
        assert (scores["precision"], scores["recall"], scores["f1"]) == (0, 0, 0)
        assert math.isnan(scores["distance_mean"])
    scores = detection_scores(detection_counts(0, 0, gated_pairing(none, none, 16)))
    assert all(math.isnan(value) for value in scores.values())


def test_weighted_class_scores_by_hand():
    true_types, pred_types = np.array([1, 1, 2, 3]), np.array([2, 1, 1, 1, 2])
    pairs = gated_pairing(TRUE, PRED, 16)  # first nucleus with prediction 4 (type 2), second with 1 (type 1)
    counts = class_counts(true_types, pred_types, pairs, 3)
    assert [counts[f"n_true_{t}"] for t in (1, 2, 3)] == [2, 1, 1]
    assert [counts[f"n_pred_{t}"] for t in (1, 2, 3)] == [3, 2, 0]
    assert [counts[f"n_match_{t}"] for t in (1, 2, 3)] == [1, 0, 0]
    assert class_scores(counts) == pytest.approx(
        {"precision_c": 2 / 4 * 1 / 3, "recall_c": 2 / 4 * 1 / 2, "f1_c": 2 / 4 * 2 / 5}
    )


def test_class_scores_of_a_perfect_and_of_an_empty_image():
    types = np.array([1, 2, 2, 3])
    perfect = class_counts(types, types, gated_pairing(TRUE, TRUE, 16), 3)
    assert class_scores(perfect) == pytest.approx({"precision_c": 1, "recall_c": 1, "f1_c": 1})
    none, empty = np.zeros(0, int), np.zeros((0, 2))
    nothing = class_scores(class_counts(none, none, gated_pairing(empty, empty, 16), 3))
    assert all(math.isnan(value) for value in nothing.values())
    spurious = class_scores(class_counts(none, types, gated_pairing(empty, TRUE, 16), 3))
    assert set(spurious.values()) == {0.0}


def test_area_under_curve():
    assert area_under_curve([(1.0, 0.5), (0.5, 1.0)]) == pytest.approx(0.5 * 0.75 + 0.5 * 1.0)
    assert area_under_curve([]) == 0
    assert area_under_curve([(1.0, 1.0)]) == 1


def test_curve_by_hand():
    # peaks in falling order: right, wrong, right; the fourth nucleus has none
    true = TRUE[[0, 1, 3]]
    candidates, scores = PRED[[4, 3, 1]], np.array([1.0, 0.52, 0.31])
    counts = {"n_true": 3.0} | curve_counts(true, candidates, scores, 16)
    assert [counts[f"n_pred@{x:.2f}"] for x in THRESHOLDS] == [3] * 7 + [2] * 4 + [1] * 10
    assert [counts[f"n_found@{x:.2f}"] for x in THRESHOLDS] == [2] * 7 + [1] * 14
    # (recall, precision): (2/3, 2/3), (1/3, 1/2), (1/3, 1), then level to recall 0
    expected = (1 / 3) * (2 / 3 + 1 / 2) / 2 + (1 / 3) * 1
    assert curve_scores(counts) == pytest.approx({"auc": expected})


def test_curve_with_classes_and_without_detections():
    true_types = np.array([1, 2, 2, 1])
    exact = {"n_true": 4.0} | class_counts(true_types, true_types, gated_pairing(TRUE, TRUE, 16), 2)
    perfect = exact | curve_counts(TRUE, TRUE, np.ones(4), 16, (true_types, true_types, 2))
    assert curve_scores(perfect) == pytest.approx({"auc": 1, "auc_c": 1})
    swapped = exact | curve_counts(TRUE, TRUE, np.ones(4), 16, (true_types, 3 - true_types, 2))
    assert curve_scores(swapped) == pytest.approx({"auc": 1, "auc_c": 0})
    none = exact | curve_counts(TRUE, TRUE[:0], np.zeros(0), 16, (true_types, true_types[:0], 2))
    assert curve_scores(none) == {"auc": 0, "auc_c": 0}
