"""Tiles cover every image once, and tiling does not change the result."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.forward.maps import InferenceSettings, predict_maps, windows
from benchmark.forward.scaling import rescale, restore
from datamodules.synthetic.images import generate
from models.base.method import Task
from models.dist import DIST
from models.hovernet import GEOMETRIES, RECIPES, HoVerNet
from models.unet import UNet
from postproc.instances import Instances
from postproc.windows import DenseStitcher, Geometry

SINGLE = InferenceSettings(precision="32-true", tile=10_000)


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    multiple = draw(st.sampled_from([1, 2, 8, 16]))
    return Geometry(
        margin=draw(st.integers(0, 20)),
        multiple=multiple,
        remainder=draw(st.integers(0, multiple - 1)),
        context=draw(st.integers(0, 30)),
        minimum=draw(st.integers(41, 90)),
    )


@given(geometries(), st.integers(1, 300), st.integers(1, 300), st.integers(1, 200))
@settings(max_examples=150, deadline=None)
def test_kept_parts_tile_the_image(geometry: Geometry, height: int, width: int, largest: int) -> None:
    shape = (height, width)
    covered = np.zeros(shape, int)
    for window in windows(shape, geometry, largest):
        assert geometry.output(window.height + 2 * geometry.margin) == window.height
        assert geometry.output(window.width + 2 * geometry.margin) == window.width
        top, left, bottom, right = window.keep
        assert window.top <= top <= bottom <= window.top + window.height
        assert window.left <= left <= right <= window.left + window.width
        assert window.top % geometry.multiple == window.left % geometry.multiple == 0
        for start, kept in ((window.top, top), (window.left, left)):
            assert kept == 0 or kept - start >= geometry.context - geometry.multiple
        covered[top:bottom, left:right] += 1
    assert (covered == 1).all()


@given(st.integers(1, 120), st.integers(1, 120), st.integers(30, 90))
@settings(max_examples=60, deadline=None)
def test_stitching_gives_back_what_was_cut(height: int, width: int, largest: int) -> None:
    image = np.random.default_rng(0).random((1, height, width)).astype(np.float32)
    geometry = Geometry(multiple=8, context=8, minimum=24)
    stitcher = DenseStitcher((height, width))
    padded = np.pad(image, ((0, 0), (0, 300), (0, 300)))
    for window in windows((height, width), geometry, largest):
        rows = slice(window.top, window.top + window.height)
        columns = slice(window.left, window.left + window.width)
        stitcher.add(window, {"map": padded[:, rows, columns]})
    np.testing.assert_array_equal(stitcher.finish()["map"], image)


def test_valid_convolutions_tile_exactly() -> None:
    torch.manual_seed(0)
    method = UNet(Task(), features=4).eval()
    image, _ = generate((230, 190), np.random.default_rng(0))
    whole = predict_maps(method, image, SINGLE)
    tiled = predict_maps(method, image, InferenceSettings(precision="32-true", tile=84, batch_size=3))
    assert whole.keys() == tiled.keys()
    for name in whole:
        np.testing.assert_allclose(whole[name], tiled[name], atol=1e-4)


def test_padded_networks_agree_away_from_seams() -> None:
    torch.manual_seed(0)
    method = DIST(Task(), features=4).eval()
    image, _ = generate((300, 260), np.random.default_rng(0))
    whole = predict_maps(method, image, SINGLE)["distance"]
    tiled = predict_maps(method, image, InferenceSettings(precision="32-true", tile=224))["distance"]
    assert np.abs(whole - tiled).mean() < 0.02 * whole.std()


@pytest.mark.parametrize(("mode", "given", "kept", "across"), [("original", 270, 80, 13), ("fast", 256, 164, 7)])
def test_published_tiling_is_that_of_the_official_code(mode: str, given: int, kept: int, across: int) -> None:
    geometry, recipe = GEOMETRIES[mode], RECIPES[mode]
    assert recipe.crop == given
    plan = list(windows((1000, 1000), geometry, recipe.crop - 2 * geometry.margin, side_by_side=True))
    assert len(plan) == across**2
    assert {(window.height + 2 * geometry.margin, window.height) for window in plan} == {(given, kept)}
    assert [window.left for window in plan[:across]] == [kept * i for i in range(across)]
    areas = [(w.keep[2] - w.keep[0]) * (w.keep[3] - w.keep[1]) for w in plan]
    assert sum(areas) == 1000**2
    assert max(areas) == kept**2  # no context is dropped


def test_published_tiling_shows_the_network_its_training_size() -> None:
    torch.manual_seed(0)
    method = HoVerNet(Task(), **HoVerNet.small).eval()
    seen: list[tuple[int, ...]] = []
    method.network.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    image, _ = generate((170, 150), np.random.default_rng(0))
    maps = predict_maps(method, image, InferenceSettings(precision="32-true", published=True))
    assert {shape[1:] for shape in seen} == {(3, 256, 256)}
    assert sum(shape[0] for shape in seen) == 2
    assert maps["np"].shape == (1, 170, 150)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_rescaled_predictions_come_back_in_the_pixels_of_the_image(factor: float) -> None:
    image, truth = generate((128, 160), np.random.default_rng(3))
    scaled = rescale(image, 40.0 * factor, 40.0)
    assert scaled.shape[:2] == (128 * factor, 160 * factor)
    labels = np.kron(truth.labels, np.ones((2, 2), np.int32)) if factor == 2 else truth.labels[::2, ::2].copy()
    ids = np.unique(labels)[1:]
    compact = np.searchsorted(ids, labels, side="left").astype(np.int32) + (labels > 0)
    compact[labels == 0] = 0
    back = restore(Instances(labels.shape, labels=compact.astype(np.int32)), (128, 160))
    assert back.shape == (128, 160)
    agreement = ((back.labels > 0) == (truth.labels > 0)).mean()
    assert agreement == 1.0 if factor == 2 else agreement > 0.95


def test_points_come_back_to_their_place() -> None:
    points = np.array([[10.0, 20.0], [0.0, 0.0]], np.float32)
    doubled = (points + 0.5) * 2 - 0.5
    back = restore(Instances((128, 128), points=doubled.astype(np.float32)), (64, 64))
    np.testing.assert_allclose(back.points, points, atol=1e-5)
