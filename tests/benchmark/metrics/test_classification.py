"""F_d, F_c and accuracy: by hand, against equation 9, and with unlabelled nuclei."""

import math

import numpy as np
import pytest

from benchmark.metrics.assignment import Pairing
from benchmark.metrics.classification import classification_counts, classification_scores


def pairing(pairs):
    true, pred = np.array(pairs, np.int64).reshape(-1, 2).T
    return Pairing(true, pred, np.zeros(len(true)))


TRUE = np.array([1, 1, 2, 2, 3, 1])
PRED = np.array([1, 2, 2, 1, 3, 3, 2])
PAIRS = pairing([(0, 0), (1, 1), (2, 2), (4, 4)])  # rows 3, 5 of the truth and 3, 5, 6 of the prediction are alone


def test_counts_and_scores_by_hand():
    counts = classification_counts(TRUE, PRED, PAIRS, 3)
    assert {k: v for k, v in counts.items() if not k[-1].isdigit()} == {
        "n_tp_d": 4, "n_fp_d": 3, "n_fn_d": 2, "n_correct": 3, "n_wrong": 1,
    }  # fmt: skip
    of_type = {t: [counts[f"n_{name}_{t}"] for name in ("tp_c", "fp_c", "fn_c", "fp_d", "fn_d")] for t in (1, 2, 3)}
    assert of_type == {1: [1, 0, 1, 1, 1], 2: [1, 1, 0, 1, 1], 3: [1, 0, 0, 1, 0]}
    assert classification_scores(counts) == pytest.approx(
        {
            "F_d": 8 / 13,
            "accuracy": 3 / 4,
            "F_c_1": 2 / (2 + 2 + 1 + 1),
            "F_c_2": 2 / (2 + 2 + 1 + 1),
            "F_c_3": 2 / (2 + 1),
            "F_c": 6 / 13,
        }
    )


def test_equation_9_holds_on_random_types():
    rng = np.random.default_rng(0)
    for _ in range(30):
        n, m = rng.integers(1, 40, 2)
        p = rng.integers(1, min(n, m) + 1)
        pairs = pairing(np.stack([rng.permutation(n)[:p], rng.permutation(m)[:p]], 1))
        scores = classification_scores(classification_counts(rng.integers(1, 5, n), rng.integers(1, 5, m), pairs, 4))
        assert scores["F_c"] == pytest.approx(scores["F_d"] * scores["accuracy"])


def test_unlabelled_nuclei_are_detected_but_not_judged():
    unlabelled = TRUE.copy()
    unlabelled[1] = 0  # paired, predicted as type 2
    unlabelled[3] = 0  # missed
    counts = classification_counts(unlabelled, PRED, PAIRS, 3)
    assert [counts[f"n_{name}_d"] for name in ("tp", "fp", "fn")] == [4, 3, 2]
    assert (counts["n_correct"], counts["n_wrong"]) == (3, 0)
    assert counts["n_fp_c_2"] == 0  # without the correction, 1
    assert counts["n_fn_c_1"] == 0
    assert (counts["n_fn_d_1"], counts["n_fn_d_2"]) == (1, 0)
    scores = classification_scores(counts)
    assert scores["accuracy"] == 1
    assert scores["F_c_2"] == pytest.approx(2 / (2 + 1))


def test_a_prediction_without_type_is_wrong_but_a_pair_without_any_is_not_judged():
    counts = classification_counts(np.array([1, 0]), np.array([0, 0]), pairing([(0, 0), (1, 1)]), 1)
    assert (counts["n_correct"], counts["n_wrong"], counts["n_fn_c_1"], counts["n_fp_c_1"]) == (0, 1, 1, 0)


def test_a_predicted_type_beyond_the_last_is_wrong():
    counts = classification_counts(np.array([1]), np.array([9]), pairing([(0, 0)]), 2)
    assert counts["n_wrong"] == 1
    assert classification_scores(counts)["F_c_1"] == 0


def test_empty_sides():
    none, some = np.zeros(0, np.int64), np.array([1, 2])
    nothing = classification_scores(classification_counts(none, none, pairing([]), 2))
    assert all(math.isnan(value) for value in nothing.values())
    for true, pred in ((some, none), (none, some)):
        scores = classification_scores(classification_counts(true, pred, pairing([]), 3))
        assert math.isnan(scores.pop("F_c_3"))  # neither side has type 3
        assert set(scores.values()) == {0.0}
    unlabelled = classification_scores(classification_counts(np.zeros(1, int), np.ones(1, int), pairing([(0, 0)]), 1))
    assert (unlabelled["F_d"], math.isnan(unlabelled["accuracy"])) == (1, True)


def test_suffixed_counts_do_not_mix_with_the_others():
    counts = classification_counts(TRUE, PRED, PAIRS, 3)
    counts |= classification_counts(TRUE, PRED, pairing([(0, 0)]), 3, "_gated")
    assert classification_scores(counts)["F_d"] == pytest.approx(8 / 13)
    gated = classification_scores(counts, "_gated")
    assert gated["F_d_gated"] == pytest.approx(2 / 13)
    assert list(gated) == [
        "F_d_gated",
        "accuracy_gated",
        "F_c_1_gated",
        "F_c_2_gated",
        "F_c_3_gated",
        "F_c_gated",
    ]
