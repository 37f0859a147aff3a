"""Training on several datasets at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.host.machine import Machine
from benchmark.results.spec import Overrides, RunSpec, Target
from benchmark.runs.datasets import open_sources
from benchmark.runs.run import execute
from datamodules.kumar import Kumar
from datamodules.synthetic_sets import Synthetic
from datamodules.tnbc import TNBC
from postproc.errors import ConfigError

SHORT = Overrides(crop=48, augment="flips", crops_per_image=1, steps=2, batch_size=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for seed, kind in enumerate((Synthetic, Kumar, TNBC)):  # otherwise the datasets share images
        kind.write_synthetic(root / kind.card.name, size=64, seed=seed)
    return root


def spec(*also: str, protocol: str = "paper", dataset: str = "kumar") -> RunSpec:
    return RunSpec("dist", dataset, protocol=protocol, options={"features": 2}, overrides=SHORT, also=also)


def machine(folder: Path, runs: Path) -> Machine:
    return Machine(folder, runs, workers=0, progress=False)


def test_the_name_of_a_run_names_every_training_set() -> None:
    assert spec("tnbc").run_id.startswith("dist/kumar+tnbc.all/paper-s0-")
    assert RunSpec.from_dict(json.loads(json.dumps(spec("tnbc").to_dict()))) == spec("tnbc")
    assert "also" not in spec().to_dict()  # runs stored before there were further training sets keep their name


@pytest.mark.parametrize("protocol", ["paper", "strict"])
def test_the_images_of_all_sets_are_trained_on(folder: Path, tmp_path: Path, protocol: str) -> None:
    sources = open_sources(spec("tnbc", "synthetic", protocol=protocol), machine(folder, tmp_path))
    records = [record for images in sources.train for record in images.records()]
    held_back = sum(record.validation for record in records)
    assert held_back > 0
    assert len(sources.training_images) == len(records) - (held_back if protocol == "strict" else 0)


def test_a_run_records_every_set(folder: Path, tmp_path: Path) -> None:
    result = execute(spec("tnbc"), [Target("kumar", "test_same")], machine(folder, tmp_path))
    record = json.loads(result.store.record_file.read_text())
    assert record["train"]["also"] == ["tnbc.all"]
    assert [entry["dataset"] for entry in record["also"]] == ["tnbc"]


def test_sets_that_cannot_be_joined_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"shares \d+ images"):
        open_sources(spec("kumar.all"), machine(folder, tmp_path))
    with pytest.raises(ConfigError, match="'tnbcc'"):
        spec("tnbcc")


def test_scores_of_training_images_are_marked(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    targets = [Target("kumar", "test_same"), Target("tnbc", "all")]
    result = execute(spec("tnbc"), targets, machine(folder, tmp_path))
    seen = {
        path.parts[-3]: json.loads(path.read_text())["seen"]
        for path in result.store.path.glob("evaluations/*/*/evaluation.json")
    }
    assert seen["kumar.test_same"] == 0
    assert seen["tnbc.all"] > 0
    assert "of tnbc.all are training images" in capsys.readouterr().out
