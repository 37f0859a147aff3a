"""Specs: identity, validation, and what people see when something is wrong."""

from __future__ import annotations

import dataclasses

import pytest

from benchmark.options import check_options
from benchmark.registry import DATASETS, METHODS, TABLES, dataset_class, method_class, table_class
from benchmark.results.spec import Overrides, RunSpec, Target
from models.base.recipe import Cosine, Milestones, Phase, Recipe, Step
from models.dist import DIST
from models.hovernet import HoVerNet
from postproc.errors import ConfigError


def test_run_id_depends_on_what_is_trained_and_on_nothing_else() -> None:
    spec = RunSpec("dist", "kumar", options={"features": 16, "weight_decay": 0.0})
    same = RunSpec("dist", "kumar", options={"weight_decay": 0.0, "features": 16})
    assert spec.run_id == same.run_id
    assert spec.run_id.startswith("dist/kumar/paper-s0-")
    for change in ({"seed": 1}, {"protocol": "strict"}, {"options": {}}, {"overrides": Overrides(lr=0.1)}):
        assert dataclasses.replace(spec, **change).run_id != spec.run_id


def test_spec_survives_json() -> None:
    spec = RunSpec("unet", "tnbc", "except-group:03", "strict", 3, overrides=Overrides(steps=7, schedule="cosine"))
    assert RunSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("dits", "kumar"), "Did you mean 'dist'"),
        (("dist", "kumr"), "Did you mean 'kumar'"),
        (("dist", "kumar", "train", "papr"), "Did you mean 'paper'"),
    ],
)
def test_wrong_names_come_with_the_nearest_one(arguments: tuple[str, ...], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        RunSpec(*arguments)


def test_unknown_keys_are_named() -> None:
    with pytest.raises(ConfigError, match=r"'stepps'.*'steps'"):
        RunSpec.from_dict({"method": "dist", "dataset": "kumar", "overrides": {"stepps": 1}})
    with pytest.raises(ConfigError, match="lr must be a positive number"):
        Overrides(lr=-1.0)


@pytest.mark.parametrize(
    ("text", "target"),
    [("kumar", ("kumar", "test")), ("kumar.test_same", ("kumar", "test_same")), ("tnbc", ("tnbc", "all"))],
)
def test_targets(text: str, target: tuple[str, str]) -> None:
    assert Target.parse(text) == Target(*target)


def test_options_are_checked_and_converted() -> None:
    assert check_options(DIST, {"features": "16", "weight_decay": "0.5"}) == {"features": 16, "weight_decay": 0.5}
    assert check_options(HoVerNet, {"classify": "false", "mode": "fast"}) == {"classify": False, "mode": "fast"}
    with pytest.raises(ConfigError, match=r"'featurs'.*'features'"):
        check_options(DIST, {"featurs": 16})
    with pytest.raises(ConfigError, match="expected int"):
        check_options(DIST, {"features": "many"})
    with pytest.raises(ConfigError, match="Choices: fast, original"):
        check_options(HoVerNet, {"mode": "slow"})


def test_registries_resolve() -> None:
    for name in METHODS:
        assert method_class(name).card.name == name
    for name in DATASETS:
        assert dataset_class(name).card.name == name
    for name in TABLES:
        assert table_class(name).__doc__


def test_recipe_overrides_keep_the_proportion_of_phases() -> None:
    recipe = Recipe(crop=64, phases=(Phase(8, 1e-4, epochs=50), Phase(4, 1e-4, epochs=50)), augment="flips")
    assert [phase.steps for phase in recipe.override(steps=7).phases] == [4, 3]
    assert [phase.epochs for phase in recipe.override(epochs=10).phases] == [5, 5]
    assert recipe.override(batch_size=2).phases[0].batch_size == 2
    with pytest.raises(ConfigError, match="either epochs or steps"):
        recipe.override(steps=1, epochs=1)
    with pytest.raises(ConfigError, match="'cosin'"):
        recipe.override(schedule="cosin")


def test_schedules() -> None:
    cosine = Cosine(warmup=0.1)
    assert cosine(0.05) == pytest.approx(0.5)
    assert cosine(0.1) == pytest.approx(1.0)
    assert cosine(1.0) == pytest.approx(0.0)
    halves, eighths = Step(parts=2), Step(parts=8, factor=0.96)
    assert [halves(share) for share in (0.0, 0.499, 0.5, 1.0)] == pytest.approx([1, 1, 0.1, 0.1])
    assert eighths(1.0) == eighths(0.875) == pytest.approx(0.96**7)
    warm = Milestones.of_epochs(40, ((1, 0.5), (15, 0.1), (45, 0.01)))
    assert [warm(share) for share in (0.0, 1 / 40, 14.9 / 40, 15 / 40, 1.0)] == pytest.approx([1, 0.5, 0.5, 0.1, 0.1])


@pytest.mark.parametrize("total", [3, 7, 30, 240, 1000])
@pytest.mark.parametrize("parts", [2, 3, 4, 8])
def test_a_drop_comes_at_the_same_share_of_every_length(total: int, parts: int) -> None:
    rates = [Step(parts)(step / total) for step in range(total)]
    drops = [step for step in range(1, total) if rates[step] < rates[step - 1]]
    assert drops == sorted({-(-part * total // parts) for part in range(1, parts)} - {total})


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_that_generators_refuse_are_refused(seed: int) -> None:
    with pytest.raises(ConfigError, match="seed must be 0 to 4294967295"):
        RunSpec("dist", "kumar", seed=seed)
