"""Trainings that start from a trained model: which weights, options and images they take over."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmark.host.machine import Machine
from benchmark.results.model_folder import CARD, Description
from benchmark.results.spec import Overrides, RunSpec, Target
from benchmark.results.trained_images import TrainedImages
from benchmark.runs.export import export
from benchmark.runs.run import execute, open_run
from benchmark.runs.start import has_begun
from benchmark.runs.trained import load_run, load_trained
from benchmark.sweeps.search import SearchSpec
from benchmark.sweeps.spec import SweepSpec
from datamodules.base import SYNTHETIC_MARKER
from datamodules.consep import CoNSeP
from datamodules.kumar import Kumar
from datamodules.masks import Masks
from leaderboards.records import load_scores
from postproc.errors import ConfigError, DataError

SMALL = {"encoder": "tf_efficientnet_lite0", "width": 0.25}
SHORT = Overrides(crop=64, augment="flips", crops_per_image=1, steps=1, batch_size=2)


@pytest.fixture(scope="module")
def made(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """Data of three sets, and a run of HoVer-Lite on CoNSeP."""

    def fill(folder: Path) -> None:
        for seed, kind in enumerate((CoNSeP, Kumar, Masks)):
            kind.write_synthetic(folder / "data" / kind.card.name, images=6, size=72, seed=seed)
        spec = RunSpec("hover-lite", "consep", options={**SMALL, "weights": "none"}, overrides=SHORT)
        execute(spec, [], machine(folder))

    return once("start-from", fill)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def machine(folder: Path) -> Machine:
    return Machine(folder / "data", folder / "runs", workers=0, progress=False, wandb="off")


def parent_of(folder: Path) -> Path:
    (path,) = (folder / "runs/hover-lite/consep").iterdir()
    return path


def child(folder: Path, dataset: str = "masks", **changes: object) -> RunSpec:
    overrides = dataclasses.replace(SHORT, start_from=str(parent_of(folder)), **changes)
    return RunSpec("hover-lite", dataset, overrides=overrides)


def test_every_tensor_is_that_of_the_parent(folder: Path) -> None:
    spec = child(folder)
    assert dict(spec.options) == SMALL
    run = open_run(spec, machine(folder))
    known = torch.load(parent_of(folder) / "checkpoints/final.pt", weights_only=True)
    own = run.method.state_dict()
    assert own.keys() == known.keys()
    for name, value in known.items():  # means and variances of batches too
        torch.testing.assert_close(own[name], value, rtol=0, atol=0)
    assert run.start is not None
    assert (run.start.new, run.start.left_out) == ((), ())


@pytest.mark.parametrize("types", ["[a, b]", "[]"])
def test_heads_of_other_types_start_anew(folder: Path, types: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "data/masks/dataset.yaml").write_text(f"types: {types}\nmagnification: 20\n")
    for path in folder.glob("data/masks/*/labels/*_types.*"):
        path.unlink()
    run = open_run(child(folder), machine(folder))
    start, known = run.start, load_run_of(parent_of(folder))
    assert start is not None
    assert (start.new == ()) == (types == "[]")
    assert start.left_out
    assert all(name.startswith("heads.tp.") for name in (*start.new, *start.left_out))
    for name, value in run.method.state_dict().items():
        if name not in start.new:
            torch.testing.assert_close(value, known[name], rtol=0, atol=0)
    if types == "[]":
        execute(child(folder), [Target("masks")], machine(folder))
        shown = capsys.readouterr().out
        assert "left out: heads.tp; note: it was trained at 40x, these images are at 20x" in shown


def load_run_of(path: Path) -> dict[str, torch.Tensor]:
    return dict(load_trained(path).method.cpu().state_dict())


class TestIdentity:
    """Which runs are the same."""

    def test_the_weights_name_the_run_and_not_their_place(self, folder: Path) -> None:
        spec, path = child(folder), parent_of(folder)
        assert spec.parent.startswith(f"hover-lite/consep/{path.name}@")
        assert RunSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
        moved = folder / "elsewhere/hover-lite/consep" / path.name
        shutil.copytree(path, moved)
        overrides = dataclasses.replace(SHORT, start_from=str(moved))
        assert RunSpec("hover-lite", "masks", overrides=overrides).run_id == spec.run_id
        weights = path / "checkpoints/final.pt"
        state = torch.load(weights, weights_only=True)
        torch.save({name: value + 1 for name, value in state.items()}, weights)
        other = child(folder)
        assert other.run_id != spec.run_id
        assert RunSpec("hover-lite", "masks", options=SMALL, overrides=SHORT).run_id not in (other.run_id, spec.run_id)
        with pytest.raises(ConfigError, match=r"was hover-lite/consep/.* and is now .*; start a new run"):
            open_run(spec, machine(folder))

    def test_shipped_models_and_sweeps_and_searches(self) -> None:
        common = {"overrides": {"start_from": "default", "steps": 1}}
        sweep = SweepSpec(("hover-lite",), ("kumar", "masks"), **common)
        sweep.check()
        assert [spec.parent.partition("@")[0] for spec, _ in sweep.runs()] == ["default", "default"]
        search = SearchSpec("hover-lite", "kumar", {"start_from": ("default", "hover-lite-types"), "lr": (1e-3, 1e-4)})
        search.check()
        assert len({search.run(chosen).run_id for chosen in search.combinations()}) == 4

    def test_a_resumed_run_does_not_need_its_parent(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        spec = child(folder)
        store = execute(spec, [], machine(folder)).store
        before = (store.path / "checkpoints/final.pt").read_bytes()
        store.record_file.unlink()
        shutil.rmtree(parent_of(folder))
        again = store.spec()
        assert again == spec
        assert has_begun(store)
        execute(again, [Target("masks")], machine(folder))
        assert (store.path / "checkpoints/final.pt").read_bytes() == before
        assert load_run(store)[2]["parent"]["name"] == spec.parent.partition("@")[0]

    def test_the_best_weights_alone_are_no_beginning(self, folder: Path) -> None:
        run = open_run(child(folder), machine(folder))
        run.store.checkpoints.mkdir()
        (run.store.checkpoints / "phase0-best.pt").touch()
        assert not has_begun(run.store)
        (run.store.checkpoints / "phase0.ckpt").touch()
        assert has_begun(run.store)


class TestMistakes:
    """What does not fit is named with both values."""

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"width": 0.5}, r"width is 0\.25 there and 0\.5 here\); leave out --options\.width"),
            ({"decoder": "fpn"}, r"decoder is 'unet' there and 'fpn' here"),
        ],
    )
    def test_other_networks(self, folder: Path, options: dict[str, object], message: str) -> None:
        spec = RunSpec("hover-lite", "masks", options=options, overrides=child(folder).overrides)
        with pytest.raises(ConfigError, match=message):
            open_run(spec, machine(folder))
        assert not (folder / "runs" / spec.run_id).exists()

    def test_other_methods_and_unusable_models(self, folder: Path) -> None:
        overrides = child(folder).overrides
        with pytest.raises(ConfigError, match="it is a model of hover-lite, not of dist"):
            RunSpec("dist", "masks", overrides=overrides)
        with pytest.raises(ConfigError, match="leave out option weights: all weights are those of start_from="):
            RunSpec("hover-lite", "masks", options={"weights": "none"}, overrides=overrides)
        with pytest.raises(ConfigError, match="Did you mean 'default'"):
            RunSpec("hover-lite", "masks", overrides=Overrides(start_from="defualt"))
        (parent_of(folder) / "record.json").unlink()
        with pytest.raises(ConfigError, match="the run is not finished"):
            child(folder)

    def test_damaged_weights(self, folder: Path) -> None:
        (parent_of(folder) / "checkpoints/final.pt").write_bytes(b"damaged")
        with pytest.raises(DataError, match=r"cannot load the weights .*final\.pt"):
            open_run(child(folder), machine(folder))

    def test_a_run_without_weights(self, folder: Path) -> None:
        path = execute(RunSpec("fiji", "kumar"), [], machine(folder)).store.path
        with pytest.raises(ConfigError, match="fiji trains nothing"):
            RunSpec("fiji", "kumar", overrides=Overrides(start_from=str(path)))


def test_images_of_the_parent_are_training_images_of_the_child(folder: Path) -> None:
    train = CoNSeP(folder / "data/consep").select("train")[0]
    copied = Masks(folder / "data/masks").select("test")[0]
    shutil.copyfile(train.image, copied.image)
    result = execute(child(folder), [Target("masks"), Target("consep", "train")], machine(folder))
    about = {
        path.parent.parent.name: json.loads(path.read_text())
        for path in result.store.path.glob("evaluations/*/*/evaluation.json")
    }
    assert about["masks.test"]["seen_images"] == {copied.image_id: f"consep.train/{train.image_id}"}
    assert about["consep.train"]["seen"] == about["consep.train"]["images"]
    assert set(TrainedImages.read(result.store.trained_images_file).sets) == {"masks.train", "consep.train"}


def test_stand_ins_of_the_parent_are_known_by_file(folder: Path) -> None:
    (folder / "data/consep" / SYNTHETIC_MARKER).touch()
    result = execute(child(folder), [Target("consep", "train")], machine(folder))
    (file,) = result.store.path.glob("evaluations/consep.train/*/evaluation.json")
    assert set(json.loads(file.read_text())["seen_images"].values()) >= {"the same file"}


def test_record_row_and_card_name_the_parent(folder: Path) -> None:
    spec = child(folder)
    path = execute(spec, [Target("kumar")], machine(folder)).store.path
    record = json.loads((path / "record.json").read_text())
    assert record["overrides"]["start_from"] == record["training"]["weights"] == spec.parent
    assert str(folder) not in (path / "record.json").read_text()
    assert record["parent"]["sha256"].startswith(spec.parent.partition("@")[2])
    titles = set(load_scores([folder / "runs"])["title"])
    assert len(titles) == 1
    assert f"fine-tuned from {spec.parent}" in titles.pop()
    model = export(path, folder / "mine", name="mine", half=False, licence="", note="")
    about = Description.read(model)
    assert about.parent == spec.parent
    assert about.trained_on == ("masks.train", "consep.train")
    assert (
        f"- fine-tuned from {record['parent']['name']}, sha256 {record['parent']['sha256']}"
        in (model / CARD).read_text()
    )
    # a grandchild knows all of them
    overrides = dataclasses.replace(SHORT, start_from=str(model))
    grandchild = execute(RunSpec("hover-lite", "kumar", overrides=overrides), [], machine(folder)).store
    assert set(TrainedImages.read(grandchild.trained_images_file).sets) == {
        "kumar.train",
        "masks.train",
        "consep.train",
    }
    assert load_trained(grandchild.path).trained_on == ("kumar.train", "masks.train", "consep.train")
