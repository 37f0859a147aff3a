"""Scores of one image as a whole, and of a set from the scores of its images."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from benchmark.metrics.image import score_image
from benchmark.metrics.pooling import summarise
from postproc.instances import Instances

OBJECT = ["dice", "aji", "aji_plus", "dice2", "dq", "sq", "pq"]


def squares(places, size=6, shape=(64, 80), types=None):
    labels = np.zeros(shape, np.int32)
    for k, (x, y) in enumerate(places, start=1):
        labels[y : y + size, x : x + size] = k
    return Instances(shape, labels=labels, types=None if types is None else np.array(types))


def dots(points, types=None, scores=None, shape=(64, 80)):
    return Instances(
        shape,
        points=np.array(points, np.float32).reshape(-1, 2),
        types=None if types is None else np.array(types),
        scores=None if scores is None else np.array(scores, np.float32),
    )


def is_count(name):
    return name.startswith("n_")


def test_maps_without_types_give_object_and_pixel_scores_only():
    scores = score_image(squares([(2, 2), (20, 20)]), squares([(2, 3)]), radius=12)
    names = [name for name in scores if not is_count(name)]
    assert names[:7] == OBJECT
    assert not [name for name in names if name.startswith(("F_", "precision", "accuracy"))]
    assert (scores["n_true"], scores["n_pred"], scores["n_tp"], scores["n_fp"], scores["n_fn"]) == (
        2,
        1,
        1,
        0,
        1,
    )
    assert scores["n_iou_sum"] == pytest.approx(30 / 42)
    assert scores["adc"] == pytest.approx(60 / 72 / 2)
    assert list(scores)[-1].startswith("n_")
    assert all(isinstance(value, float) for value in scores.values())


def test_typed_maps_put_the_classification_after_the_object_scores():
    scores = score_image(
        squares([(2, 2), (30, 30)], types=[1, 2]),
        squares([(3, 2), (31, 30)], types=[1, 1]),
        radius=12,
        types=3,
    )
    names = list(scores)
    assert names[:12] == [*OBJECT, "F_d", "accuracy", "F_c_1", "F_c_2", "F_c_3"]
    assert (scores["F_d"], scores["accuracy"], scores["F_c_1"], scores["F_c_2"]) == (1, 0.5, 0.5, 0)
    assert math.isnan(scores["F_c_3"])
    assert scores["F_d_gated"] == 1
    first_count = next(k for k, name in enumerate(names) if is_count(name))
    assert all(is_count(name) for name in names[first_count:])


def test_types_default_to_the_largest_that_occurs():
    scores = score_image(squares([(2, 2)], types=[1]), squares([(2, 2)], types=[4]), radius=12)
    assert [name for name in scores if name.startswith("F_c_") and name[-1].isdigit()] == [
        f"F_c_{t}" for t in range(1, 5)
    ]


def test_points_without_a_map_give_detection_scores():
    scores = score_image(dots([(5, 5), (40, 40)]), squares([(2, 2), (20, 2)]), radius=6)
    names = [name for name in scores if not is_count(name)]
    assert names == ["precision", "recall", "f1", "distance_mean", "distance_std"]
    assert (scores["precision"], scores["recall"]) == (0.5, 0.5)
    assert scores["distance_mean"] == pytest.approx(math.dist((5, 5), (4.5, 4.5)))


def test_typed_points_with_candidates_give_everything_of_ki67():
    truth = dots([(10, 10), (50, 50)], types=[1, 2])
    prediction = dots([(11, 10), (50, 52)], types=[1, 1], scores=[1.0, 0.6])
    candidates = dots([(11, 10), (50, 52), (70, 5)], types=[1, 1, 2], scores=[1.0, 0.6, 0.2])
    scores = score_image(truth, prediction, radius=16, types=3, candidates=candidates)
    assert list(scores)[:5] == ["F_d", "accuracy", "F_c_1", "F_c_2", "F_c_3"]
    assert (scores["f1"], scores["F_d_gated"]) == (1, 1)
    assert scores["recall_c"] == pytest.approx(0.5)
    assert scores["auc"] == pytest.approx(1.0)  # the weak peak adds nothing to the recall
    assert 0 < scores["auc_c"] < 0.6
    with pytest.raises(ValueError, match="no scores"):
        score_image(truth, prediction, radius=16, candidates=truth)
    with pytest.raises(ValueError, match="no types"):
        score_image(truth, prediction, radius=16, candidates=dots([(1, 1)], scores=[1.0]))


def test_sides_without_anything_to_compare_and_sides_of_other_size():
    bare = Instances((64, 80))
    assert score_image(bare, squares([(2, 2)]), radius=12) == {"n_true": 0, "n_pred": 1}
    with pytest.raises(ValueError, match=r"\(64, 80\), the annotation \(8, 8\)"):
        score_image(squares([], shape=(8, 8)), bare, radius=12)


def frame(*rows):
    return pd.DataFrame([{"image": f"i{k}", **row} for k, row in enumerate(rows)])


def test_means_leave_out_empty_images_and_pooled_scores_add_counts():
    good = score_image(squares([(2, 2), (20, 20)]), squares([(2, 2), (20, 20)]), radius=12)
    bad = score_image(squares([(2, 2), (20, 2), (40, 2), (2, 40)]), squares([(2, 2)]), radius=12)
    empty = score_image(squares([]), squares([]), radius=12)
    missed = score_image(squares([(1, 1)]), squares([]), radius=12)
    summary = summarise(frame(good, bad, empty, missed))
    assert (summary["images"], summary["nan_images"]) == (4, 1)
    assert summary["pq"] == pytest.approx((1 + 2 / 5 + 0) / 3)
    assert summary["pq_pooled"] == pytest.approx(6 / (6 + 4))
    assert (summary["sq"], summary["sq_pooled"]) == (pytest.approx(2 / 3), 1)
    assert summary["dice_pooled"] == pytest.approx(2 * 108 / (252 + 108))
    assert not [name for name in summary if is_count(name) or name == "image"]
    assert "F_d" not in summary
    assert "precision" not in summary


def test_classification_is_pooled_even_if_an_image_lacks_a_type():
    first = score_image(squares([(2, 2)], types=[1]), squares([(2, 2)], types=[1]), radius=12)
    second = score_image(
        squares([(2, 2), (20, 20), (40, 40)], types=[1, 2, 2]),
        squares([(2, 2), (20, 20)], types=[2, 2]),
        radius=12,
    )
    summary = summarise(frame(first, second))
    assert summary["F_d"] == pytest.approx(6 / 7)  # the mean of the images would be 0.9
    assert summary["accuracy"] == pytest.approx(2 / 3)
    assert summary["F_c_1"] == pytest.approx(2 / (2 + 2))
    assert summary["F_c_2"] == pytest.approx(2 / (2 + 2 + 1))
    assert summary["F_c_gated"] == pytest.approx(summary["F_c"])


def test_detection_is_pooled():
    one = score_image(dots([(5, 5)], types=[1]), dots([(5, 7)], types=[1]), radius=16, types=2)
    two = score_image(dots([(5, 5), (40, 40)], types=[2, 2]), dots([(5, 9)], types=[1]), radius=16, types=2)
    summary = summarise(frame(one, two))
    assert summary["recall"] == pytest.approx((1 + 1 / 2) / 2)
    assert summary["recall_pooled"] == pytest.approx(2 / 3)
    assert summary["distance_mean_pooled"] == pytest.approx(3)
    assert summary["distance_std_pooled"] == pytest.approx(1)
    assert summary["recall_c_pooled"] == pytest.approx(1 / 3 * 1)
    assert summary["precision_c_pooled"] == pytest.approx(1 / 3 * 1 / 2)


def test_summary_survives_the_way_through_a_csv_file(tmp_path):
    rows = frame(
        score_image(squares([(2, 2)], types=[1]), squares([(4, 2)], types=[1]), radius=12, types=2),
        score_image(squares([], types=[]), squares([], types=[]), radius=12, types=2),
    )
    rows.to_csv(tmp_path / "scores.csv", index=False)
    assert summarise(pd.read_csv(tmp_path / "scores.csv")) == pytest.approx(summarise(rows), nan_ok=True, rel=1e-12)


def test_no_images_at_all():
    assert summarise(pd.DataFrame({"image": pd.Series([], dtype=str)})) == {"images": 0, "nan_images": 0}


@pytest.mark.real_data
def test_golden_classification(golden_root):
    expected = json.loads((golden_root / "expected.json").read_text())["classification"]
    rows = []
    for name in expected["images"]:
        stored = np.load(golden_root / f"instance_{name}.npz")
        both = [
            Instances(stored[side].shape, labels=stored[side], types=stored[f"{side}_types"].astype(np.int64))
            for side in ("true", "pred")
        ]
        rows.append(score_image(both[0], both[1], radius=expected["radius_px"], types=4))
    scores = frame(*rows)
    summary = summarise(scores)
    for name, value in expected.items():
        if name.startswith(("F_", "accuracy")) and name in summary:
            assert summary[name] == pytest.approx(value, abs=1e-12), name
    assert {f"{k.upper()}_d": int(scores[f"n_{k}_d"].sum()) for k in ("tp", "fp", "fn")} == {
        name: expected[name] for name in ("TP_d", "FP_d", "FN_d")
    }
    assert {name for name in expected if name.startswith("F_")} <= set(summary)
    assert summary["F_d_gated"] > summary["F_d"]  # the published pairing undercounts
