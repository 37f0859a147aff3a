"""Region growing of patch classifiers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from postproc.codecs.region_growing import (
    BOUNDARY,
    INSIDE,
    OUTSIDE,
    BoundaryCodec,
    ForegroundCodec,
    ForegroundParams,
    GrowingParams,
    grow,
)
from postproc.errors import ConfigError, DataError
from postproc.instances import Instances

CODECS = [BoundaryCodec(), ForegroundCodec()]


def touching() -> Instances:
    """Two discs that touch each other, and one apart."""
    labels = np.zeros((50, 80), np.int32)
    for index, x in enumerate((15, 36, 65)):
        cv2.circle(labels, (x, 25), 10, index + 1, -1)
    return Instances(labels.shape, labels=labels)


@pytest.mark.parametrize("codec", CODECS)
def test_round_trip_keeps_touching_nuclei_apart(codec: BoundaryCodec | ForegroundCodec) -> None:
    truth = touching()
    found = codec.decode(codec.perfect(codec.encode(truth)), codec.defaults())  # type: ignore[arg-type]
    assert found.labels is not None
    assert truth.labels is not None
    assert found.count == 3
    for label in range(1, 4):
        mask = truth.labels == label
        other = found.labels == np.bincount(found.labels[mask]).argmax()
        assert (mask & other).sum() / (mask | other).sum() > 0.93


def test_boundary_lies_inside_and_is_as_thick_as_asked() -> None:
    labels = np.zeros((20, 20), np.int32)
    labels[4:14, 4:14] = 1
    classes = BoundaryCodec(2).encode(Instances(labels.shape, labels=labels))["classes"]
    assert classes.dtype == np.int64
    assert ((classes != OUTSIDE) == (labels > 0)).all()
    assert (classes[6:12, 6:12] == INSIDE).all()
    assert (classes == INSIDE).sum() == 36
    assert (BoundaryCodec(3).encode(Instances(labels.shape, labels=labels))["classes"] == INSIDE).sum() == 16


def test_a_thin_nucleus_keeps_an_inside() -> None:
    labels = np.zeros((12, 12), np.int32)
    labels[4:7, 2:9] = 1
    classes = BoundaryCodec(2).encode(Instances(labels.shape, labels=labels))["classes"]
    assert (classes[5, 3:8] == INSIDE).all()
    assert (classes == BOUNDARY).sum() == 21 - 5


def test_growth_stops_behind_the_maximum_of_the_boundary() -> None:
    profile = np.array([0.2, 0.6, 0.9, 0.5, 0.5, 0.5], np.float32)
    boundary = np.zeros((1, 20), np.float32)
    boundary[0, 8:14] = profile
    seeds = np.zeros((1, 20), np.int32)
    seeds[0, 5:8] = 1
    nuclear = np.zeros((1, 20), bool)
    nuclear[0, 5:14] = True
    assert grow(seeds, boundary, nuclear, steps=9, fall=0.75)[0].nonzero()[0].max() == 10
    assert grow(seeds, boundary, nuclear, steps=9, fall=0.5)[0].nonzero()[0].max() == 13
    assert grow(seeds, boundary, nuclear, steps=2, fall=0.5)[0].nonzero()[0].max() == 9
    assert seeds.max() == 1
    assert (seeds > 0).sum() == 3  # the argument is left alone


def test_regions_meet_half_way() -> None:
    seeds = np.zeros((3, 12), np.int32)
    seeds[:, :2], seeds[:, -2:] = 1, 2
    labels = grow(seeds, np.ones((3, 12), np.float32), np.ones((3, 12), bool), steps=8, fall=0.75)
    np.testing.assert_array_equal(labels[1], [1] * 6 + [2] * 6)


def test_small_seeds_are_dropped_and_holes_filled() -> None:
    inside = np.zeros((20, 20), np.float32)
    inside[2:10, 2:10] = 1
    inside[5, 5] = 0
    inside[15, 15] = 1
    found = ForegroundCodec().decode({"classes": np.stack([1 - inside, inside])}, ForegroundParams(smallest=5))
    assert found.count == 1
    assert found.labels is not None
    assert found.labels[5, 5] == 1
    maps = {"classes": np.stack([1 - inside, inside, np.zeros_like(inside)])}
    assert BoundaryCodec().decode(maps, GrowingParams(smallest=5)).count == 1
    assert BoundaryCodec().decode(maps, GrowingParams(smallest=1)).count == 2


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ConfigError, match="boundary"):
        BoundaryCodec(0)
    for codec in CODECS:
        with pytest.raises(DataError, match="outlines"):
            codec.encode(Instances((4, 4), points=np.zeros((1, 2), np.float32)))


def grow_over_the_image(
    seeds: np.ndarray, boundary: np.ndarray, nuclear: np.ndarray, steps: int, fall: float
) -> np.ndarray:
    """Visit every pixel in every step."""
    labels = seeds.copy()
    best = np.zeros(seeds.max() + 1)
    active = np.ones(len(best), bool)
    for _ in range(steps):
        layer = np.zeros_like(labels)
        for y, x in np.argwhere((labels == 0) & nuclear):
            near = labels[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
            near = near[(near > 0) & active[near]]
            layer[y, x] = np.bincount(near).argmax() if near.size else 0
        size = np.bincount(layer.ravel(), minlength=len(best))
        mean = np.bincount(layer.ravel(), boundary.ravel(), minlength=len(best)) / np.maximum(size, 1)
        active &= (size > 0) & (mean >= fall * best)
        active[0] = False
        best = np.maximum(best, mean)
        labels = np.where(active[layer], layer, labels)
    return labels


@pytest.mark.parametrize("seed", range(5))
def test_growing_equals_growing_over_the_whole_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    seeds = np.zeros((40, 50), np.int32)
    seeds.flat[rng.permutation(seeds.size)[:30]] = rng.permutation(30) + 1
    boundary = rng.random(seeds.shape).astype(np.float32)
    nuclear = rng.random(seeds.shape) < 0.8
    for fall in (0.5, 0.9):
        expected = grow_over_the_image(seeds, boundary, nuclear, 5, fall)
        np.testing.assert_array_equal(grow(seeds, boundary, nuclear, 5, fall), expected)
    assert (expected > 0).sum() > 100
