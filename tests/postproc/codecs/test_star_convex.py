"""Star-convex polygons: rays, filling, competition, and the way there and back."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.metrics.contingency import contingency
from benchmark.metrics.image import object_scores
from benchmark.registry import dataset_class
from datamodules.synthetic.images import generate
from postproc.codecs.star_convex import StarConvexCodec, StarConvexParams, object_probability
from postproc.errors import ConfigError, DataError
from postproc.instances import Instances
from postproc.pixels.polygons import gather_radii, paint, ray_distances
from postproc.pixels.suppression import suppress

RAYS = 8


def plain_mask(row: int, column: int, radii: np.ndarray, shape: tuple[int, int], pad: int = 0) -> np.ndarray:
    """Even-odd rule in an image that is `pad` px larger on each side."""
    corners = [
        (
            column + pad + float(r) * round(math.cos(2 * math.pi * k / len(radii)), 12),
            row + pad + float(r) * round(math.sin(2 * math.pi * k / len(radii)), 12),
        )
        for k, r in enumerate(radii)
    ]
    y, x = np.indices((shape[0] + 2 * pad, shape[1] + 2 * pad))
    mask = np.zeros(y.shape, bool)
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        if y0 != y1:
            mask ^= ((y0 <= y) != (y1 <= y)) & (x0 + (y - y0) / (y1 - y0) * (x1 - x0) > x)
    return mask


def polygons(seed: int, count: int = 12, side: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    places = rng.permutation(side * side)[:count]
    # irrational radii: no px lies on an outline, where both ways to count would be right
    return places // side, places % side, (rng.random((count, RAYS)) * 6 + 0.7).astype(np.float32)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_painting_is_the_even_odd_rule_with_the_first_on_top(seed: int) -> None:
    rows, columns, radii = polygons(seed, count=5, side=20)
    expected = np.zeros((20, 20), np.int32)
    for i in reversed(range(5)):
        expected[plain_mask(rows[i], columns[i], radii[i], (20, 20))] = i + 1
    np.testing.assert_array_equal(paint(rows, columns, radii, (20, 20)), expected)


def greedy(rows: np.ndarray, columns: np.ndarray, radii: np.ndarray, side: int, overlap: float) -> list[int]:
    """Compare every polygon with all kept ones, by their masks."""
    pad = int(radii.max()) + 2
    masks = [plain_mask(*polygon, (side, side), pad=pad) for polygon in zip(rows, columns, radii, strict=True)]
    kept: list[int] = []
    for i, mask in enumerate(masks):
        common = [(mask & masks[k]).sum() for k in kept]
        limits = [overlap * min(mask.sum(), masks[k].sum()) for k in kept]
        if all(c <= limit for c, limit in zip(common, limits, strict=True)):
            kept.append(i)
    return kept


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.2, 0.5]))
def test_suppression_is_greedy_over_all_pairs(seed: int, overlap: float) -> None:
    rows, columns, radii = polygons(seed)
    expected = greedy(rows, columns, radii, 30, overlap)
    np.testing.assert_array_equal(np.flatnonzero(suppress(rows, columns, radii, (30, 30), overlap)), expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.1, 0.4, 0.7, 1.0]), st.sampled_from([3, 8, 32]))
@pytest.mark.slow
def test_suppression_is_greedy_whatever_the_sizes_and_shapes(seed: int, overlap: float, rays: int) -> None:
    rng = np.random.default_rng(seed)
    side, count = 64, 40
    nuclei = rng.integers(0, side, (6, 2))
    places = np.clip(nuclei[rng.integers(0, 6, count)] + rng.integers(-6, 7, (count, 2)), 0, side - 1)
    size = np.exp(rng.normal(2, 0.7, (count, 1)))  # from a few px to most of the image
    radii = size * np.exp(rng.normal(0, rng.choice([0.02, 0.2, 0.6]), (count, rays)))
    spikes = rng.random(radii.shape) < 0.01
    radii[spikes] = rng.uniform(60, 120, spikes.sum())  # single rays that are far too long
    radii[rng.random(radii.shape) < 0.02] = 0.07  # not 0: no pixel may be exactly on an outline
    rows, columns = places.T
    expected = greedy(rows, columns, radii.astype(np.float32), side, overlap)
    found = suppress(rows, columns, radii.astype(np.float32), (side, side), overlap)
    np.testing.assert_array_equal(np.flatnonzero(found), expected)


def test_a_pixel_at_which_an_outline_touches_itself_counts_once() -> None:
    # the notch at (4, 5) is a pixel of two stretches of its row, which meet there
    notched = np.array([[4, 6, 1, 6, 4, 6, 4, 6], [4, 6, 1, 6, 4, 6, 4, 6]], np.float32)
    places = np.array([4, 4])
    assert suppress(places, places, notched, (9, 9), 1.0).all()  # identical polygons share all pixels, no more


def test_distances_are_gathered_in_the_order_asked_for() -> None:
    rays = np.random.default_rng(0).normal(3, 4, (5, 6, 7)).astype(np.float32)
    rows, columns = np.nonzero(rays[0] > 2)
    order = np.random.default_rng(1).permutation(rows.size)
    expected = np.clip(rays[:, rows[order], columns[order]].T, 0, 7)
    np.testing.assert_array_equal(gather_radii(rays, rows, columns, order, 7), expected)


def test_rays_end_half_a_step_before_the_first_px_of_something_else() -> None:
    labels = np.zeros((9, 11), np.int32)
    labels[2:7, 2:9] = 1
    labels[4, 7] = 2
    rays = ray_distances(labels, RAYS)[:, 4, 4]
    diagonal = 2.5 * math.sqrt(2)
    np.testing.assert_allclose(rays, [2.5, diagonal, 2.5, diagonal, 2.5, diagonal, 2.5, diagonal], rtol=1e-6)
    assert not ray_distances(labels, RAYS)[:, labels == 0].any()


def test_a_nucleus_at_the_border_is_cut_off_there() -> None:
    labels = np.ones((5, 5), np.int32)
    np.testing.assert_allclose(ray_distances(labels, 4)[:, 2, 2], 2.5)
    assert object_probability(labels)[2, 2] == 1


def test_the_probability_is_one_where_a_nucleus_is_widest() -> None:
    labels = np.zeros((20, 30), np.int32)
    labels[3:10, 3:10] = 1
    labels[3:16, 10:25] = 2
    probability = object_probability(labels)
    for label in (1, 2):
        assert probability[labels == label].max() == 1
    assert probability[6, 6] == 1
    assert probability[9, 9] < 0.5
    assert not probability[labels == 0].any()


def test_synthetic_nuclei_come_back() -> None:
    _, truth = generate((200, 200), np.random.default_rng(3))
    codec = StarConvexCodec()
    found = codec.decode(codec.perfect(codec.encode(truth)), codec.defaults())
    assert found.scores is not None
    assert found.scores.min() >= codec.defaults().probability
    assert truth.labels is not None
    assert found.labels is not None
    assert object_scores(contingency(truth.labels, found.labels))["pq"] >= 0.9


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["kumar", "consep"])
def test_real_nuclei_come_back(data_root: Path, name: str) -> None:
    data = dataset_class(name)(data_root / name)
    truth = data.read(data.select("test")[0]).truth
    codec = StarConvexCodec()
    found = codec.decode(codec.perfect(codec.encode(truth)), codec.defaults())
    assert truth.labels is not None
    assert found.labels is not None
    assert object_scores(contingency(truth.labels, found.labels))["pq"] >= 0.9


def test_nothing_gives_nothing() -> None:
    codec = StarConvexCodec(RAYS)
    maps = {"probability": np.zeros((1, 12, 14), np.float32), "rays": np.zeros((RAYS, 12, 14), np.float32)}
    assert codec.decode(maps, StarConvexParams()).count == 0
    wild = {"probability": np.ones((1, 12, 14), np.float32), "rays": np.full((RAYS, 12, 14), 1e9, np.float32)}
    assert codec.decode(wild, StarConvexParams()).shape == (12, 14)  # polygons far larger than the image


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 3"):
        StarConvexCodec(2)
    with pytest.raises(DataError, match="outlines"):
        StarConvexCodec().encode(Instances((4, 4), points=np.zeros((0, 2), np.float32)))


def test_distances_of_a_diverged_network_do_not_leave_the_image() -> None:
    wild = np.array([np.nan, np.inf, -np.inf, -1, 5], np.float32).reshape(5, 1, 1)
    zero = np.zeros(1, np.int64)
    np.testing.assert_array_equal(gather_radii(wild, zero, zero, zero, 10), [[0, 10, 0, 0, 5]])
    rng = np.random.default_rng(0)
    for value in (np.nan, np.inf, -np.inf):
        rays = rng.uniform(2, 4, (RAYS, 20, 30)).astype(np.float32)
        rays[:, 3, 4] = rays[2, 10] = value
        for maps in (rays, np.full_like(rays, value)):
            found = StarConvexCodec(RAYS).decode(
                {"probability": rng.random((1, 20, 30)), "rays": maps}, StarConvexParams()
            )
            assert found.labels is not None
            assert found.labels.shape == (20, 30)
