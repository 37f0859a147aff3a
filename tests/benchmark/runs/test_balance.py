"""Evening out how often types are learnt: identity of runs, refusals, weights, and a training."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.results.spec import BALANCES, Overrides, RunSpec
from benchmark.results.store import RunStore
from benchmark.runs.balance import check_balance, type_weights, window_side
from benchmark.runs.train import build_method, task_of, train
from datamodules.ki67 import Ki67
from datamodules.reading.sample import Sample
from datamodules.synthetic.images import generate
from datamodules.synthetic_sets import Synthetic
from models.base.method import NucleiMethod
from postproc.errors import ConfigError
from postproc.instances import Instances
from tests.helpers.runs import run_of

SHORT = Overrides(crop=48, augment="flips", crops_per_image=1, steps=2, batch_size=2)
SPEC = RunSpec("dist", "synthetic", options={"features": 2, "classify": True}, overrides=SHORT)


def balanced(balance: str | None, spec: RunSpec = SPEC) -> RunSpec:
    return dataclasses.replace(spec, overrides=dataclasses.replace(spec.overrides, balance=balance))


def check(spec: RunSpec) -> None:
    check_balance(spec, build_method(spec, task_of(spec)))


def test_runs_that_say_nothing_keep_their_identity() -> None:
    assert RunSpec("hovernet", "consep").run_id == "hovernet/consep/paper-s0-041d81ab"
    assert "balance" not in SPEC.to_dict()["overrides"]
    assert balanced(None).run_id == SPEC.run_id
    assert len({balanced(name).run_id for name in (None, *BALANCES)}) == 4
    assert RunSpec.from_dict(balanced("both").to_dict()) == balanced("both")
    with pytest.raises(ConfigError, match="Did you mean 'crops'"):
        Overrides(balance="crop")


def test_windows_leave_an_eighth_on_either_side() -> None:
    recipe = balanced("crops").overrides.applied_to(build_method(SPEC, task_of(SPEC)).recipe)
    assert [window_side(balanced(name), recipe) for name in (None, *BALANCES)] == [None, 60, None, 60]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (RunSpec("dist", "kumar", overrides=Overrides(balance="crops")), "kumar has no types"),
        (dataclasses.replace(balanced("loss"), options={"features": 2}), "classify=true"),
        (RunSpec("fcrn-a", "ki67", overrides=Overrides(balance="both")), "use balance=crops"),
        (RunSpec("qupath", "consep", overrides=Overrides(balance="crops")), "does not use annotation"),
    ],
)
def test_a_balance_that_would_do_nothing_is_refused(spec: RunSpec, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(spec)


def test_what_can_be_balanced_is_accepted() -> None:
    for name in BALANCES:
        check(balanced(name))
    check(dataclasses.replace(balanced("crops"), options={"features": 2}))  # a method may profit that learns no types
    check(RunSpec("fcrn-a", "ki67", overrides=Overrides(balance="crops")))


def sample(seed: int) -> Sample:
    image, truth = generate((120, 120), np.random.default_rng(seed), density=3e-3)
    types = truth.types
    assert types is not None
    types = np.where(types == 2, 0, types)  # no nucleus of type 2, some without a type
    return Sample(image, dataclasses.replace(truth, types=types), f"{seed}", "group")


def test_weights_are_inverse_to_the_px_of_a_type() -> None:
    samples = [sample(0), sample(1), Sample(np.zeros((8, 8, 3), np.uint8), Instances((8, 8)), "bare", "group")]
    px = {1: 0, 3: 0, 4: 0}
    for each in samples[:2]:
        assert each.truth.labels is not None
        assert each.truth.types is not None
        for k, kind in enumerate(each.truth.types.tolist(), start=1):
            if kind:
                px[kind] += int((each.truth.labels == k).sum())
    weights = type_weights(samples, 4)
    assert weights.dtype == np.float32
    assert weights[[0, 2]].tolist() == [1, 1]
    total = sum(px.values())
    assert {kind: weights[kind] for kind in px} == pytest.approx({kind: total / (3 * n) for kind, n in px.items()})
    assert sum(weights[kind] * n for kind, n in px.items()) == pytest.approx(total)  # nuclei weigh as much as before


def test_points_are_counted_where_there_are_no_outlines() -> None:
    truth = Instances((9, 9), points=np.zeros((5, 2), np.float32), types=np.array([1, 1, 1, 2, 0]))
    weights = type_weights([Sample(np.zeros((9, 9, 3), np.uint8), truth, "a", "a")], 2)
    assert weights.tolist() == pytest.approx([1, 4 / 6, 4 / 2])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    Synthetic.write_synthetic(root / "synthetic", size=64)
    return root


def trained(spec: RunSpec, data: Path, runs: Path) -> NucleiMethod:
    kind = {"synthetic": Synthetic, "ki67": Ki67}[spec.dataset]
    run = run_of(spec, RunStore.create(runs, spec), kind(data / spec.dataset))
    train(run)
    return run.method


def test_a_training_follows_what_is_asked(data: Path, tmp_path: Path) -> None:
    weights = {name: trained(balanced(name), data, tmp_path) for name in (None, *BALANCES)}
    found = [method.type_weights for method in weights.values()]
    assert [each is None for each in found] == [True, True, False, False]
    images = [Synthetic(data / "synthetic").read(r) for r in Synthetic(data / "synthetic").select("train")]
    for each in (found[2], found[3]):
        assert each is not None
        np.testing.assert_allclose(each.numpy(), type_weights(images, 4))
    heads = [method.state_dict()["type_head.weight"] for method in weights.values()]
    for k, one in enumerate(heads):
        for two in heads[:k]:
            assert not torch.equal(one, two), "each balance is another training"


def test_points_are_balanced_too(data: Path, tmp_path: Path) -> None:
    Ki67.write_synthetic(data / "ki67", size=96)
    short = Overrides(crop=64, steps=2, batch_size=2, crops_per_image=1, balance="crops")
    method = trained(RunSpec("kinet", "ki67", options={"width": 4}, overrides=short), data, tmp_path)
    assert all(torch.isfinite(p).all() for p in method.parameters())
