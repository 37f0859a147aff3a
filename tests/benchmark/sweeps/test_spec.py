"""Sweep files: products, cases, folds, and what is wrong in them."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from benchmark.host.files import write_json
from benchmark.host.machine import Machine
from benchmark.registry import dataset_class, method_class
from benchmark.results.spec import Overrides, RunSpec, Target
from benchmark.sweeps.estimate import Plan, estimated_minutes, plan, planned_steps
from benchmark.sweeps.search import SearchSpec
from benchmark.sweeps.spec import SweepSpec
from benchmark.sweeps.sweep import run_sweep
from postproc.errors import ConfigError

SHIPPED = sorted(Path(str(files("benchmark").joinpath("sweeps"))).glob("*.yaml"))


def load(tmp_path: Path, text: str) -> SweepSpec:
    file = tmp_path / "sweep.yaml"
    file.write_text(text)
    return SweepSpec.load(file)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_file_names_what_exists(file: Path) -> None:
    if "space" in yaml.safe_load(file.read_text()):
        search = SearchSpec.load(file)
        runs = [(search.run(chosen), []) for chosen in search.combinations()]
    else:
        runs = SweepSpec.load(file).runs()
    assert len({spec.run_id for spec, _ in runs}) == len(runs)
    for spec, targets in runs:
        for target in (*spec.training_sets, *targets):
            rows = dataset_class(target.dataset).splits().values()
            groups = {row.group for row in rows}
            _, _, names = target.split.partition(":")
            assert set(names.split(",")) <= groups | {""}
        assert set(spec.options) <= set(method_class(spec.method).__init__.__annotations__)


def test_cases_change_the_sweep_and_leave_the_rest(tmp_path: Path) -> None:
    sweep = load(
        tmp_path,
        "methods: [dist]\ndatasets: [kumar]\nseeds: [0, 1]\noptions: {dist: {features: 8}}\noverrides: {lr: 0.1}\n"
        "cases:\n  - {}\n  - {options: {dist: {target: softmax}}, overrides: {steps: 5}}\n  - {also: [tnbc]}\n",
    )
    specs = [spec for spec, _ in sweep.runs()]
    assert len(specs) == 6
    assert dict(specs[2].options) == {"features": 8, "target": "softmax"}
    assert specs[2].overrides == Overrides(lr=0.1, steps=5)
    assert specs[4].also == ("tnbc",)
    assert dict(specs[4].options) == {"features": 8}


def test_the_same_run_of_two_cases_is_done_once_with_both_targets(tmp_path: Path) -> None:
    sweep = load(
        tmp_path, "methods: [dist]\ndatasets: [kumar]\ncases: [{evaluate: [tnbc]}, {evaluate: [consep, tnbc]}]\n"
    )
    ((_, targets),) = sweep.runs()
    assert targets == [Target("tnbc", "all"), Target("consep", "test")]


def test_folds_leave_out_every_patient_once(tmp_path: Path) -> None:
    runs = load(tmp_path, "methods: [dist]\ndatasets: [tnbc]\ntrain_split: all\nfolds: true\n").runs()
    patients = {row.group for row in dataset_class("tnbc").splits().values()}
    assert {spec.split.removeprefix("except-group:") for spec, _ in runs} == patients
    for spec, (target,) in runs:
        assert spec.split.removeprefix("except-") == target.split


def test_a_search_checks_the_values_of_its_space() -> None:
    with pytest.raises(ConfigError, match="lr must be a positive number"):
        SearchSpec("dist", "kumar", {"lr": [-1.0]}).run({"lr": -1.0})
    with pytest.raises(ConfigError, match="expected a list"):
        SearchSpec("dist", "kumar", {"lr": 0.1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("methods: [dist]\n", "needs the key datasets"),
        ("methods: dist\ndatasets: [kumar]\n", "methods is 'dist', expected a list"),
        ("methods: [dist]\ndatasets: [kumar]\nfold: true\n", "Did you mean 'folds'"),
        ("methods: [dist]\ndatasets: [kumar]\ncases: [{seed: 1}]\n", "Did you mean 'seeds'"),
        ("methods: [dist]\ndatasets: [kumar]\ncases: [3]\n", "cases.0 is 3, expected a mapping"),
        ("- dist\n", "must contain a mapping"),
        ("a: b: c\n", "not readable as YAML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, text)


@pytest.mark.parametrize("dry_run", [True, False])
def test_options_are_checked_before_anything_starts(tmp_path: Path, dry_run: bool) -> None:
    (tmp_path / "s.yaml").write_text("methods: [fiji, dist]\ndatasets: [synthetic]\noptions: {dist: {featurs: 2}}\n")
    with pytest.raises(ConfigError, match="unknown option of dist 'featurs'"):
        run_sweep(tmp_path / "s.yaml", Machine(tmp_path / "data", tmp_path / "runs"), dry_run=dry_run)
    assert not (tmp_path / "runs").exists()


def test_training_time_is_estimated_from_runs_alike(tmp_path: Path) -> None:
    from benchmark.host.environment import hardware

    spec = RunSpec("dist", "kumar", options={"features": 4}, overrides=Overrides(steps=100, crop=64))
    assert estimated_minutes(spec, tmp_path) is None
    record = {
        "options": {"features": 4},
        "overrides": {"crop": 64, "steps": 10},
        "training": {"steps": 10, "minutes": 2.0, "hardware": hardware()},
    }
    write_json(tmp_path / "dist/consep/a/record.json", record)
    assert estimated_minutes(spec, tmp_path) == pytest.approx(20.0)
    limited = RunSpec("dist", "kumar", options={"features": 4}, overrides=Overrides(crop=64, max_minutes=5.0))
    assert estimated_minutes(limited, tmp_path) == 5.0
    write_json(tmp_path / "dist/consep/b/record.json", {**record, "options": {"features": 8}})
    assert estimated_minutes(spec, tmp_path) == pytest.approx(20.0)


def test_planned_steps_follow_the_committed_split() -> None:
    recipe = method_class("dist").recipe
    paper = RunSpec("dist", "kumar")
    assert planned_steps(paper, recipe) == 80 * (16 * 16 // 10)
    strict = RunSpec("dist", "kumar", protocol="strict")
    assert planned_steps(strict, recipe) < planned_steps(paper, recipe)
    both = RunSpec("dist", "kumar", also=("tnbc",))
    assert planned_steps(both, recipe) == 80 * (66 * 16 // 10)


@pytest.mark.parametrize("file", [path for path in SHIPPED if "space" not in path.read_text()], ids=lambda p: p.name)
def test_shipped_sweeps_train_as_long_as_their_papers_say(file: Path) -> None:
    sweep = SweepSpec.load(file)
    stated = sweep.paper_lengths()
    for spec, _ in sweep.runs():
        if (length := stated.get(spec.run_id)) is not None:
            planned = plan(spec)
            assert length.agrees(planned.steps, planned.epochs) or length.differs, spec.run_id


def test_the_sweeps_whose_papers_state_a_length_declare_it() -> None:
    lengths = {file.stem: SweepSpec.load(file).paper_lengths() for file in SHIPPED if "space" not in file.read_text()}
    assert {length.steps for length in lengths["distance-targets"].values()} == {100}  # 10 x 40 / 4, section V-B
    assert len(lengths["distance-targets"]) == 9
    assert {length.steps for length in lengths["ki67"].values()} == {100_000}  # section IV-B of KiNet's paper
    assert len(lengths["ki67"]) == 9
    for name in ("ablation-branches", "classification", "generalisation", "loss-terms", "segmentation"):
        assert any(run.startswith("hovernet/") and length.epochs == 100 for run, length in lengths[name].items())
    assert {length.epochs for length in lengths["training-sets"].values()} == {80}


def test_a_plan_counts_the_images_that_are_there(tmp_path: Path) -> None:
    spec = RunSpec("dist", "synthetic", options={"features": 2}, overrides=Overrides(epochs=2, batch_size=4))
    assert plan(spec) == Plan(2 * (8 * 16 // 4), 2)
    dataset_class("synthetic").write_synthetic(tmp_path / "synthetic", images=6, size=32)
    here = len(dataset_class("synthetic")(tmp_path / "synthetic").select("train"))
    assert plan(spec, tmp_path) == Plan(2 * (here * 16 // 4), 2)
    assert here < 8
    assert plan(RunSpec("dist", "points-csv", overrides=Overrides(epochs=2))).steps is None
    assert plan(RunSpec("dist", "points-csv", overrides=Overrides(steps=7))).steps == 7
    strict = RunSpec("dist", "kumar", protocol="strict", overrides=Overrides(max_minutes=3.0))
    assert plan(strict).early == "3 min or 10 epochs without a better validation"
    # options that change the recipe: random weights train one phase of batch 4 in place of 8 and 4
    scratch = RunSpec("hovernet", "kumar", options={"features": 8, "weights": "none", "mode": "fast"})
    assert plan(scratch).steps == 100 * (16 * 49 // 4)


@pytest.mark.parametrize(
    ("paper", "message"),
    [
        ("{steps: 5}", "needs its source"),
        ("{source: x}", "either steps or epochs"),
        ("{steps: 5, epochs: 5, source: x}", "either steps or epochs"),
        ("{steps: many, source: x}", "steps is 'many', expected a whole number"),
        ("{step: 5, source: x}", "Did you mean 'steps'"),
        ("5", "dist is 5, expected a mapping"),
    ],
)
def test_mistakes_in_the_papers_length_are_named(tmp_path: Path, paper: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, f"methods: [dist]\ndatasets: [kumar]\npaper: {{dist: {paper}}}\n")


def test_settings_of_the_training_leave_classical_methods_alone(tmp_path: Path) -> None:
    head = "methods: [fiji, dist]\ndatasets: [synthetic]\n"
    plain = [spec.run_id for spec, _ in load(tmp_path, head).runs()]
    changed = [spec.run_id for spec, _ in load(tmp_path, head + "overrides: {steps: 5, lr: 0.1}\n").runs()]
    assert changed[0] == plain[0]
    assert changed[1] != plain[1]
    with pytest.raises(ConfigError, match="fiji is not trained, so steps would have no effect"):
        load(tmp_path, head + "method_overrides: {fiji: {steps: 5}}\n").runs()
    with pytest.raises(ConfigError, match="unknown key 'stepz'"):
        load(tmp_path, "methods: [fiji]\ndatasets: [synthetic]\noverrides: {stepz: 5}\n").runs()


def test_a_case_with_fewer_methods_leaves_settings_of_the_others_aside(tmp_path: Path) -> None:
    text = "methods: [dist, unet]\ndatasets: [kumar]\noptions: {unet: {features: 8}}\ncases:\n  - {methods: [dist]}\n"
    assert [spec.method for spec, _ in load(tmp_path, text).runs()] == ["dist"]
    with pytest.raises(ConfigError, match="unknown method under options"):
        load(tmp_path, text + "  - {methods: [dist], options: {unet: {features: 4}}}\n").runs()


def test_folds_over_named_patients_train_on_the_rest_of_these(tmp_path: Path) -> None:
    text = 'methods: [dist]\ndatasets: [tnbc]\ntrain_split: "group:01,03,07"\nfolds: true\n'
    runs = load(tmp_path, text).runs()
    found = {(spec.split, str(target)) for spec, targets in runs for target in targets}
    assert found == {
        ("group:03,07", "tnbc.group:01"),
        ("group:01,07", "tnbc.group:03"),
        ("group:01,03", "tnbc.group:07"),
    }


def test_the_paper_of_2017_has_both_releases_of_tnbc() -> None:
    runs = SweepSpec.load(Path("leave-one-patient-out.yaml")).runs()
    splits = {spec.split for spec, _ in runs}
    assert len([split for split in splits if split.startswith("group:")]) == 7
    assert len([split for split in splits if split.startswith("except-group:")]) == 11
