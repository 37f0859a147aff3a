"""The confusion of the types: against a plain implementation, and in agreement with the other counts."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from benchmark.metrics.assignment import Pairing, published_pairing
from benchmark.metrics.classification import classification_counts, confusion_counts, confusion_matrix
from benchmark.metrics.image import score_image
from benchmark.metrics.pooling import summarise
from benchmark.results.scoring import score_folders
from datamodules.reading.files import write_mat
from datamodules.synthetic.images import generate
from postproc.instances import Instances
from postproc.pixels.labels import relabel

TYPES = 3


def plain(true, pred, pairs, types):
    """Count nucleus by nucleus."""
    partner = dict(zip(pairs.true.tolist(), pairs.pred.tolist(), strict=True))
    taken = set(partner.values())
    order = [*range(1, types + 1), 0]
    matrix = np.zeros((types + 2, types + 2))
    for k, kind in enumerate(true.tolist()):
        column = order.index(pred[partner[k]] if pred[partner[k]] <= types else 0) if k in partner else types + 1
        matrix[order.index(kind), column] += 1
    for k, kind in enumerate(pred.tolist()):
        if k not in taken:
            matrix[-1, order.index(kind if kind <= types else 0)] += 1
    matrix[-1, -1] = np.nan
    return matrix


def random_case(seed):
    rng = np.random.default_rng(seed)
    n, m = rng.integers(0, 30, 2)
    p = rng.integers(0, min(n, m) + 1)
    pairs = Pairing(rng.permutation(n)[:p], rng.permutation(m)[:p], np.zeros(p))
    return rng.integers(0, TYPES + 1, n), rng.integers(0, TYPES + 3, m), pairs


@pytest.mark.parametrize("seed", range(30))
def test_every_nucleus_is_counted_once(seed):
    true, pred, pairs = random_case(seed)
    counts = confusion_counts(true, pred, pairs, TYPES)
    matrix = confusion_matrix(counts, TYPES)
    np.testing.assert_array_equal(matrix, plain(true, pred, pairs, TYPES))
    assert np.nansum(matrix[:-1]) == len(true)
    assert np.nansum(matrix[:, :-1]) == len(pred)


@pytest.mark.parametrize("seed", range(10))
def test_the_confusion_agrees_with_the_counts_of_the_scores(seed):
    true, pred, pairs = random_case(100 + seed)
    counts = classification_counts(true, pred, pairs, TYPES)
    matrix = confusion_matrix(confusion_counts(true, pred, pairs, TYPES), TYPES)
    typed = matrix[:TYPES, :TYPES]
    assert np.trace(typed) == counts["n_correct"]
    assert matrix[:TYPES, :-1].sum() - np.trace(typed) == counts["n_wrong"]  # rows of annotated types alone
    for t in range(1, TYPES + 1):
        k = t - 1
        assert typed[k, k] == counts[f"n_tp_c_{t}"]
        assert typed[:, k].sum() - typed[k, k] == counts[f"n_fp_c_{t}"]
        assert matrix[k, :-1].sum() - typed[k, k] == counts[f"n_fn_c_{t}"]
        assert (matrix[-1, k], matrix[k, -1]) == (counts[f"n_fp_d_{t}"], counts[f"n_fn_d_{t}"])


def test_without_its_counts_there_is_no_matrix():
    true, pred, pairs = random_case(0)
    counts = confusion_counts(true, pred, pairs, TYPES)
    assert confusion_matrix(classification_counts(true, pred, pairs, TYPES), TYPES) is None
    assert confusion_matrix(counts, TYPES + 1) is None
    del counts["n_missed_0"]
    assert confusion_matrix(counts, TYPES) is None


def nuclei(seed, gaps=False):
    truth = generate((160, 160), np.random.default_rng(seed), density=2e-3)[1]
    if not gaps:
        return truth
    keep = np.arange(truth.count) % 3 != 0  # ids with gaps, given new numbers
    labels, types, _ = relabel(np.where(np.isin(truth.labels - 1, np.flatnonzero(keep)), truth.labels, 0), truth.types)
    return dataclasses.replace(truth, labels=labels, types=types)


def test_images_add_up_and_numbers_of_nuclei_do_not_matter(tmp_path):
    pairs = [(nuclei(seed), nuclei(seed, gaps=True)) for seed in (0, 1)]
    rows = [score_image(true, pred, radius=12, types=4) for true, pred in pairs]
    total = pd.DataFrame(rows).sum()
    pooled = confusion_matrix(total.to_dict(), 4)
    expected = sum(
        plain(true.types, pred.types, published_pairing(true.centroids(), pred.centroids(), 12), 4)
        for true, pred in pairs
    )
    np.testing.assert_array_equal(pooled, expected)
    assert pooled[:4, -1].sum() > 0
    for true, pred in pairs[:1]:
        order = np.random.default_rng(0).permutation(true.count)
        number = np.concatenate([[0], np.argsort(order) + 1])
        mixed = dataclasses.replace(true, labels=number[true.labels].astype(np.int32), types=true.types[order])
        again = score_image(mixed, pred, radius=12, types=4)
        assert {k: v for k, v in again.items() if k.startswith(("n_pair", "n_missed", "n_extra"))} == {
            k: v for k, v in rows[0].items() if k.startswith(("n_pair", "n_missed", "n_extra"))
        }
    for side, kind in (("truth", 0), ("pred", 1)):
        (tmp_path / side).mkdir()
        for k, pair in enumerate(pairs):
            write_mat(tmp_path / side / f"{k}.mat", pair[kind])
    table = score_folders(tmp_path / "truth", tmp_path / "pred")
    assert not [name for name in table.columns if name.startswith("n_")], "a table to read has scores alone"
    assert summarise(pd.DataFrame(rows))["F_d"] == pytest.approx(table.set_index("image").loc["all", "F_d"])


def test_points_without_a_type_are_a_row_of_their_own():
    truth = Instances((64, 64), points=np.array([[5, 5], [30, 30], [50, 50]], np.float32), types=np.array([1, 0, 0]))
    found = Instances((64, 64), points=np.array([[6, 5], [31, 30], [10, 60]], np.float32), types=np.array([2, 2, 1]))
    matrix = confusion_matrix(score_image(truth, found, radius=6, types=2), 2)
    assert matrix[:, :3].tolist() == [[0, 1, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0]]
    assert matrix[:3, 3].tolist() == [0, 0, 1]
