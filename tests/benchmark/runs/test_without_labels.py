"""The self-supervised method learns from no label, validates on another dataset, and refuses what makes no sense."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import models.self_supervised as module
from benchmark.host.machine import Machine
from benchmark.results.spec import Overrides, RunSpec, Target
from benchmark.results.store import RunStore
from benchmark.runs.datasets import open_sources
from benchmark.runs.run import execute
from benchmark.sweeps.spec import SweepSpec
from datamodules import tiles as tiles_module
from datamodules.kumar import Kumar
from datamodules.monuseg import MoNuSeg
from datamodules.reading.tile_manifest import read_manifest, tile_file, write_manifest
from datamodules.tiles import Tiles
from datamodules.tnbc import TNBC
from postproc.errors import ConfigError, DataError

SHORT = Overrides(crop=48, batch_size=3, steps=4, crops_per_image=1)
PATCHES = RunSpec("self-supervised", "kumar", options={"width": 2}, overrides=SHORT)
TILES = dataclasses.replace(PATCHES, dataset="tiles", protocol="strict", validate="monuseg")


class Classifier(nn.Module):
    """Stands in for the ResNet-34, which is too slow here."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(images.mean((2, 3)))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "scale_classifier", lambda weights: Classifier())
    monkeypatch.setattr(tiles_module, "BATCHES", 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for seed, kind in enumerate((Kumar, TNBC, Tiles)):  # otherwise the datasets share images
        kind.write_synthetic(root / kind.card.name, size=64, seed=seed)
    MoNuSeg.write_synthetic(root / "monuseg", size=64, images=8, seed=3)
    return root


def machine(folder: Path, runs: Path) -> Machine:
    return Machine(folder, runs, workers=0, progress=False)


def weights(store: RunStore) -> dict[str, Tensor]:
    state: dict[str, Tensor] = torch.load(store.weights_file, weights_only=True)
    return state


def test_annotation_is_neither_needed_nor_read(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target("tnbc", "group:01")
    clean = execute(PATCHES, [target], machine(folder, tmp_path / "clean"))
    shutil.copytree(folder, tmp_path / "data")
    poisoned = Kumar(tmp_path / "data" / "kumar")
    for record in poisoned.records:
        record.annotations[0].write_bytes(b"poison")
    with pytest.raises(DataError):
        Kumar.read(poisoned.records[0])

    def never(*_: object) -> None:
        raise AssertionError("the annotation of a training image was read")

    monkeypatch.setattr(Kumar, "read", never)
    dirty = execute(PATCHES, [target], machine(tmp_path / "data", tmp_path / "dirty"))
    first, second = weights(clean.store), weights(dirty.store)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    records = [json.loads(result.store.record_file.read_text()) for result in (clean, dirty)]
    assert records[0]["data"] == records[1]["data"]
    assert records[0]["data"]["nuclei"] is None
    scores = [next(result.store.path.rglob("scores.csv")).read_bytes() for result in (clean, dirty)]
    assert scores[0] == scores[1]


def test_other_methods_do_read_it(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above relies on."""

    def never(*_: object) -> None:
        raise AssertionError("read")

    monkeypatch.setattr(Kumar, "read", never)
    spec = RunSpec("dist", "kumar", options={"features": 2}, overrides=dataclasses.replace(SHORT, augment="flips"))
    with pytest.raises(AssertionError, match="read"):
        execute(spec, [Target("tnbc", "group:01")], machine(folder, tmp_path))


def test_tiles_are_validated_on_another_dataset(folder: Path, tmp_path: Path) -> None:
    sources = open_sources(TILES, machine(folder, tmp_path))
    assert str(sources.validation) == "monuseg.validation"
    kept = [record.image_id for record in sources.validation.records()]
    assert [sample.image_id for sample in sources.validation_images] == kept

    result = execute(TILES, [Target("tnbc", "all"), Target("monuseg", "all")], machine(folder, tmp_path))
    record = json.loads(result.store.record_file.read_text())
    assert record["train"] == {"dataset": "tiles", "split": "train", "validate": "monuseg.validation"}
    assert record["validation"]["images"] == len(kept)
    assert record["training"]["best_epoch"] in (0, 1)
    assert record["training"]["epochs"] == 2
    assert 0 <= record["training"]["val_loss"] <= 1  # 1 - Dice
    params = json.loads(result.store.params_file.read_text())["self-supervised"]
    assert len(params["trials"]) == 3**4
    best = max(params["trials"], key=lambda trial: trial["score"])
    assert next(t for t in params["trials"] if t["score"] == best["score"]) == params["params"] | {
        "score": best["score"]
    }
    seen = {
        path.parts[-3]: json.loads(path.read_text())["seen"]
        for path in result.store.path.glob("evaluations/*/*/evaluation.json")
    }
    assert seen == {"tnbc.all": 0, "monuseg.all": len(kept)}


def test_patients_are_on_one_side_only(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "data")
    kept = MoNuSeg(tmp_path / "data" / "monuseg").select("validation")[0]
    root = tmp_path / "data" / "tiles"
    row = read_manifest(root)[0]
    slide = f"{kept.group}-01Z-00-DX1"
    file = tile_file(slide, row.magnification, row.x, row.y)
    (root / file).parent.mkdir(parents=True)
    (root / row.file).rename(root / file)
    write_manifest(root, [dataclasses.replace(row, slide=slide, file=file), *read_manifest(root)[1:]])
    with pytest.raises(ConfigError, match=rf"1 groups \(patients\) of monuseg.validation.*{kept.group}"):
        open_sources(TILES, machine(tmp_path / "data", tmp_path))
    paper = dataclasses.replace(TILES, protocol="paper", validate="")
    result = execute(paper, [Target("monuseg", "train")], machine(tmp_path / "data", tmp_path))
    about = next(result.store.path.glob("evaluations/*/*/evaluation.json"))
    assert json.loads(about.read_text())["seen"] == 1  # its slide was trained on


def test_what_makes_no_sense_is_refused_before_training(folder: Path, tmp_path: Path) -> None:
    there = machine(folder, tmp_path)
    with pytest.raises(ConfigError, match="protocol paper does not validate"):
        dataclasses.replace(PATCHES, validate="monuseg")
    with pytest.raises(ConfigError, match="'monusegg'"):
        dataclasses.replace(TILES, validate="monusegg")
    with pytest.raises(ConfigError, match=r"cannot validate on tiles\.train"):
        open_sources(dataclasses.replace(TILES, dataset="kumar", validate="tiles.train"), there)
    with pytest.raises(ConfigError, match="--validate"):
        execute(dataclasses.replace(TILES, validate=""), [Target("tnbc", "all")], there)
    with pytest.raises(ConfigError, match="name other sets with --evaluate"):
        execute(TILES, [Target("tiles", "train")], there)
    with pytest.raises(ConfigError, match="unet needs annotation, but tiles has none"):
        execute(dataclasses.replace(TILES, method="unet", options={}), [Target("tnbc", "all")], there)
    assert not list(tmp_path.rglob("spec.json"))


def test_the_name_of_a_run_changes_only_where_another_set_is_validated_on() -> None:
    plain = dataclasses.replace(PATCHES, protocol="strict")
    assert "validate" not in plain.to_dict()
    other = dataclasses.replace(plain, validate="monuseg.validation")
    assert other.run_id != plain.run_id
    assert RunSpec.from_dict(json.loads(json.dumps(other.to_dict()))) == other


def test_the_sweep_is_the_table_of_the_paper() -> None:
    runs = SweepSpec.load(Path("self-supervised.yaml")).runs()
    assert [(spec.dataset, dict(spec.options), spec.validate) for spec, _ in runs] == [
        ("tiles", {}, "monuseg.validation"),
        ("tiles", {"smooth": False}, "monuseg.validation"),
        ("tiles", {"equivariance": False}, "monuseg.validation"),
        ("tiles", {"sparsity": False}, "monuseg.validation"),
        ("monuseg", {}, ""),
    ]
    assert all(
        [str(target) for target in targets] == ["monuseg.test", "tnbc.all", "consep.test"] for _, targets in runs
    )
    assert {spec.protocol for spec, _ in runs} == {"strict"}
