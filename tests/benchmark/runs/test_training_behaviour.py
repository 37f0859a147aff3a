"""What tiny trainings leave behind: the best epoch, early stops, schedules, seeds, validation images, tuning."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from benchmark.host.machine import Machine
from benchmark.results.spec import Overrides, RunSpec, Target
from benchmark.runs.result import Result
from benchmark.runs.run import execute
from benchmark.runs.train import build_method, load_weights, task_of
from datamodules.drawing.loading import Loading
from datamodules.reading.sample import Sample
from datamodules.synthetic_sets import Synthetic
from models.base.recipe import Phase, Step
from models.dist import DIST
from tests.helpers.runs import training_data

OPTIONS = {"features": 2}
SHORT: dict[str, Any] = {"crop": 48, "augment": "flips", "crops_per_image": 2, "batch_size": 4}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    folder = tmp_path_factory.mktemp("user")
    Synthetic.write_synthetic(folder / "data/synthetic", size=64)
    return Machine(folder / "data", folder / "runs", workers=0, progress=False)


def do(machine: Machine, spec: RunSpec) -> Result:
    return execute(spec, [Target("synthetic")], machine)


@pytest.fixture(scope="module")
def noisy(machine: Machine) -> Result:
    """A strict run at such a rate that the validation loss goes up and down; it stops early."""
    before = DIST.recipe
    DIST.recipe = dataclasses.replace(before, patience=3)
    try:
        overrides = Overrides(lr=0.1, epochs=40, schedule="constant", **SHORT)
        # losses are computed again in float32
        spec = RunSpec("dist", "synthetic", "train", "strict", 0, "32-true", OPTIONS, overrides)
        return do(machine, spec)
    finally:
        DIST.recipe = before


def metrics(result: Result, phase: int = 0) -> pd.DataFrame:
    return pd.read_csv(result.store.path / f"logs/phase{phase}/metrics.csv")


def training(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.store.record_file.read_text())["training"]
    return found


def test_the_epoch_of_the_least_validation_loss_is_kept(noisy: Result, machine: Machine) -> None:
    losses = metrics(noisy)["val/loss"].dropna().to_numpy()
    assert losses.argmin() < len(losses) - 1  # the last epoch is not the best one
    assert training(noisy)["best_epoch"] == losses.argmin()
    assert training(noisy)["val_loss"] == pytest.approx(losses.min(), rel=1e-5)
    # the weights that are kept have that loss
    spec = noisy.store.spec()
    method = build_method(spec, task_of(spec)).eval()
    load_weights(method, noisy.store.weights_file)
    data = Synthetic(machine.data / "synthetic")
    recipe = spec.overrides.applied_to(method.recipe)
    loading = Loading(method.drawer(recipe, augment=True), method.drawer(recipe, augment=False), method.collate, 4, 2)
    sums, count = 0.0, 0
    with torch.no_grad():
        for batch in training_data(data, loading).val_dataloader():
            if isinstance(batch, Sample):
                continue  # a whole image
            size = len(batch["image"])
            sums += size * float(torch.stack(list(method.losses(batch).values())).sum())
            count += size
    assert sums / count == pytest.approx(losses.min(), rel=1e-4)


def test_training_stops_after_epochs_without_a_better_loss(noisy: Result) -> None:
    assert training(noisy)["epochs"] == training(noisy)["best_epoch"] + 1 + 3
    assert training(noisy)["epochs"] < 40
    assert training(noisy)["steps"] == 3 * training(noisy)["epochs"]  # 6 images without those for validation


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        pytest.param("cosine", [1.0, 0.5, 0.02], marks=pytest.mark.slow),
        pytest.param("constant", [1, 1, 1], marks=pytest.mark.slow),
        (None, [1, 0.1, 0.01]),
    ],
)
def test_the_rate_follows_its_schedule(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, schedule: str | None, expected: list[float]
) -> None:
    phases = (Phase(4, 0.01, epochs=3, schedule=Step(parts=3, factor=0.1)),)
    monkeypatch.setattr(DIST, "recipe", dataclasses.replace(DIST.recipe, phases=phases))
    overrides = Overrides(**{**SHORT, "crops_per_image": 8}, schedule=schedule)
    result = do(machine, RunSpec("dist", "synthetic", seed=1, options=OPTIONS, overrides=overrides))
    rates = metrics(result).dropna(subset="lr").groupby("step")["lr"].first().to_numpy() / 0.01
    assert len(rates) == 3 * 16
    if schedule == "cosine":
        assert rates[24] == pytest.approx(expected[1], abs=0.05)
        assert rates[1:3].max() == pytest.approx(1, abs=0.01)
        assert rates[-1] < expected[2]
    else:
        np.testing.assert_allclose(rates, np.repeat(expected, 16), rtol=1e-5)


def test_phases_draw_other_crops_and_other_dropout(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, float]] = []
    losses = DIST.losses

    def watched(self: DIST, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        images = hashlib.sha256(batch["image"].numpy().tobytes()).hexdigest()
        seen.append((images, float(torch.rand(()))))
        return losses(self, batch)

    monkeypatch.setattr(DIST, "losses", watched)
    phases = (Phase(4, 1e-3, epochs=1), Phase(4, 1e-3, epochs=1))
    monkeypatch.setattr(DIST, "recipe", dataclasses.replace(DIST.recipe, phases=phases))
    do(machine, RunSpec("dist", "synthetic", seed=2, options=OPTIONS, overrides=Overrides(**SHORT)))
    assert len(seen) == 8
    first, second = seen[:4], seen[4:]
    assert not {image for image, _ in first} & {image for image, _ in second}
    assert not {chance for _, chance in first} & {chance for _, chance in second}


def test_dist_has_the_weight_decay_of_its_paper(machine: Machine) -> None:
    spec = RunSpec("dist", "synthetic")
    for options, expected in (({}, 5e-6), ({"weight_decay": 0.0005}, 0.0005)):
        method = build_method(dataclasses.replace(spec, options=OPTIONS | options), task_of(spec))
        optimizer = method.optimizer(list(method.parameters()), 0.1)
        assert [group["weight_decay"] for group in optimizer.param_groups] == [expected]


def test_validation_images_are_not_trained_on_and_not_augmented(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every crop is a whole image here, so that it can be told where it is from."""
    data = Synthetic(machine.data / "synthetic")
    kept = {data.read(r).image.tobytes() for r in data.select("validation")}
    trained: set[bytes] = set()
    validated: set[bytes] = set()
    losses = DIST.losses

    def watched(self: DIST, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        images = batch["image"].numpy().transpose(0, 2, 3, 1)
        (trained if self.training else validated).update(np.ascontiguousarray(image).tobytes() for image in images)
        return losses(self, batch)

    monkeypatch.setattr(DIST, "losses", watched)
    overrides = Overrides(**{**SHORT, "crop": 64, "augment": "none"}, epochs=2)
    do(machine, RunSpec("dist", "synthetic", protocol="strict", seed=3, options=OPTIONS, overrides=overrides))
    assert trained == {data.read(r).image.tobytes() for r in data.select("fit")}
    assert validated == kept
    assert kept
    validated.clear()
    overrides = Overrides(**{**SHORT, "crop": 64, "augment": "stain"}, epochs=1)
    do(machine, RunSpec("dist", "synthetic", protocol="strict", seed=3, options=OPTIONS, overrides=overrides))
    assert validated == kept


def test_post_processing_is_chosen_on_the_validation_images(noisy: Result, machine: Machine) -> None:
    stored = json.loads(noisy.store.params_file.read_text())["dist"]
    trials = pd.DataFrame(stored["trials"])
    assert len(trials) > 4
    assert trials["score"].nunique() > 1
    names = [name for name in trials if name != "score"]
    best = trials.loc[trials["score"].idxmax(), names].to_dict()
    assert best == pytest.approx(stored["params"])
    # the score of what was chosen is the mean AJI on the validation images, predicted by the run itself
    again = execute(noisy.store.spec(), [Target("synthetic", "validation")], machine)
    scores = again.scores[("synthetic.validation", "DIST")]
    assert scores["aji"] == pytest.approx(trials["score"].max(), abs=1e-9)


def test_every_image_is_scored(noisy: Result, machine: Machine) -> None:
    (file,) = noisy.store.path.glob("evaluations/synthetic.test/dist/scores.csv")
    wanted = [record.image_id for record in Synthetic(machine.data / "synthetic").select("test")]
    assert pd.read_csv(file)["image"].tolist() == wanted
    assert len(wanted) == 4


def test_the_runs_are_where_they_were_told(machine: Machine, noisy: Result) -> None:
    assert Path(noisy.store.path).is_relative_to(machine.runs)
