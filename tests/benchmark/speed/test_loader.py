from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmark.speed.components import TYPES
from benchmark.speed.loader import BATCH, CROP, STEPS, Stepwise, collate, loader_timings, step_timings, worker_timing
from datamodules.drawing.crops import CropDrawer
from datamodules.reading.sample import Sample
from datamodules.synthetic.images import generate
from postproc.codecs.hover import HoverCodec


@pytest.fixture(scope="module")
def sample() -> Sample:
    image, truth = generate((300, 300), np.random.default_rng(0))
    return Sample(image, truth, "a", "a")


@pytest.mark.parametrize("policy", ["none", "hovernet"])
def test_what_is_timed_is_what_training_draws(policy: str, sample: Sample) -> None:
    def generators() -> list[np.random.Generator]:
        return [np.random.default_rng(k) for k in range(3)]

    batch, spent = Stepwise(policy).batch(sample, generators())
    draw = CropDrawer(CROP, HoverCodec(len(TYPES)), policy)
    expected = collate([draw(sample, rng) for rng in generators()])
    assert batch.keys() == expected.keys()
    assert all(torch.equal(batch[name], expected[name]) for name in expected)
    assert spent.shape == (len(STEPS),)
    assert (spent > 0).all()


def test_shares_add_up(sample: Sample) -> None:
    whole, *steps = step_timings(sample, "dist", 1)
    assert [step.job for step in steps] == [f"training sample, dist: {name}" for name in STEPS]
    assert sum(step.share or 0 for step in steps) == pytest.approx(1)
    assert sum(step.median_ms for step in steps) == pytest.approx(whole.median_ms)
    assert whole.samples_per_second == pytest.approx(1000 / whole.median_ms)
    most = max(steps, key=lambda step: step.share or 0)
    assert whole.note.startswith(most.job.split(": ")[1])


def test_workers_deliver_every_sample(sample: Sample) -> None:
    timing = worker_timing(sample, "flips", 1, 1)
    assert timing.samples_per_second is not None
    assert timing.samples_per_second == pytest.approx(1000 / timing.median_ms)
    assert timing.note == f"{timing.samples_per_second:.0f} per worker and second"


def test_without_workers_the_loader_is_timed_in_this_process_alone() -> None:
    timings = loader_timings(1, 0, ["none"])
    assert len(timings) == 1 + len(STEPS)
    assert BATCH > 1
