"""The contingency table and the centroids against plain counting."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from benchmark.metrics.centroids import centres, label_centroids
from benchmark.metrics.contingency import contingency
from postproc.instances import Instances

DTYPES = [np.bool_, np.uint8, np.int8, np.uint16, np.int16, np.int32, np.uint32, np.int64, np.uint64]


def plain(true, pred):
    """Areas and overlaps as dictionaries keyed by the ids themselves."""
    areas = [{int(k): int((m == k).sum()) for k in np.unique(m) if k != 0} for m in (true, pred)]
    overlaps = {}
    for a, b in zip(true.ravel().tolist(), pred.ravel().tolist(), strict=True):
        if a and b:
            overlaps[a, b] = overlaps.get((a, b), 0) + 1
    return areas[0], areas[1], overlaps


def as_plain(table):
    pairs = zip(table.true_ids[table.true_index], table.pred_ids[table.pred_index], strict=True)
    return (
        dict(zip(table.true_ids.tolist(), table.true_area.tolist(), strict=True)),
        dict(zip(table.pred_ids.tolist(), table.pred_area.tolist(), strict=True)),
        {(int(a), int(b)): int(n) for (a, b), n in zip(pairs, table.intersection, strict=True)},
    )


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_counts_equal_plain_counting(data):
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=40))
    ids = st.sampled_from([0, 0, 1, 2, 3, 7, 60, 100])
    true = data.draw(hnp.arrays(np.int32, shape, elements=ids, fill=st.just(0)))
    pred = data.draw(hnp.arrays(np.int32, shape, elements=ids))
    pred = np.repeat(pred, 3, axis=1)[:, : shape[1]]  # runs of some length too
    table = contingency(true, pred)
    assert as_plain(table) == plain(true, pred)
    order = table.true_index * 1000 + table.pred_index
    assert (np.diff(order) > 0).all()
    assert table.pixels == true.size


def test_more_pairs_than_the_first_table_holds_and_runs_across_chunks():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 400, (300, 200)).astype(np.int32)
    pred = rng.integers(0, 300, (300, 200)).astype(np.int32)
    true[100:250] = 5  # longer than one chunk of px
    pred[100:250] = 6
    assert as_plain(contingency(true, pred)) == plain(true, pred)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_integer_dtype_gives_the_same_counts(dtype):
    true = np.array([[0, 1, 1, 0], [0, 1, 0, 0]])
    pred = np.array([[1, 1, 0, 0], [0, 1, 0, 0]])
    assert as_plain(contingency(true.astype(dtype), pred.astype(dtype))) == ({1: 3}, {1: 3}, {(1, 1): 2})


@pytest.mark.parametrize(
    ("dtype", "big"),
    [
        (np.uint16, 65_535),
        (np.int32, 70_000),
        (np.int32, 2**31 - 1),
        (np.uint32, 2**32 - 1),
        (np.int64, 2**60),
    ],
)
def test_ids_of_any_size(dtype, big):
    true = np.array([[0, 5, big], [0, 0, big]], dtype)
    pred = np.array([[big, 5, big], [3, 0, 0]], dtype)
    assert as_plain(contingency(true, pred)) == plain(true, pred)
    whole = np.full((2, 3), big, dtype)  # no background: the renumbering must not make one
    assert as_plain(contingency(whole, true)) == plain(whole, true)


def test_memory_layout_does_not_matter():
    rng = np.random.default_rng(1)
    true, pred = rng.integers(0, 9, (2, 30, 50)).astype(np.int32)
    expected = plain(true, pred)
    assert as_plain(contingency(np.asfortranarray(true), pred)) == expected
    assert as_plain(contingency(true[:, ::-1], pred[:, ::-1])) == expected


def test_empty_and_single_pixel_maps():
    table = contingency(np.zeros((0, 4), np.int32), np.zeros((0, 4), np.int32))
    assert (table.n_true, table.n_pred, table.pixels) == (0, 0, 0)
    assert as_plain(contingency(np.array([[9]]), np.array([[4]]))) == ({9: 1}, {4: 1}, {(9, 4): 1})


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\) annotated, \(3, 2\) predicted"):
        contingency(np.zeros((2, 3), np.int32), np.zeros((3, 2), np.int32))
    with pytest.raises(ValueError, match="float64"):
        contingency(np.zeros((2, 3)), np.zeros((2, 3), np.int32))
    for dtype in (np.int8, np.int32, np.int64):
        with pytest.raises(ValueError, match="negative id -2"):
            contingency(np.zeros((1, 2), np.int32), np.array([[0, -2]], dtype))


@settings(deadline=None, max_examples=40)
@given(hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=25), elements=st.integers(0, 6)))
def test_centroids_are_means_of_coordinates(labels):
    found = label_centroids(labels)
    assert found.shape == (labels.max(), 2)
    for k in range(1, labels.max() + 1):
        y, x = np.nonzero(labels == k)
        if y.size:
            assert found[k - 1].tolist() == [x.sum() / x.size, y.sum() / y.size]
        else:
            assert np.isnan(found[k - 1]).all()


def test_centroids_of_more_nuclei_than_the_first_table_holds():
    labels = np.arange(1, 2501, dtype=np.int32).reshape(50, 50)
    found = label_centroids(labels)
    assert found[0].tolist() == [0, 0]
    assert found[2499].tolist() == [49, 49]
    assert found[1234].tolist() == [34, 24]


def test_centres_prefer_points_and_agree_with_instances():
    labels = np.zeros((20, 30), np.int32)
    labels[3:9, 4:11], labels[10:15, 20:22] = 1, 2
    nuclei = Instances((20, 30), labels=labels)
    np.testing.assert_allclose(centres(nuclei), nuclei.centroids(), rtol=1e-6)
    points = np.array([[1, 2], [3, 4]], np.float32)
    assert centres(Instances((20, 30), labels=labels, points=points)).tolist() == points.tolist()
    assert centres(Instances((20, 30))).shape == (0, 2)


def test_scoring_modules_load_without_numba_or_torch():
    code = (
        "import sys, benchmark.results.scoring, benchmark.metrics.pooling, benchmark.metrics.image;"
        "print([m for m in ('numba', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
