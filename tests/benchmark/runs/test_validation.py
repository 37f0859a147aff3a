"""Validation during training: scores of decoded images, and the checkpoint that they choose."""

from __future__ import annotations

import csv
import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from benchmark.forward.maps import InferenceSettings, predict_maps
from benchmark.host.files import read_json
from benchmark.metrics.image import score_image
from benchmark.mirrors.training import watch
from benchmark.results.spec import MONITORS, Overrides, RunSpec
from benchmark.results.store import RunStore
from benchmark.runs.monitor import check_monitor
from benchmark.runs.train import build_method, load_weights, task_of, train
from datamodules.ki67 import Ki67
from datamodules.synthetic_sets import Synthetic
from models.base.card import MethodCard
from models.base.method import NucleiMethod
from models.base.scores import ROUNDS, rounds_every
from models.dist import DIST
from models.kinet import KiNet
from postproc.errors import ConfigError
from tests.helpers.runs import run_of

SPEC = RunSpec(
    "dist",
    "synthetic",
    protocol="strict",
    precision="32-true",
    options={"features": 4, "classify": True},
    overrides=Overrides(crop=48, augment="flips", crops_per_image=8, batch_size=4, epochs=6, lr=0.01, monitor="aji"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    root = tmp_path_factory.mktemp("synthetic")
    Synthetic.write_synthetic(root, size=96)
    return Synthetic(root)


class Snapshots:
    """Stands where a mirror does: logs to the run directory and keeps the weights of each epoch."""

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self.weights: list[dict[str, torch.Tensor]] = []

    def phase(self, index: int, steps: int) -> tuple[list[Any], list[pl.Callback]]:
        loggers, callbacks = watch(self.store.path, index)
        kept = self.weights

        class Keep(pl.Callback):
            def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
                kept.append({name: value.clone() for name, value in module.state_dict().items()})

        return loggers, [*callbacks, Keep()]


def logged(store: RunStore, name: str) -> list[float]:
    with (store.path / "logs" / "phase0" / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def run(store: RunStore, spec: RunSpec, data: Any) -> tuple[dict[str, Any], NucleiMethod, Snapshots]:
    mirror: Any = Snapshots(store)
    one = run_of(spec, store, data)
    return train(one, mirror), one.method, mirror


def scored(weights: dict[str, torch.Tensor], data: Synthetic) -> dict[str, float]:
    """Score the validation images one by one, without what is under test."""
    method = build_method(SPEC, task_of(SPEC))
    method.load_state_dict(weights)
    method.eval()
    sums: dict[str, list[float]] = {"aji": [], "pq": [], "dice": []}
    for sample in data.samples("validation"):
        found = method.codec.decode(
            predict_maps(method, sample.image, InferenceSettings("32-true")), method.codec.defaults()
        )
        one = score_image(sample.truth, found, radius=data.card.radius)
        for name, values in sums.items():
            values.append(one[name])
    return {name: sum(values) / len(values) for name, values in sums.items()}


def test_the_epoch_with_the_best_score_is_kept(data: Synthetic, tmp_path: Path) -> None:
    store = RunStore.create(tmp_path, SPEC)
    result, _, mirror = run(store, SPEC, data)
    expected = [scored(weights, data) for weights in mirror.weights]
    assert len(expected) == 6
    for name in ("aji", "pq", "dice"):
        assert logged(store, f"val/{name}") == pytest.approx([e[name] for e in expected], abs=1e-6)
    assert len(logged(store, "val/F_d")) == 6
    assert len(logged(store, "val/loss")) == 6
    curve = [e["aji"] for e in expected]
    assert max(curve) > min(curve)  # otherwise any epoch would do
    assert result["best_epoch"] == curve.index(max(curve))
    assert result["val_aji"] == pytest.approx(max(curve), abs=1e-6)
    kept = torch.load(store.weights_file, weights_only=True)
    for name, value in mirror.weights[result["best_epoch"]].items():
        assert torch.equal(kept[name], value)


@pytest.mark.slow
def test_the_default_chooses_by_the_loss(data: Synthetic, tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, overrides=dataclasses.replace(SPEC.overrides, monitor="loss"))
    assert spec.run_id == dataclasses.replace(SPEC, overrides=dataclasses.replace(SPEC.overrides, monitor=None)).run_id
    store = RunStore.create(tmp_path, spec)
    result, method, _ = run(store, spec, data)
    losses = logged(store, "val/loss")
    assert result["best_epoch"] == losses.index(min(losses))
    assert result["val_loss"] == pytest.approx(min(losses), rel=1e-5)
    assert read_json(store.checkpoints / "done.json")["val_loss"] == result["val_loss"]
    before = {name: value.clone() for name, value in method.state_dict().items()}
    load_weights(method, store.weights_file)
    assert all(torch.equal(before[name], value) for name, value in method.state_dict().items())


@pytest.mark.parametrize("monitor", ["loss", "aji"])
def test_a_training_shorter_than_an_epoch_is_validated(data: Synthetic, tmp_path: Path, monitor: str) -> None:
    short = dataclasses.replace(SPEC.overrides, monitor=monitor, epochs=None, steps=2, batch_size=1, crops_per_image=3)
    spec = dataclasses.replace(SPEC, overrides=short)
    store = RunStore.create(tmp_path, spec)
    result, _, _ = run(store, spec, data)
    assert (result["steps"], result["epochs"], result["best_epoch"]) == (2, 1, 0)
    assert logged(store, f"val/{monitor}") == pytest.approx([result[f"val_{monitor}"]], rel=1e-5)


@pytest.mark.slow
def test_scoring_changes_nothing_in_training(data: Synthetic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = []
    for rounds in (ROUNDS, 1):
        monkeypatch.setattr("models.base.scores.ROUNDS", rounds)
        spec = dataclasses.replace(SPEC, overrides=dataclasses.replace(SPEC.overrides, monitor=None))
        store = RunStore.create(tmp_path / str(rounds), spec)
        mirror = run(store, spec, data)[2]
        assert len(logged(store, "val/aji")) == (6 if rounds > 1 else 1)
        weights.append(mirror.weights[-1])
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_points_are_scored_by_detection(tmp_path: Path) -> None:
    Ki67.write_synthetic(tmp_path / "ki67", size=96)
    overrides = Overrides(crop=64, batch_size=2, steps=4, monitor="f1")
    spec = RunSpec("kinet", "ki67", protocol="strict", options=dict(KiNet.small), overrides=overrides)
    data = Ki67(tmp_path / "ki67")
    store = RunStore.create(tmp_path / "runs", spec)
    result = run(store, spec, data)[0]
    assert all(0 <= value <= 1 for value in logged(store, "val/f1"))
    assert 0 <= result["val_f1"] <= 1


@pytest.mark.parametrize(
    ("card", "annotation", "allowed"),
    [
        (DIST.card, "instances", {"loss", "dice", "aji", "pq"}),
        (KiNet.card, "points", {"loss", "f1"}),
        (DIST.card, "points", {"loss", "f1"}),
    ],
)
def test_scores_that_validation_does_not_give_are_refused(card: MethodCard, annotation: str, allowed: set[str]) -> None:
    for monitor in MONITORS:
        if monitor in allowed:
            check_monitor(monitor, card, annotation)
        else:
            with pytest.raises(ConfigError, match=f"monitor={monitor}"):
                check_monitor(monitor, card, annotation)


def test_protocol_paper_has_nothing_to_monitor() -> None:
    with pytest.raises(ConfigError, match="--protocol strict"):
        RunSpec("dist", "kumar", overrides=Overrides(monitor="aji"))
    with pytest.raises(ConfigError, match="monitor 'ajj'"):
        Overrides(monitor="ajj")


@pytest.mark.parametrize(("total", "epoch"), [(10, 3), (400, 10), (401, 10), (6000, 1), (5, 100)])
def test_rounds_are_few_and_evenly_spread(total: int, epoch: int) -> None:
    every = rounds_every(total, epoch)
    epochs = math.ceil(total / epoch)
    assert epochs / every <= ROUNDS
    assert every == 1 or epochs / (every - 1) > ROUNDS
