"""Spans equal what a loop over the pixels finds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from postproc.instances import Instances
from postproc.pixels.labels import relabel
from postproc.pixels.spans import areas, coordinate_sums, draw_spans, find_spans

SEEDS = st.integers(0, 2**32 - 1)
DTYPES = (np.bool_, np.uint8, np.int32, np.int64, np.float32)


def draw_map(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 40, 2))
    labels = rng.integers(0, 4, shape)
    return np.where(ndimage.gaussian_filter(rng.normal(size=shape), seed % 3) > 0, labels, 2 * (seed % 2))


def runs_by_definition(image):
    found = []
    for y, row in enumerate(image):
        for x, value in enumerate(row):
            if value and x and row[x - 1] == value:
                found[-1][2] = x + 1
            elif value:
                found.append([y, x, x + 1])
    return found


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from(DTYPES))
def test_runs_equal_their_definition_and_draw_the_map(seed, dtype):
    image = draw_map(seed).astype(dtype)
    spans = find_spans(image)
    assert spans.place.tolist() == runs_by_definition(image)
    assert spans.value.dtype == image.dtype
    assert spans.value.tolist() == [image[y, x] for y, x, _ in spans.place]
    assert spans.first.tolist() == [sum(y < row for y, _, _ in spans.place) for row in range(len(image) + 1)]
    drawn = draw_spans(spans, spans.value, image.shape[1])
    np.testing.assert_array_equal(drawn, image)
    assert drawn.dtype == image.dtype


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_empty_maps_have_no_runs(shape):
    spans = find_spans(np.zeros(shape, np.int32))
    assert spans.place.shape == (0, 3)
    assert spans.first.tolist() == [0] * (shape[0] + 1)
    assert coordinate_sums(np.zeros(shape, np.int32)).tolist() == [[0, 0, 0]]


def test_transposed_maps_are_read_as_they_are_shown():
    image = draw_map(7).astype(np.int32)
    assert find_spans(image.T).place.tolist() == runs_by_definition(image.T)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_sums_and_centroids_equal_their_definition(seed):
    labels = draw_map(seed).astype(np.int32)
    sums = coordinate_sums(labels)
    assert len(sums) == labels.max() + 1
    for k in range(1, len(sums)):
        y, x = np.nonzero(labels == k)
        assert sums[k].tolist() == [len(x), x.sum(), y.sum()]
    spans = find_spans(labels)
    np.testing.assert_array_equal(areas(spans, spans.value, labels.max())[1:], sums[1:, 0])
    compact = relabel(labels)[0]
    expected = [[x.mean(), y.mean()] for y, x in (np.nonzero(compact == k) for k in range(1, compact.max() + 1))]
    centroids = Instances(labels.shape, labels=compact).centroids()
    assert centroids.dtype == np.float32
    np.testing.assert_array_equal(centroids, np.reshape(expected, (-1, 2)).astype(np.float32))


def test_centroids_of_a_missing_id_lie_at_zero():
    labels = np.int32([[0, 2, 2, 0]])
    assert Instances((1, 4), labels=labels).centroids().tolist() == [[0, 0], [1.5, 0]]
