"""Training in phases: what is frozen stays, phases that are done are not repeated, failures keep what was good."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.options import weight_options
from benchmark.registry import method_class
from benchmark.results.spec import Overrides, RunSpec
from benchmark.results.store import RunStore
from benchmark.runs.record import starting_weights
from benchmark.runs.train import build_method, task_of, train
from datamodules.synthetic_sets import Synthetic
from models.base.recipe import Phase
from models.dist import DIST
from postproc.errors import DataError, NucbenchError
from tests.helpers.runs import run_of

SPEC = RunSpec(
    "dist", "synthetic", options={"features": 4}, overrides=Overrides(crop=48, augment="flips", crops_per_image=1)
)


@pytest.fixture
def two_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    """DIST with its body frozen at first, as HoVer-Net's encoder is."""
    phases = (Phase(4, 1e-3, epochs=2, frozen=("body",)), Phase(2, 1e-3, epochs=1))
    monkeypatch.setattr(DIST, "recipe", dataclasses.replace(DIST.recipe, phases=phases))


def run(store: RunStore, data: Synthetic, spec: RunSpec = SPEC) -> dict:
    return train(run_of(spec, store, data))


@pytest.mark.usefixtures("two_phases")
def test_phases_follow_each_other(data: Synthetic, tmp_path: Path) -> None:
    store = RunStore.create(tmp_path, SPEC)
    start = {name: value.clone() for name, value in build_method(SPEC, task_of(SPEC)).state_dict().items()}
    result = run(store, data)
    assert result["steps"] == 2 * 2 + 4  # 8 images: 2 epochs of 2 steps, 1 epoch of 4
    assert result["epochs"] == 3
    assert json.loads((store.checkpoints / "phase1.json").read_text())["steps"] == 4
    first = torch.load(store.checkpoints / "phase0.pt", weights_only=True)
    final = torch.load(store.weights_file, weights_only=True)
    convolution = "body.down.0.0.weight"
    assert torch.equal(first[convolution], start[convolution])
    assert not torch.equal(first["head.weight"], start["head.weight"])
    assert not torch.equal(final[convolution], start[convolution])


@pytest.mark.usefixtures("two_phases")
def test_a_phase_that_is_done_is_not_repeated(data: Synthetic, tmp_path: Path) -> None:
    store = RunStore.create(tmp_path, SPEC)
    whole = run(store, data)
    kept = (store.checkpoints / "phase0.pt").stat().st_mtime_ns
    weights = torch.load(store.weights_file, weights_only=True)
    for name in ("done.json", "final.pt", "phase1.json", "phase1.pt"):
        (store.checkpoints / name).unlink()
    again = run(store, data)
    assert again["steps"] == whole["steps"]
    assert (store.checkpoints / "phase0.pt").stat().st_mtime_ns == kept
    for name, value in torch.load(store.weights_file, weights_only=True).items():
        assert torch.equal(value, weights[name])


def test_a_truncated_checkpoint_is_named(data: Synthetic, tmp_path: Path) -> None:
    store = RunStore.create(tmp_path, SPEC)
    store.checkpoints.mkdir(parents=True)
    (store.checkpoints / "phase0.ckpt").write_bytes(b"PK\x03\x04 truncated")
    with pytest.raises(DataError, match=r"phase0\.ckpt.*Delete it"):
        run(store, data)


def test_a_loss_that_is_not_finite_stops_the_run(data: Synthetic, tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, overrides=dataclasses.replace(SPEC.overrides, lr=1e30, epochs=4, batch_size=4))
    store = RunStore.create(tmp_path, spec)
    with pytest.raises(NucbenchError, match=r"the loss became (nan|inf).*smaller learning rate"):
        run(store, data, spec)
    assert not store.weights_file.exists()


def test_the_time_limit_ends_training(data: Synthetic, tmp_path: Path) -> None:
    overrides = dataclasses.replace(SPEC.overrides, max_minutes=0.001, epochs=50, batch_size=4)
    spec = dataclasses.replace(SPEC, overrides=overrides)
    result = run(RunStore.create(tmp_path, spec), data, spec)
    assert 1 <= result["steps"] < 100


@pytest.mark.parametrize(
    ("method", "options", "expected"),
    [
        ("ensemble", {"fcn_weights": "none", "deconvnet_weights": "none"}, "none"),
        ("ensemble", {"fcn_weights": "mine.pt", "deconvnet_weights": "none"}, "mine.pt and none"),
        ("ensemble", {}, method_class("ensemble").card.pretrained),
        ("segnet", {"weights": "none"}, "none"),
        ("dist", {}, "none"),
        ("dist", {"encoder": "resnet18"}, "ImageNet (timm resnet18)"),
        ("unet", {"encoder": "resnet18", "weights": "none"}, "none"),
        ("stardist", {"encoder": "resnet18", "weights": "mine.pt"}, "mine.pt"),
        ("hover-lite", {}, "ImageNet (EfficientNet-Lite)"),
        ("hover-lite", {"encoder": "resnet18"}, "ImageNet (timm resnet18)"),
    ],
)
def test_the_record_says_what_every_network_started_from(method: str, options: dict[str, Any], expected: str) -> None:
    assert starting_weights(RunSpec(method, "kumar", options=options)) == expected


def test_every_encoder_s_weights_are_known() -> None:
    assert weight_options(method_class("ensemble")) == ["fcn_weights", "deconvnet_weights"]
    assert weight_options(method_class("hover-lite")) == ["weights"]
    assert weight_options(method_class("dist")) == ["weights"]
    assert weight_options(method_class("pangnet")) == []
