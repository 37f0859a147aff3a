"""Augmentation and crops: image, outlines, points, types and regions move together."""

from __future__ import annotations

import dataclasses
import pickle

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.drawing.augment import POLICIES, Policy, _geometry, augment, build_policy
from datamodules.drawing.parts import BORDER, split_parts
from datamodules.drawing.transforms import CoarseElastic, StainJitter, mirrored
from datamodules.synthetic.images import generate
from postproc.errors import ConfigError
from postproc.instances import Instances

BUILT = {name: build_policy(name) for name in POLICIES}
RIGID = [name for name, policy in BUILT.items() if policy.rigid and policy.geometry is not None]
FREE = [name for name, policy in BUILT.items() if not policy.rigid]
DEFORMED = ["dist", "naylor-2017"]


@pytest.fixture(scope="module")
def ihc():
    return generate((128, 128), np.random.default_rng(0), stain="ihc", density=1e-3)


def encoded(labels):
    """Write ids below 256 into an image, in steps of 16 grey levels."""
    return np.stack([labels % 16 * 16, labels // 16 % 16 * 16, (labels > 0) * 240], axis=-1).astype(np.uint8)


def flat(labels):
    """Pixels whose 5 x 5 neighbourhood lies in one nucleus or in the background."""
    grid, window = labels.astype(np.float32), np.ones((5, 5))
    return cv2.dilate(grid, window) == cv2.erode(grid, window)


def geometry_only(name):
    return dataclasses.replace(BUILT[name], appearance=None)


def same(a, b):
    fields = ("labels", "points", "types", "regions")
    return all(np.array_equal(getattr(a, f), getattr(b, f)) for f in fields if getattr(a, f) is not None)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_every_policy_keeps_types_shapes_and_numbering(name, ihc):
    image, truth = ihc
    before = pickle.dumps((image, truth))
    changed = 0
    for seed in range(8):
        out, moved = augment(BUILT[name], image, truth, np.random.default_rng(seed))
        assert out.dtype == np.uint8
        assert out.shape == image.shape
        assert out.flags.c_contiguous
        assert moved.labels.flags.c_contiguous
        assert (moved.labels.dtype, moved.types.dtype, moved.regions.dtype) == (np.int32, np.int64, np.uint8)
        np.testing.assert_array_equal(np.unique(moved.labels), np.arange(moved.count + 1))
        assert set(np.unique(moved.regions)) <= {0, 1, 2}
        changed += not np.array_equal(out, image)
    assert pickle.dumps((image, truth)) == before
    assert changed >= (0 if name == "none" else 6)


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_the_seed_decides_everything(name, ihc):
    first, again = BUILT[name], pickle.loads(pickle.dumps(BUILT[name]))
    augment(first, *ihc, np.random.default_rng(99))  # a call before must leave no trace
    results = set()
    for seed in range(5):
        (a, s), (b, t) = (augment(p, *ihc, np.random.default_rng(seed)) for p in (first, again))
        np.testing.assert_array_equal(a, b)
        assert same(s, t)
        results.add(a.tobytes())
    assert len(results) > (0 if name == "none" else 2)


@pytest.mark.parametrize("name", RIGID)
def test_right_angles_permute_the_pixels(name):
    grid = np.arange(1, 48 * 48 + 1, dtype=np.int32).reshape(48, 48)
    image = np.stack([grid % 256, grid // 256, grid % 7], axis=-1).astype(np.uint8)
    truth = Instances((48, 48), labels=grid, types=grid.ravel() % 4 + np.int64(1))
    seen = set()
    for seed in range(60):
        out, moved = augment(geometry_only(name), image, truth, np.random.default_rng(seed))
        np.testing.assert_array_equal(np.sort(moved.labels, axis=None), np.arange(1, 48 * 48 + 1))
        rows = moved.labels.ravel() - 1
        np.testing.assert_array_equal(out.reshape(-1, 3), image.reshape(-1, 3)[rows])
        np.testing.assert_array_equal(moved.types, truth.types)
        seen.add((moved.labels[0, 0], moved.labels[0, -1]))
    assert len(seen) == 8  # all symmetries of the square


@pytest.mark.parametrize("name", [*RIGID, *FREE])
def test_image_and_outlines_stay_aligned(name):
    _, truth = generate((160, 160), np.random.default_rng(1), density=9e-4)
    image = encoded(truth.labels)
    for seed in range(6):
        out, moved = augment(geometry_only(name), image, truth, np.random.default_rng(seed))
        inner = flat(moved.labels) & (moved.labels > 0)
        assert inner.sum() > 500
        code = np.rint(out[inner] / 16).astype(int)
        old = code[:, 0] + 16 * code[:, 1]
        new = moved.labels[inner]
        # where no edge is near, the image says the former id exactly, and one former id per new id
        assert np.mean(out[inner] == encoded(old[:, None])[:, 0]) > 0.995
        for k in np.unique(new):
            ids, votes = np.unique(old[new == k], return_counts=True)
            # tips a px wide show in the interpolated image though the nearest neighbour skips them
            assert votes.max() >= 0.9 * votes.sum()
            assert moved.types[k - 1] == truth.types[ids[votes.argmax()] - 1]
        edge = np.mean((out[..., 2] > 120) == (moved.labels > 0))
        assert edge > 0.985  # no systematic shift: the outlines agree to less than a pixel


@pytest.mark.parametrize("name", [*RIGID, *FREE])
@pytest.mark.parametrize("ids", [600, 70_000])
def test_any_number_of_ids_survives(name, ids):
    truth = Instances((24, 24), labels=np.zeros((24, 24), np.int32))
    truth.labels[:] = np.arange(ids - 575, ids + 1).reshape(24, 24)  # a stretch of large ids, as in a huge map
    moved = augment(geometry_only(name), np.zeros((24, 24, 3), np.uint8), truth, np.random.default_rng(3))[1]
    if name in RIGID:
        np.testing.assert_array_equal(np.sort(moved.labels, axis=None), np.sort(truth.labels, axis=None))
    else:
        assert moved.count > 250
        # a second copy of a pixel is a torn part, which becomes background
        ids_left = np.unique(moved.labels[moved.labels > 0])
        np.testing.assert_array_equal(ids_left, np.arange(1, moved.count + 1))


def discs(centres, size):
    labels = np.zeros((size, size), np.int32)
    for k, (x, y) in enumerate(centres):
        cv2.circle(labels, (int(x), int(y)), 3, k + 1, -1)
    return labels


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from([*RIGID, *FREE]),
    seed=st.integers(0, 2**32 - 1),
    cells=st.lists(st.integers(0, 63), min_size=1, max_size=20, unique=True),
)
def test_points_and_types_follow_the_nuclei(name, seed, cells):
    centres = np.array([(8 + 16 * (c % 8), 8 + 16 * (c // 8)) for c in cells], np.float32)
    types = np.array([c % 5 + 1 for c in cells], np.int64)
    labels = discs(centres, 128)
    image = np.zeros((128, 128, 3), np.uint8)
    policy = geometry_only(name)
    by_labels = augment(policy, image, Instances((128, 128), labels=labels, types=types), np.random.default_rng(seed))[
        1
    ]
    by_points = augment(policy, image, Instances((128, 128), points=centres, types=types), np.random.default_rng(seed))[
        1
    ]
    assert by_points.points.dtype == np.float32
    assert ((by_points.points >= 0) & (by_points.points <= 127)).all()
    # what the border cuts has another centre; a deformation resamples again, so a cut nucleus may move inwards
    margin = 24 if name in DEFORMED else 8
    whole = ((by_labels.centroids() > margin) & (by_labels.centroids() < 127 - margin)).all(axis=1)
    for point, kind in zip(by_labels.centroids()[whole], by_labels.types[whole], strict=True):
        distance = np.linalg.norm(by_points.points - point, axis=1)
        # mirrored copies have points as well, and each point has its nucleus' type
        assert distance.min() < 0.75
        assert by_points.types[distance.argmin()] == kind
    for point, kind in zip(by_points.points, by_points.types, strict=True):
        x, y = np.rint(point).astype(int)
        if 4 <= x < 124 and 4 <= y < 124:
            assert by_labels.labels[y, x] > 0
            assert by_labels.types[by_labels.labels[y, x] - 1] == kind


@pytest.mark.parametrize("name", [*RIGID, *FREE])
def test_regions_move_with_the_image(name):
    regions = np.zeros((96, 96), np.uint8)
    regions[10:60, 20:50], regions[60:90, 50:90] = 1, 2
    image = np.repeat(regions[..., None] * 100, 3, axis=2)
    agree = []
    for seed in range(5):
        out, moved = augment(
            geometry_only(name), image, Instances((96, 96), regions=regions), np.random.default_rng(seed)
        )
        inner = flat(moved.regions)
        agree.append(np.abs(out[inner][:, 0] - moved.regions[inner] * 100.0) <= 12)
    assert np.mean(np.concatenate(agree)) > 0.999  # a deformation takes the nearest px twice
    assert moved.labels is None
    assert moved.points is None


def test_detection_without_types_or_points():
    image = np.zeros((64, 64, 3), np.uint8)
    for policy in BUILT.values():
        none = Instances((64, 64), points=np.zeros((0, 2), np.float32), types=np.zeros(0, np.int64))
        assert augment(policy, image, none, np.random.default_rng(0))[1].count == 0
        one = Instances((64, 64), points=np.array([[32, 32]], np.float32))
        moved = augment(policy, image, one, np.random.default_rng(0))[1]
        assert moved.count == 1
        assert moved.types is None
        assert augment(policy, image, Instances((64, 64)), np.random.default_rng(0))[1] == Instances((64, 64))


def test_mirrored_copies_are_nuclei_of_their_own():
    labels = np.zeros((12, 12), np.int32)
    labels[1:3, 1:3] = labels[8:10, 8:10] = 2  # one id twice
    labels[5, 5] = labels[6, 6] = 5  # joined at a corner; ids 1, 3 and 4 are missing
    split, types = split_parts(labels, np.array([7, 8, 9, 10, 11]))
    assert split.dtype == np.int32
    assert types.tolist() == [8, 8, 11]
    assert sorted({int(split[1, 1]), int(split[8, 8])}) == [1, 2]
    assert split[5, 5] == split[6, 6] == 3
    np.testing.assert_array_equal(split > 0, labels > 0)


def test_torn_tips_are_no_nuclei_but_pieces_at_the_border_are():
    labels = np.zeros((20, 20), np.int32)
    labels[5:10, 5:10] = labels[5, 12] = labels[0:2, 15] = 1  # a nucleus, a torn tip, a piece at the border
    labels[15, 4] = 2  # all there is of another nucleus
    split, types = split_parts(labels, np.array([3, 4]), least=10)
    assert split[5, 12] == 0
    assert sorted({int(split[0, 15]), int(split[7, 7])}) == [1, 2]
    assert split[15, 4] == 3
    assert types.tolist() == [3, 3, 4]


def uncut_errors(policy, seed):
    """Distance in px from the centroid of each nucleus that does not touch the rim to the nearest point."""
    centres = np.array([(8 + 16 * (c % 8), 8 + 16 * (c // 8)) for c in range(64)], np.float32)
    labels, image = discs(centres, 128), np.zeros((128, 128, 3), np.uint8)
    maps, points = (
        augment(policy, image, truth, np.random.default_rng(seed))[1]
        for truth in (Instances((128, 128), labels=labels), Instances((128, 128), points=centres))
    )
    rim = {*maps.labels[[0, -1]].ravel(), *maps.labels[:, [0, -1]].ravel()}
    uncut = [k for k in range(maps.count) if k + 1 not in rim]
    return np.linalg.norm(maps.centroids()[uncut, None] - points.points[None], axis=2).min(axis=1)


@pytest.mark.parametrize("name", ["kinet", "hovernet"])
def test_every_uncut_nucleus_has_its_point_in_the_middle(name):
    for seed in range(25):
        # mirrored copies included: a rule of mirroring that is off by one would show here
        assert uncut_errors(geometry_only(name), seed).max() < 0.75


@pytest.mark.parametrize("seed", [58, 87, 90, 103, 117])
def test_deformation_leaves_no_torn_tips(seed):
    policy = Policy("elastic", "", _geometry(CoarseElastic(p=1.0)), reach=1.2)
    assert uncut_errors(policy, seed).max() < 0.75  # these seeds tear a tip of one px off a nucleus


def test_stain_jitter_is_the_deconvolution_of_ruifrok_and_johnston():
    stains = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105]])
    stains = np.vstack([stains, np.cross(*stains)])
    stains /= np.linalg.norm(stains, axis=1, keepdims=True)
    image = np.random.default_rng(0).integers(60, 200, (20, 30, 3)).astype(np.uint8)
    gain, offset = np.array([1.15, 0.9, 1.05]), np.array([0.03, -0.04, 0.01])
    concentration = -np.log(image / 255) @ np.linalg.inv(stains)
    expected = 255 * np.exp(-(concentration * gain + offset) @ stains)
    out = StainJitter().apply(image, gain=gain, offset=offset)
    np.testing.assert_allclose(out.astype(float), np.clip(expected, 0, 255), atol=0.51)
    unchanged = StainJitter().apply(image, gain=np.ones(3), offset=np.zeros(3))
    np.testing.assert_array_equal(unchanged, image)
    extreme = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    np.testing.assert_array_equal(StainJitter().apply(extreme, gain=np.ones(3), offset=np.zeros(3))[0, 1], 255)


@pytest.mark.parametrize("name", ["stain", "dist"])
def test_stain_policies_change_colour_within_reason(name, ihc):
    image = ihc[0]
    policy = dataclasses.replace(BUILT[name], geometry=None)
    shifts = [
        augment(policy, image, ihc[1], np.random.default_rng(k))[0].mean(axis=(0, 1)) - image.mean(axis=(0, 1))
        for k in range(12)
    ]
    assert 2 < np.abs(shifts).mean() < 40


def test_mirrored_points_lie_where_mirrored_pixels_lie():
    height, width = 9, 14
    points = np.array([[0, 0], [13, 8], [3, 5], [6, 1]], np.float32)
    marks = np.zeros((height, width), np.uint8)
    marks[points[:, 1].astype(int), points[:, 0].astype(int)] = 1
    padded = cv2.copyMakeBorder(marks, height, height, width, width, BORDER)
    np.testing.assert_array_equal(padded, np.pad(marks, ((height,) * 2, (width,) * 2), mode="symmetric"))
    copies = mirrored(points, (height, width)).astype(int) + np.array([width, height])
    drawn = np.zeros_like(padded)
    drawn[copies[:, 1], copies[:, 0]] = 1
    np.testing.assert_array_equal(drawn, padded)


def test_an_unknown_policy_is_named():
    with pytest.raises(ConfigError, match=r"policy 'flip'.*Did you mean 'flips'"):
        build_policy("flip")
