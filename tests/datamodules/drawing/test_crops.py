"""Crops, and the windows around them: position, mirroring, and what is left after they are moved."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from datamodules.drawing.augment import POLICIES, _geometry, augment, build_policy
from datamodules.drawing.crops import Area, CropDrawer, cut_instances, random_window
from datamodules.reading.sample import Sample
from datamodules.synthetic.images import generate
from postproc.codec import Codec
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


def geometry_only(name):
    return dataclasses.replace(BUILT[name], appearance=None)


class Outlines(Codec):
    """Gives back the annotation."""

    def encode(self, truth):
        types = np.concatenate([[0], truth.types])
        return {"labels": truth.labels, "types": types[truth.labels]}

    def decode(self, maps, params):
        raise NotImplementedError

    def perfect(self, targets):
        raise NotImplementedError


@settings(max_examples=30, deadline=None)
@given(height=st.integers(5, 70), width=st.integers(5, 70), size=st.integers(4, 90), seed=st.integers(0, 2**31))
def test_crops_of_any_size_are_consistent(height, width, size, seed):
    rng = np.random.default_rng(seed)
    labels = np.kron(np.arange(1, 325).reshape(18, 18), np.ones((4, 4), np.int64))[:height, :width]
    labels = np.unique(labels, return_inverse=True)[1].reshape(height, width).astype(np.int32) + 1
    types = rng.integers(1, 5, labels.max())
    sample = Sample(encoded(labels), Instances((height, width), labels=labels, types=types), "a", "g")
    image, truth = random_window(sample, size, rng)
    assert image.shape == (size, size, 3)
    assert truth.shape == (size, size)
    np.testing.assert_array_equal(np.unique(truth.labels), np.arange(1, truth.count + 1))
    code = image.astype(int) // 16
    old = code[..., 0] + 16 * code[..., 1]
    wanted = np.concatenate([[0], types])
    modulo = {int(k % 256) for k in range(1, labels.max() + 1)}
    assert set(np.unique(old)) <= modulo
    if labels.max() < 256:
        np.testing.assert_array_equal(wanted[old], np.concatenate([[0], truth.types])[truth.labels])


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    size=st.integers(1, 80),
    beyond=st.integers(0, 70),
    seed=st.integers(0, 2**31),
)
def test_points_and_pixels_are_mirrored_alike_beyond_every_end(height, width, size, beyond, seed):
    rng = np.random.default_rng(seed)
    marks = rng.random((height, width)) < 0.1
    where = np.argwhere(marks)
    kinds = np.zeros((height, width), np.uint8)
    kinds[marks] = types = rng.integers(1, 4, len(where))
    truth = Instances(
        (height, width), points=where[:, ::-1].astype(np.float32), types=types.astype(np.int64), regions=kinds
    )
    top, left = (int(rng.integers(0, max(n - size, 0) + 1)) - beyond for n in (height, width))
    side = size + 2 * beyond
    cut = cut_instances(truth, top, left, side)
    around = ((max(-top, 0), max(top + side - height, 0)), (max(-left, 0), max(left + side - width, 0)))
    expected = np.pad(kinds, around, mode="symmetric")[max(top, 0) :, max(left, 0) :][:side, :side]
    np.testing.assert_array_equal(cut.regions, expected)
    drawn = np.zeros((side, side), np.uint8)
    columns, rows = np.rint(cut.points).astype(int).T
    drawn[rows, columns] = cut.types
    np.testing.assert_array_equal(drawn, expected)
    assert cut.count == np.count_nonzero(expected)


def placed(size):
    """An image whose red is the column and whose green is the row."""
    rows, columns = np.mgrid[:size, :size].astype(np.uint8)
    return np.stack([columns, rows, columns], axis=-1)


class Places(CropDrawer):
    """Gives crops without changing their appearance."""

    def __init__(self, crop, name):
        super().__init__(crop, Outlines(), "none")
        self._policy = geometry_only(name)


def orientation(image):
    """Sign of the area that each px has in the original: it changes where the image is mirrored."""
    x, y = (cv2.GaussianBlur(image[k].astype(np.float64), (0, 0), 1.5) for k in (0, 1))
    (dxy, dxx), (dyy, dyx) = np.gradient(x), np.gradient(y)
    return (dxx * dyy - dxy * dyx)[2:-2, 2:-2]


@pytest.mark.parametrize("name", FREE)
def test_a_moved_crop_is_mirrored_only_where_the_image_ends(name):
    labels = np.arange(1, 250 * 250 + 1, dtype=np.int32).reshape(250, 250)
    sample = Sample(placed(250), Instances((250, 250), labels=labels, types=np.ones(labels.max(), np.int64)), "a", "g")
    draw = Places(64, name)
    window = BUILT[name].window(64)
    inner = Area(window // 2, window // 2, 250 - window, 250 - window)
    turned = set()
    for seed in range(20):
        there = orientation(draw(sample, np.random.default_rng(seed), inner)["image"])
        assert (there > 0).all() or (there < 0).all()
        turned.add(bool(there[0, 0] > 0))
    assert turned == {True, False}
    mirrored_somewhere = 0
    for seed in range(20):
        there = orientation(draw(sample, np.random.default_rng(seed), Area(0, 0, 64, 64))["image"])
        mirrored_somewhere += there.min() < 0 < there.max()
    assert mirrored_somewhere > 5


@pytest.mark.parametrize("name", ["none", *FREE])
def test_crops_lie_everywhere_alike_often(name):
    truth = Instances((200, 200), labels=np.ones((200, 200), np.int32), types=np.ones(1, np.int64))
    draw, sample = Places(64, name), Sample(placed(200), truth, "a", "g")
    middles = np.array([draw(sample, np.random.default_rng(k))["image"][:2, 32, 32] for k in range(600)], float)
    spare = 12 if name == "kinet" else 8  # the policy shifts, or deforms, by as much
    assert ((middles > 32 - spare) & (middles < 168 + spare)).all()
    shares = np.histogram(middles, bins=np.linspace(32, 168, 5))[0] / 1200
    np.testing.assert_allclose(shares, 0.25, atol=0.05)


def test_the_window_around_a_crop_has_its_centre():
    for policy in BUILT.values():
        for side in (48, 63, 200, 256, 270):
            assert (policy.window(side) - side) % 2 == 0
            assert policy.window(side) >= policy.reach * side - 1e-9
    assert BUILT["hovernet"].window(270) == 540  # as in the public code
    assert all(BUILT[name].window(100) == 100 for name in RIGID)


@pytest.mark.parametrize("name", FREE)
def test_computing_the_centre_alone_gives_what_the_whole_would(name):
    _, truth = generate((180, 180), np.random.default_rng(2), density=9e-4)
    image = encoded(truth.labels)
    policy = geometry_only(name)
    if name in DEFORMED:  # the deformation depends on the size, so only what comes before it is compared
        policy = dataclasses.replace(policy, geometry=_geometry(*policy.geometry.transforms[:-1]))
    for seed in range(4):
        whole, moved = augment(policy, image, truth, np.random.default_rng(seed))
        part, centre = augment(policy, image, truth, np.random.default_rng(seed), 100)
        # OpenCV interpolates in steps of 1/32 px, which round differently
        np.testing.assert_allclose(part.astype(int), whole[40:140, 40:140].astype(int), atol=8)
        inner = moved.labels[40:140, 40:140] > 0
        assert np.mean((centre.labels > 0) == inner) > 0.999  # torn tips at the border of the part are kept


def test_a_drawer_draws_the_same_item_for_the_same_generator(ihc):
    sample = Sample(*ihc, "a", "g")
    for name in sorted(POLICIES):
        drawer = CropDrawer(64, Outlines(), name)
        first, again = (drawer(sample, np.random.default_rng(7)) for _ in range(2))
        assert first["image"].shape == (3, 64, 64)
        assert first["image"].flags.c_contiguous
        for key in first:
            np.testing.assert_array_equal(first[key], again[key])


class Items(Dataset):
    """Items of a drawer, by index alone."""

    def __init__(self, sample):
        self.sample, self.drawer = sample, CropDrawer(48, Outlines(), "dist")

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return self.drawer(self.sample, np.random.default_rng(index))["image"]


def test_worker_processes_draw_what_the_main_process_draws(ihc):
    dataset = Items(Sample(*ihc, "a", "g"))
    here = torch.cat(list(DataLoader(dataset, batch_size=3)))
    there = torch.cat(list(DataLoader(dataset, batch_size=3, num_workers=2, multiprocessing_context="fork")))
    assert torch.equal(here, there)
