"""Model folders: exported, copied, loaded; damaged and foreign ones are named; the shipped ones work."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from benchmark.forward.maps import InferenceSettings, predict_maps
from benchmark.host.machine import Machine
from benchmark.results.known_models import find_model
from benchmark.results.model_folder import CARD, DESCRIPTION, WEIGHTS, Description, shipped_models
from benchmark.results.spec import Overrides, RunSpec, Target
from benchmark.runs.export import export, training_sets
from benchmark.runs.run import execute
from benchmark.runs.trained import load_trained
from datamodules.synthetic.images import generate
from datamodules.synthetic_sets import Synthetic
from postproc.errors import ConfigError, DataError

OPTIONS = {"weights": "none", "encoder": "tf_efficientnet_lite0", "width": 0.5}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    Synthetic.write_synthetic(root / "data" / "synthetic", size=96)
    spec = RunSpec("hover-lite", "synthetic", options=OPTIONS, overrides=Overrides(steps=2, crop=64, batch_size=2))
    machine = Machine(root / "data", root / "runs", 1, 0, False, wandb="off")
    return execute(spec, [Target("synthetic")], machine).store.path


@pytest.fixture(scope="module")
def model(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(run, tmp_path_factory.mktemp("out") / "mine", name="", half=False, licence="", note="A test.")


def test_a_copied_folder_predicts_what_the_run_predicts(run: Path, model: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(model, tmp_path / "elsewhere"))
    image, _ = generate((96, 96), np.random.default_rng(0))
    first, second = load_trained(run), load_trained(moved)
    assert first.params == second.params
    assert first.magnification == second.magnification == 40.0
    assert first.trained_on == second.trained_on == ("synthetic.train",)
    assert first.method.task == second.method.task
    settings = InferenceSettings(precision="32-true")
    for name, value in predict_maps(first.method, image, settings).items():
        assert np.array_equal(value, predict_maps(second.method, image, settings)[name])


def test_half_precision_halves_the_file_and_keeps_batch_statistics(run: Path, model: Path, tmp_path: Path) -> None:
    half = export(run, tmp_path / "half", name="small", half=True, licence="CC0", note="")
    assert (half / WEIGHTS).stat().st_size < 0.6 * (model / WEIGHTS).stat().st_size
    assert Description.read(half).name == "small"
    assert Description.read(half).licence == "CC0"
    whole = load_trained(model).method.state_dict()
    for name, value in load_trained(half).method.state_dict().items():
        assert value.dtype == whole[name].dtype
        assert torch.allclose(value.float(), whole[name].float(), rtol=1e-3, atol=1e-6)
        assert value.ndim > 1 or torch.equal(value, whole[name])


def test_the_card_says_what_it_was_trained_on_and_how_it_scores(model: Path) -> None:
    text = (model / CARD).read_text()
    assert text.startswith("# mine\n\nA test.\n")
    assert "synthetic.train: 8 images" in text
    assert "| synthetic.test | HoVer-Lite | 4 |" in text
    assert "not a medical device" in text.lower()


def test_existing_files_are_never_overwritten(run: Path, model: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    with pytest.raises(ConfigError, match="never overwritten"):
        export(run, model, name="", half=False, licence="", note="")
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before
    with pytest.raises(ConfigError, match=r"no spec\.json"):
        export(tmp_path, tmp_path / "new", name="", half=False, licence="", note="")
    assert not (tmp_path / "new").exists()


def test_unknown_and_foreign_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'default'"):
        find_model(Path("defualt"))
    with pytest.raises(ConfigError, match=r"neither a run directory.*model\.yaml"):
        find_model(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "hover-light"}, "Did you mean 'hover-lite'"),
        ({"format": 99}, "another version"),
        ({"more": 1}, "unknown key 'more'"),
        ({"options": [1]}, "options is"),
        ({"parameters": {"hover-lite": {"z": 1}}}, "parameters do not fit"),
        ({"sha256": "0"}, "sha256 differs"),
    ],
)
def test_a_description_that_is_wrong_is_named(model: Path, tmp_path: Path, change: dict, message: str) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "wrong"))
    content = yaml.safe_load((folder / DESCRIPTION).read_text())
    (folder / DESCRIPTION).write_text(yaml.safe_dump({**content, **change}))
    with pytest.raises((ConfigError, DataError), match=message):
        load_trained(folder)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[1, 2", b"- 1", b"[" * 5000])
def test_a_damaged_description_is_named(model: Path, tmp_path: Path, content: bytes) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "wrong"))
    (folder / DESCRIPTION).write_bytes(content)
    with pytest.raises(DataError, match=r"model\.yaml"):
        load_trained(folder)


def test_missing_weights_are_named(model: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model, tmp_path / "wrong"))
    (folder / WEIGHTS).unlink()
    with pytest.raises(DataError, match=WEIGHTS):
        load_trained(folder)


@pytest.mark.parametrize("name", sorted(shipped_models()))
def test_shipped_models_find_nuclei(name: str) -> None:
    folder = shipped_models()[name]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 12e6
    assert Description.read(folder).name == name
    trained = load_trained(Path(name))
    image, truth = generate((256, 256), np.random.default_rng(3), density=1e-3)
    key = next(iter(trained.params))
    found = trained.method.codecs[key].decode(predict_maps(trained.method, image), trained.params[key])
    assert 0.5 * truth.count <= found.count <= 1.5 * truth.count


def test_there_is_a_default() -> None:
    assert "default" in shipped_models()


def test_a_card_names_every_training_set() -> None:
    first = {"dataset": "kumar", "split": "train", "images": 16, "nuclei": 9907, "sha256": "ab"}
    further = {"dataset": "tiles", "split": "train", "images": 5, "nuclei": None, "sha256": "cd"}
    assert training_sets({"data": first}) == ["kumar.train: 16 images with 9,907 nuclei, sha256 ab"]
    assert training_sets({"data": first, "also": [further]})[1] == "tiles.train: 5 images, sha256 cd"
