"""Every trainable method learns a crop: loss, optimiser, network, `activate` and codec fit together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learning import learn, one_crop, score

from benchmark.registry import METHODS, dataset_class, method_class
from datamodules.reading.sample import Sample
from datamodules.synthetic.images import generate
from models.base.method import NucleiMethod, Task
from postproc.instances import Instances
from postproc.windows import DenseStitcher

TYPES = ("miscellaneous", "inflammatory", "epithelial", "spindle")
# Two networks of the ensemble take minutes; DeconvNet is tested alone and FCN as `fcn8`.
OTHERWISE = {"ensemble"}
# What needs no annotation cannot be scored after a few steps: its attention emerges over thousands of them.
LEARN = sorted(
    name
    for name in METHODS
    if method_class(name).card.trained and method_class(name).card.needs != "none" and name not in OTHERWISE
)
FAST = {"pangnet", "fcrn-a"}
"""One method of outlines and one of points; each of the others takes 3 s or more on one core."""
TRAINED = sorted(name for name in METHODS if method_class(name).card.trained)


@dataclasses.dataclass(frozen=True)
class Setting:
    """How one crop is learnt.

    Attributes:
        lr: Learning rate of the method's own optimiser; recipes are made for many epochs, these are few steps.
        steps: Optimiser steps.
        side: Px at the output.
        copies: Of the crop in the batch.
        options: Beside `NucleiMethod.small`; dropout is for many images.
        least: AJI, for points F1 of the detection, that must be reached.
    """

    lr: float = 2e-3
    steps: int = 150
    side: int = 96
    copies: int = 1
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    least: float = 0.5


SETTINGS = {
    "cianet": Setting(steps=60),
    "cnn2": Setting(lr=5e-2, steps=100, side=48, options={"momentum": 0.9}, least=0.2),
    "cnn3": Setting(lr=5e-2, steps=100, side=48, options={"momentum": 0.9}, least=0.2),
    # its bottleneck needs a few cells and more channels than `small` has; touching nuclei are one component
    "deconvnet": Setting(lr=3e-3, side=256, copies=2, options={"adam": True, "features": 8}, least=0.2),
    "dist": Setting(lr=5e-3, least=0.7),
    "dran": Setting(steps=80),
    # at stride 8 neighbours run together, and components take them for one
    "fcn8": Setting(least=0.2),
    "fcrn-a": Setting(lr=1e-2),
    "fcrn-b": Setting(lr=1e-2, least=0.6),
    "frcn": Setting(lr=1e-2, steps=100, side=64, least=0.6),
    "ki67-fcn8s": Setting(lr=1e-2, least=0.3),
    "ki67-unet": Setting(lr=1e-2, side=64, options={"dropout": 0.0}),
    "kinet": Setting(lr=1e-2, steps=60, side=64),
    "mask-rcnn": Setting(lr=1e-2, steps=60, side=128, least=0.12),
    "micronet": Setting(lr=1e-3, steps=60, side=252, least=0.3),
    "pangnet": Setting(lr=1e-1, least=0.4),
    "sc-cnn": Setting(lr=3e-2, side=64, options={"patches": 128, "hidden": 64}, least=0.6),
    "segnet": Setting(lr=5e-3, least=0.35),  # touching nuclei are one component
    "sfcn-opi": Setting(lr=1e-2, least=0.3),
    "stardist": Setting(lr=5e-3),
    "unet": Setting(side=64, options={"dropout": 0.0}, least=0.7),
}


def build(name: str, *, types: tuple[str, ...] = (), **options: Any) -> NucleiMethod:
    torch.manual_seed(0)
    kind = method_class(name)
    return kind(Task(types), **{**kind.small, **options})


def synthetic(*, points: bool = False) -> Sample:
    image, truth = generate((400, 400), np.random.default_rng(1), density=1.5e-3)
    if points:
        truth = Instances(truth.shape, points=truth.centroids(), types=truth.types)
    return Sample(image, truth, "image", "group", magnification=40.0)


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in LEARN]
)
def test_one_crop_is_learnt(name: str) -> None:
    points = method_class(name).card.needs == "points"
    setting = SETTINGS.get(name, Setting())
    method = build(name, types=TYPES if points else (), **setting.options)
    size = method.geometry.valid_input(2 * method.geometry.margin + setting.side)
    crop, batch = one_crop(method, synthetic(points=points), size, setting.copies)
    learn(method, batch, setting.steps, setting.lr)
    found = score(method, crop, batch)
    assert found["f1" if points else "aji"] > setting.least, found


@pytest.mark.parametrize("name", TRAINED)
def test_activated_maps_are_those_that_the_codec_decodes(name: str) -> None:
    """A network whose maps have a channel too many, or another name, would be decoded as something else."""
    points = method_class(name).card.needs == "points"
    method = build(name, types=TYPES if points else ()).eval()
    size = method.geometry.valid_input(2 * method.geometry.margin + 64)
    image, truth = generate((size, size), np.random.default_rng(1), density=1.5e-3)
    if points:
        truth = Instances(truth.shape, points=truth.centroids(), types=truth.types)
    perfect = method.codec.perfect(method.codec.encode(truth))
    with torch.no_grad():
        maps = method.predict_batch(method.prepare(torch.from_numpy(image.transpose(2, 0, 1).copy())[None]))[0]
    assert set(maps) == set(perfect)
    if isinstance(method.stitcher((size, size)), DenseStitcher):
        assert {key: len(value) for key, value in maps.items()} == {key: len(value) for key, value in perfect.items()}


@pytest.mark.real_data
@pytest.mark.slow
def test_hovernet_learns_a_crop_of_kumar_with_the_proposed_loss(data_root: Path) -> None:
    data = dataset_class("kumar")(data_root / "kumar")
    method = build("hovernet")
    assert method.proposed
    crop, batch = one_crop(method, data.read(data.select("train")[0]), 192)
    learn(method, batch, 100, 2e-3)
    assert score(method, crop, batch)["aji"] > 0.8
