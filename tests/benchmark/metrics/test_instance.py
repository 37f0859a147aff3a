"""Object and pixel metrics: hand-made cases, slow plain implementations and golden figures."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from benchmark.metrics.contingency import contingency
from benchmark.metrics.image import object_scores
from benchmark.metrics.instance import PanopticCounts, aji, aji_plus, dice2, panoptic_counts, panoptic_scores
from benchmark.metrics.pixel import PixelCounts, dice, pixel_counts, pixel_scores
from benchmark.metrics.shape import average_dice, average_hausdorff

EPSILON = 1e-6


def masks(labels):
    return [labels == k for k in np.unique(labels) if k != 0]


def iou_matrix(true, pred, epsilon=0.0):
    return np.array([[(a & b).sum() / ((a | b).sum() + epsilon) for b in pred] for a in true]).reshape(
        len(true), len(pred)
    )


def aggregated(true, pred, pairs):
    inter = sum(int((true[i] & pred[j]).sum()) for i, j in pairs)
    union = sum(int((true[i] | pred[j]).sum()) for i, j in pairs)
    union += sum(int(m.sum()) for i, m in enumerate(true) if i not in {p[0] for p in pairs})
    union += sum(int(m.sum()) for j, m in enumerate(pred) if j not in {p[1] for p in pairs})
    return inter / union


def plain_aji(true, pred):
    quality = iou_matrix(true, pred, EPSILON)
    pairs = [(i, int(q.argmax())) for i, q in enumerate(quality) if q.size and q.max() > 0]
    return aggregated(true, pred, pairs)


def plain_aji_plus(true, pred):
    """AJI+ of every one-to-one assignment whose sum of IoU is the largest: equal sums leave a choice."""
    quality = iou_matrix(true, pred, EPSILON)
    rows, columns = quality.shape
    options = [
        [(i, j) for i, j in zip(range(rows), chosen, strict=True) if j < columns and quality[i, j] > 0]
        for chosen in itertools.permutations(range(columns + rows), rows)
    ]
    sums = [sum(quality[p] for p in pairs) for pairs in options]
    return {
        aggregated(true, pred, p)
        for p, s in zip(options, sums, strict=True)
        if math.isclose(s, max(sums), rel_tol=1e-12)
    }


def plain_panoptic(true, pred):
    quality = iou_matrix(true, pred)
    matched = quality[quality > 0.5]
    tp = matched.size
    dq = tp / (tp + (len(true) - tp) / 2 + (len(pred) - tp) / 2)
    sq = matched.mean() if tp else 0.0
    return dq, sq, dq * sq


def plain_dice2(true, pred):
    pairs = [(a, b) for a in true for b in pred if (a & b).any()]
    total = sum(int(a.sum() + b.sum()) for a, b in pairs)
    return 2 * sum(int((a & b).sum()) for a, b in pairs) / total if total else 0.0


few_ids = st.sampled_from([0, 0, 2, 3, 9])


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_random_maps_score_as_plain_code_does(data):
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))
    true_map = data.draw(hnp.arrays(np.int32, shape, elements=few_ids))
    pred_map = data.draw(hnp.arrays(np.int64, shape, elements=few_ids))
    true, pred = masks(true_map), masks(pred_map)
    scores = object_scores(contingency(true_map, pred_map))
    if not true and not pred:
        assert all(math.isnan(value) for value in scores.values())
        return
    foreground = [m != 0 for m in (true_map, pred_map)]
    assert scores["dice"] == pytest.approx(
        2 * (foreground[0] & foreground[1]).sum() / (foreground[0].sum() + foreground[1].sum()), rel=1e-12
    )
    assert scores["aji"] == pytest.approx(plain_aji(true, pred), rel=1e-12)
    assert any(scores["aji_plus"] == pytest.approx(value, rel=1e-12) for value in plain_aji_plus(true, pred))
    assert scores["dice2"] == pytest.approx(plain_dice2(true, pred), rel=1e-12)
    assert (scores["dq"], scores["sq"], scores["pq"]) == pytest.approx(plain_panoptic(true, pred), rel=1e-12)


@settings(deadline=None, max_examples=40)
@given(hnp.arrays(np.int32, (12, 13), elements=st.integers(0, 5)), st.integers(0, 10**6))
def test_scores_do_not_depend_on_ids_and_a_copy_is_perfect(labels, seed):
    rng = np.random.default_rng(seed)
    other = np.roll(labels, 1, axis=1)
    renamed = np.concatenate([[0], rng.choice(10**6, 5, replace=False) + 1])[labels]
    before, after = (object_scores(contingency(m, other)) for m in (labels, renamed))
    for name in ("dice", "dice2", "dq", "sq", "pq", "aji"):  # of equal matches, AJI+ may take another
        assert after[name] == pytest.approx(before[name], nan_ok=True, rel=1e-12)
    if labels.any():
        perfect = object_scores(contingency(labels, renamed))
        assert all(value == pytest.approx(1.0) for value in perfect.values())


def test_two_empty_maps_are_nan_and_one_empty_map_is_zero():
    empty, one = np.zeros((4, 5), np.int32), np.zeros((4, 5), np.int32)
    one[1:3, 1:3] = 1
    for maps in ((empty, one), (one, empty)):
        table = contingency(*maps)
        assert set(object_scores(table).values()) == {0.0}
        assert average_dice(table) == 0
        assert math.isnan(average_hausdorff(table, *maps))
    nothing = contingency(empty, empty)
    assert all(math.isnan(v) for v in object_scores(nothing).values())
    assert all(math.isnan(v) for v in pixel_scores(pixel_counts(nothing)).values())
    assert math.isnan(average_dice(nothing))
    assert math.isnan(average_hausdorff(nothing, empty, empty))


def test_no_background_at_all():
    true = np.repeat([[1, 1, 2, 2]], 4, axis=0)
    scores = object_scores(contingency(true, np.ones((4, 4), np.int32)))
    # IoU of nucleus 1 with the whole image is exactly 0.5, which is no match
    assert (scores["dice"], scores["dq"], scores["sq"], scores["pq"]) == (1, 0, 0, 0)
    assert scores["aji"] == pytest.approx(16 / 32)
    assert scores["aji_plus"] == pytest.approx(8 / 24)
    assert scores["dice2"] == pytest.approx(2 * 16 / 48)
    pixels = pixel_scores(pixel_counts(contingency(true, true)))
    assert set(pixels.values()) == {1.0}


def test_one_pixel():
    one = np.ones((1, 1), np.uint16)
    assert set(object_scores(contingency(one, one * 65_535)).values()) == {1.0}


def test_equal_iou_goes_to_the_larger_pair():
    true = np.zeros((1, 12), np.int32)
    pred = np.zeros((1, 12), np.int32)
    true[0, :6] = 1
    # id 1 shares 2 of the 6 px and adds none; id 2 shares 4 px and adds 6 elsewhere: both IoU are 1/3
    pred[0, :2] = 1
    pred[0, 2:12] = 2
    table = contingency(true, pred)
    assert table.iou.tolist() == pytest.approx([1 / 3, 1 / 3], rel=1e-15)
    assert aji(table) == pytest.approx(4 / (12 + 2))  # and not 2 / (6 + 10)


def test_aji_uses_a_prediction_twice_and_aji_plus_does_not():
    true = np.array([[1] * 4 + [2] * 4 + [0] * 2])
    pred = np.array([[5] * 8 + [0] * 2])
    table = contingency(true, pred)
    assert aji(table) == pytest.approx(8 / 16)
    assert aji_plus(table) == pytest.approx(4 / (8 + 4))


def test_aji_plus_prefers_the_better_sum_over_the_best_pair():
    # true 1 overlaps both predictions, true 2 only the one that true 1 likes best
    true = np.array([[1] * 10 + [2] * 6])
    pred = np.array([[1] * 4 + [2] * 12])
    table = contingency(true, pred)
    assert table.iou.tolist() == pytest.approx([4 / 10, 6 / 16, 6 / 12])
    assert aji_plus(table) == pytest.approx((4 + 6) / (10 + 12))
    assert aji(table) == pytest.approx((4 + 6) / (10 + 12))


def test_a_giant_component_of_overlaps_is_assigned_exactly():
    from scipy.optimize import linear_sum_assignment

    rng = np.random.default_rng(3)
    true = (np.add.outer(np.arange(120) // 6 * 20, np.arange(120) // 6) + 1).astype(np.int32)  # tiles, no background
    pred = np.roll(true, (2, 3), (0, 1))
    pred[rng.random(pred.shape) < 0.3] = rng.integers(1, 401)
    table = contingency(true, pred)
    quality = np.zeros((table.n_true, table.n_pred))
    quality[table.true_index, table.pred_index] = table.intersection / (table.union + EPSILON)
    rows, columns = linear_sum_assignment(quality, maximize=True)
    kept = quality[rows, columns] > 0
    expected = aggregated(masks(true), masks(pred), list(zip(rows[kept], columns[kept], strict=True)))
    assert aji_plus(table) == pytest.approx(expected, rel=1e-12)


def test_a_few_pixels_on_a_missed_neighbour_cost_dice2_and_aji_but_not_pq():
    """HoVer-Net, figure 4 and table I: B differs from A by the px on the neighbour that neither detects."""
    true = np.zeros((20, 40), np.int32)
    true[2:18, 2:20], true[2:18, 20:38] = 1, 2
    correct = np.where(true == 1, 1, 0)
    touching = correct.copy()
    touching[2:18, 20] = 1  # one column of the neighbour
    a, b = (object_scores(contingency(true, m)) for m in (correct, touching))
    loss = {name: (a[name] - b[name]) / a[name] for name in a}
    assert loss["dice2"] > 0.25
    assert loss["pq"] < 0.06
    assert loss["dq"] == 0
    # DICE2 counts the neighbour's whole area against B
    assert a["dice2"] == 1
    assert b["dice2"] == pytest.approx(2 * (288 + 16) / (288 + 304 + 288 + 304))
    # AJI pairs the neighbour with the same prediction and counts its union a second time
    assert b["aji"] == pytest.approx((288 + 16) / (304 + 576))
    assert loss["aji"] > 5 * loss["pq"]


def test_pooled_panoptic_quality_adds_counts():
    assert panoptic_scores(PanopticCounts(3, 1, 2, 2.4)) == pytest.approx((6 / 9, 0.8, 6 / 9 * 0.8))
    table = contingency(np.array([[1, 1, 0, 2]]), np.array([[1, 1, 0, 0]]))
    assert panoptic_counts(table) == (1, 0, 1, 1.0)
    assert dice2(table) == 1


def test_pixel_scores_by_hand():
    # tp 2, fp 1, fn 3, tn 4
    true = np.array([[1, 1, 2, 2, 3, 0, 0, 0, 0, 0]])
    pred = np.array([[7, 7, 0, 0, 0, 9, 0, 0, 0, 0]])
    counts = pixel_counts(contingency(true, pred))
    assert counts == (2, 1, 3, 4)
    assert dice(counts) == pytest.approx(4 / 8)
    assert pixel_scores(counts) == pytest.approx(
        {
            "pixel_accuracy": 6 / 10,
            "pixel_iu": (2 / 6 + 4 / 8) / 2,
            "pixel_recall": 2 / 5,
            "pixel_precision": 2 / 3,
            "pixel_performance": (2 / 5 + 4 / 5) / 2,
        }
    )
    missed = pixel_scores(PixelCounts(tp=0, fp=0, fn=2, tn=8))
    assert (missed["pixel_recall"], missed["pixel_precision"], missed["pixel_accuracy"]) == (0, 0, 0.8)


def plain_hausdorff(true, pred):
    def farthest(a, b):
        return max(min(math.dist(p, q) for q in b) for p in a)

    def distance(a, b):
        a, b = np.argwhere(a).tolist(), np.argwhere(b).tolist()
        return max(farthest(a, b), farthest(b, a))

    dices, distances = [], []
    for a in true:
        cover = [(int((a & b).sum()), (a & b).sum() / (a | b).sum()) for b in pred]
        best = max(range(len(pred)), key=lambda j: (*cover[j], -j))
        if cover[best][0]:
            dices.append(2 * cover[best][0] / (a.sum() + pred[best].sum()))
            distances.append(distance(a, pred[best]))
        else:
            dices.append(0.0)
            distances.append(min(distance(a, b) for b in pred))
    return np.mean(dices), np.mean(distances)


@settings(deadline=None, max_examples=60)
@given(hnp.arrays(np.int32, (9, 8), elements=few_ids), hnp.arrays(np.int32, (9, 8), elements=few_ids))
def test_average_dice_and_hausdorff_distance_as_plain_code_does(true, pred):
    table = contingency(true, pred)
    if not table.n_true or not table.n_pred:
        return
    expected = plain_hausdorff(masks(true), masks(pred))
    assert (average_dice(table), average_hausdorff(table, true, pred)) == pytest.approx(expected, rel=1e-12)


def test_hausdorff_distance_into_a_hole():
    ring = np.ones((9, 9), np.int32)
    ring[2:7, 2:7] = 0
    whole = np.ones((9, 9), np.int32)
    assert average_hausdorff(contingency(whole, ring), whole, ring) == 3
    assert average_hausdorff(contingency(ring, whole), ring, whole) == 3


@pytest.mark.real_data
def test_golden_figures(golden_root):
    expected = json.loads((golden_root / "expected.json").read_text())["instance"]
    assert len(expected) == 5
    for name, figures in expected.items():
        maps = np.load(golden_root / f"instance_{name}.npz")
        table = contingency(maps["true"], maps["pred"])
        scores = object_scores(table) | {"n_true": table.n_true, "n_pred": table.n_pred}
        assert scores == pytest.approx(figures, abs=1e-6), name
        gaps = contingency(maps["true"].astype(np.uint32) * 70_001, maps["pred"].astype(np.int64) * 3)
        assert object_scores(gaps) == object_scores(table)
