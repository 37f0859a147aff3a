"""The maps of every method have titles, units and kinds, and pictures of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from benchmark.commands.map_panels import panels_of
from benchmark.forward.maps import InferenceSettings, predict_maps
from benchmark.registry import METHODS, method_class
from leaderboards.plots.maps import MapPanel, MapPicture, draw_maps, limits
from leaderboards.plots.style import save, style
from models.base.card import MethodCard
from models.base.method import Task
from postproc.errors import ConfigError
from postproc.instances import Instances

TRAINED = [name for name in METHODS if method_class(name).card.trained]
TYPES = ("round", "long")


@pytest.mark.parametrize("types", [(), TYPES], ids=["plain", "typed"])
@pytest.mark.parametrize("name", TRAINED)
def test_every_method_has_panels(name: str, types: tuple[str, ...]) -> None:
    kind = method_class(name)
    if "points" in kind.card.needs and not types:
        types = ("nucleus",)
    torch.manual_seed(0)
    method = kind(Task(types, 0.25), **kind.small).eval()
    image = np.random.default_rng(0).integers(0, 256, (96, 112, 3), dtype=np.uint8)
    maps = predict_maps(method, image, InferenceSettings(precision="32-true"))
    for variant, codec in method.codecs.items():
        panels = panels_of(method, variant, maps, codec.params_type())
        assert panels
        for panel in panels:
            assert panel.values.shape == (96, 112)
            low, high = limits(panel, (slice(None), slice(None)))
            assert low < high
            assert (low == -high) == (panel.kind == "signed")
            assert panel.kind == "signed" or panel.values.min() >= 0 or low == 0
        if kind.card.needs == "points" and len(types) == 2 and "types" not in maps:
            assert sum(any(each in panel.title for each in types) for panel in panels) == 2


def test_detections_are_painted_where_their_boxes_are() -> None:
    kind = method_class("mask-rcnn")
    method = kind(Task((), 0.25), **kind.small).eval()
    maps = {
        "boxes": np.array([[10, 20, 30, 40], [50, 5, 60, 15], [-5, -5, 4, 4]], np.float32),
        "scores": np.array([0.9, 0.2, 0.8], np.float32),
        "labels": np.ones(3, np.int64),
        "masks": np.ones((3, 28, 28), np.float16),
        "shape": np.array([64, 80], np.int64),
    }
    params = dataclasses.replace(method.codec.params_type(), confidence=0.5)
    every, certain, scores = panels_of(method, "mask-rcnn", maps, params)
    assert every.values[20:40, 10:30].min() == 1
    assert every.values.sum() == 20 * 20 + 10 * 10 + 4 * 4
    assert certain.values[5:15, 50:60].max() == 0
    assert scores.values[25, 15] == pytest.approx(0.9)
    assert scores.values[10, 55] == pytest.approx(0.2)


def test_an_unknown_map_is_named() -> None:
    kind = method_class("dist")
    method = kind(Task(), **kind.small)
    with pytest.raises(ConfigError, match="dist: cannot draw the unknown map 'mystery' with 3 channels"):
        panels_of(method, "dist", {"mystery": np.zeros((3, 8, 8), np.float32)}, method.codec.params_type())
    assert isinstance(kind.card, MethodCard)


def test_signed_maps_have_zero_in_the_middle_and_pictures_depend_on_nothing_else(tmp_path) -> None:
    rng = np.random.default_rng(0)
    labels = np.zeros((60, 70), np.int32)
    labels[10:20, 10:25] = 1
    found = Instances((60, 70), labels=labels)
    values = rng.normal(1.0, 0.1, (60, 70)).astype(np.float32)
    panel = MapPanel("Horizontal distance", values, "signed", "share")
    low, high = limits(panel, (slice(0, 60), slice(0, 70)))
    assert low == -high == pytest.approx(-values.max())
    assert limits(MapPanel("x", np.zeros((4, 4), np.float32), "amount"), (slice(4), slice(4))) == (0, 1)
    picture = MapPicture("maps-x", "X", np.zeros((60, 70, 3), np.uint8), None, found, "X", (panel,))
    with style():
        figure = draw_maps(picture, 50).figure
        assert figure is not None
        titles = [axis.get_title() for axis in figure.axes]
        assert titles[:3] == ["Image", "Horizontal distance", "Result: X"]  # no annotation, no panel of it
        (drawn,) = figure.axes[1].images
        assert drawn.get_array().shape == (50, 50)
        assert drawn.norm(0.0) == pytest.approx(0.5)
        files = save(draw_maps(picture, 50), tmp_path / "a") + save(draw_maps(picture, 50), tmp_path / "b")
    assert files[0].read_bytes() == files[2].read_bytes()
    assert files[1].read_bytes() == files[3].read_bytes()


@pytest.mark.parametrize("points", [False, True])
def test_panels_say_that_they_hold_nothing(points: bool) -> None:
    labels = np.zeros((60, 120), np.int32)
    labels[50:58, 100:112] = 1
    truth = Instances((60, 120), points=np.array([[5, 30]], np.float32))  # shown is the part around it
    nuclei = Instances((60, 120), points=np.array([[106, 54]], np.float32)) if points else Instances((60, 120), labels)
    far = (labels > 0).astype(np.float32)
    panels = (MapPanel("far", far, "share"), MapPanel("near", far[:, ::-1].copy(), "share"))
    image = np.zeros((60, 120, 3), np.uint8)
    with style():
        figure = draw_maps(MapPicture("maps-x", "X", image, truth, nuclei, "X", panels), 60).figure
    said = {axis.get_title(): [text.get_text() for text in axis.texts] for axis in figure.axes if axis.get_title()}
    nothing = {"far": ["0 everywhere in this crop"], "Result: X": ["no nuclei in this crop"]}
    assert said == {"Image": [], "Annotation": [], "near": []} | nothing
