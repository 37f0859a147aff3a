"""The moving average of the weights: what it is, that it validates, and that an interruption changes nothing."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from benchmark.host import signals
from benchmark.results.spec import Overrides, RunSpec
from benchmark.results.store import RunStore
from benchmark.runs.train import train
from datamodules.synthetic_sets import Synthetic
from models.base.weight_average import WeightAverage
from postproc.errors import ConfigError
from tests.helpers.runs import run_of

SPEC = RunSpec(
    "dist",
    "synthetic",
    options={"features": 4},
    overrides=Overrides(crop=48, augment="flips", crops_per_image=1, batch_size=2, epochs=2, ema=0.8),
)


@pytest.fixture
def listening() -> Iterator[None]:
    """Hear signals as the command line does, in this test alone."""
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    signals.listen()
    yield
    signals._listener.owner = 0
    for number, handler in before.items():
        signal.signal(number, handler)


class Small(pl.LightningModule):
    """One linear layer, batch statistics and a counter."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        self.validated: list[torch.Tensor] = []
        self.trained: list[torch.Tensor] = []

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        self.trained.append(self.layers[0].weight.detach().clone())
        return self.layers(batch).square().mean() + self.layers[0].weight.sum()

    def validation_step(self, batch: torch.Tensor, index: int) -> None:
        self.validated.append(self.layers[0].weight.detach().clone())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Recorder(pl.Callback):
    """Keeps the weights after every step."""

    def __init__(self) -> None:
        self.states: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        self.states.append({name: value.clone() for name, value in module.state_dict().items()})


def fit(decay: float, steps: int) -> tuple[Small, WeightAverage, list[dict[str, torch.Tensor]]]:
    module, average, recorder = Small(), WeightAverage(decay), Recorder()
    start = {name: value.clone() for name, value in module.state_dict().items()}
    loader = torch.utils.data.DataLoader(
        torch.randn(steps, 3, generator=torch.Generator().manual_seed(1)), batch_size=2
    )
    trainer = pl.Trainer(
        max_epochs=1,
        val_check_interval=0.5,
        accelerator="cpu",
        callbacks=[average, recorder],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, loader, loader)
    return module, average, [start, *recorder.states]


@pytest.mark.parametrize("decay", [0.3, 0.9])
def test_the_average_is_the_exponential_one(decay: float) -> None:
    module, average, states = fit(decay, 24)
    expected = dict(states[0])
    for step, state in enumerate(states[1:], start=1):
        keep = min(decay, (1 + step) / (10 + step))
        for name, value in state.items():
            expected[name] = keep * expected[name] + (1 - keep) * value if value.is_floating_point() else value
    for name, value in average.weights().items():
        torch.testing.assert_close(value, expected[name])
    assert not torch.allclose(expected["layers.0.weight"], states[-1]["layers.0.weight"])
    torch.testing.assert_close(module.validated[-1], expected["layers.0.weight"])  # validation saw the average
    half = len(module.trained) // 2
    torch.testing.assert_close(module.trained[half], states[half]["layers.0.weight"])  # and training resumed without
    torch.testing.assert_close(module.layers[0].weight, expected["layers.0.weight"])  # the result is the average


class Interruption:
    """Stands where a mirror does: sends the signal of a cluster during one step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def phase(self, index: int, steps: int) -> tuple[list[Any], list[pl.Callback]]:
        at = self.step

        class Send(pl.Callback):
            def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
                if trainer.global_step == at:
                    os.kill(os.getpid(), signal.SIGTERM)

        return [], [Send()]


def run(store: RunStore, data: Synthetic, spec: RunSpec, mirror: Any = None) -> dict[str, torch.Tensor]:
    train(run_of(spec, store, data), mirror)
    return torch.load(store.weights_file, weights_only=True)


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize("step", [pytest.param(0, marks=pytest.mark.slow), 3, pytest.param(5, marks=pytest.mark.slow)])
def test_an_interrupted_run_ends_with_the_same_average(data: Synthetic, tmp_path: Path, step: int) -> None:
    whole = run(RunStore.create(tmp_path / "whole", SPEC), data, SPEC)
    plain = dataclasses.replace(SPEC, overrides=dataclasses.replace(SPEC.overrides, ema=0.0))
    without = run(RunStore.create(tmp_path / "without", plain), data, plain)
    assert not torch.equal(whole["head.weight"], without["head.weight"])
    store = RunStore.create(tmp_path / "parts", SPEC)
    with pytest.raises(signals.Stopped):
        run(store, data, SPEC, Interruption(step))
    assert not store.weights_file.exists()
    for name, value in run(store, data, SPEC).items():
        torch.testing.assert_close(value, whole[name], msg=name, rtol=0, atol=0)


@pytest.mark.parametrize("decay", [1.0, -0.1, 1.5])
def test_a_decay_that_cannot_work_is_refused(decay: float) -> None:
    with pytest.raises(ConfigError, match="ema"):
        Overrides(ema=decay)
