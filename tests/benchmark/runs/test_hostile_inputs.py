"""What others send: checkpoints and weights that would run code, images with names that would break files."""

from __future__ import annotations

import csv
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.commands.cli import main
from benchmark.results.store import read_instances
from benchmark.runs.train import load_weights
from datamodules.reading.files import write_rgb
from datamodules.synthetic.images import generate
from models.base.method import Task
from models.base.weights import read_state
from models.dist import DIST
from postproc.errors import DataError


class Exploit:
    """Creates a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:  # type: ignore[override]
        return Path.touch, (self.path,)


def new_format(path: Path, content: object) -> None:
    torch.save(content, path)


def old_format(path: Path, content: object) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def plain_pickle(path: Path, content: object) -> None:
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("write", [new_format, old_format, plain_pickle])
@pytest.mark.parametrize("wrapped", [True, False])
def test_weights_that_would_run_code(tmp_path: Path, write: Callable[..., None], wrapped: bool) -> None:
    proof, path = tmp_path / "proof", tmp_path / "evil.pt"
    write(path, {"state_dict": {"a": torch.ones(1)}, "evil": Exploit(proof)} if wrapped else Exploit(proof))
    with pytest.raises(DataError, match=r"evil\.pt: refused|evil\.pt: cannot be read"):
        read_state(path)
    method = DIST(Task(), features=4)
    with pytest.raises(DataError, match=r"cannot load the weights .*evil\.pt"):
        load_weights(method, path)
    assert not proof.exists()
    torch.load(path, weights_only=False) if write is not plain_pickle else pickle.loads(path.read_bytes())
    assert proof.exists(), "the exploit works where code may run"


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_arrays_that_would_run_code(tmp_path: Path, suffix: str) -> None:
    proof, path = tmp_path / "proof", tmp_path / f"evil{suffix}"
    with path.open("wb") as file:
        np.savez(file, a=np.array([Exploit(proof)], object))
    with pytest.raises(DataError, match="evil"):
        read_state(path)
    if suffix == ".npz":
        with pytest.raises(DataError, match="evil"):
            read_instances(path)
    assert not proof.exists()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a network of few weights."""
    root = tmp_path_factory.mktemp("run")
    folders = ["--data", str(root / "data"), "--runs", str(root / "runs")]
    assert main(["prepare", "synthetic", "--synthetic", "--size", "64", "--images", "3", *folders[:2]]) == 0
    options = ["--options.features", "4", "--steps", "1", "--batch-size", "1", "--crop", "64"]
    arguments = ["run", "dist", "synthetic", "--protocol", "paper", *options, *folders]
    assert main(arguments) == 0
    (found,) = (root / "runs").glob("*/*/*/record.json")
    return found.parent


def test_run_whose_checkpoint_was_replaced(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rgb(tmp_path / "x.png", generate((64, 64), np.random.default_rng(0))[0])
    weights = run / "checkpoints" / "final.pt"
    content = weights.read_bytes()
    try:
        torch.save({"a": Exploit(tmp_path / "proof")}, weights)
        assert main(["predict", str(run), str(tmp_path / "x.png"), "--out", str(tmp_path / "out")]) == 1
    finally:
        weights.write_bytes(content)
    assert "cannot load the weights" in capsys.readouterr().err
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "damaged"), (b"hello", "damaged"), (bytes(60_000), "damaged"), (None, "does not exist"),
        ({"a": torch.ones(1)}, "of another network"),
    ],
    ids=["empty", "text", "zeros", "missing", "another"],
)  # fmt: skip
def test_weights_that_cannot_be_loaded_are_explained_in_one_line(tmp_path: Path, content: Any, reason: str) -> None:
    path = tmp_path / "final.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(DataError, match=reason) as caught:
        load_weights(DIST(Task(), features=4), path)
    assert len(str(caught.value).splitlines()) == 1
    assert "weights_only" not in str(caught.value)


RECORDS = {"record.json": ["protocol", "magnification", "task", "training", "data"], "spec.json": ["dataset", "method"]}


@pytest.mark.parametrize(("file", "key"), [(file, key) for file, keys in RECORDS.items() for key in keys])
@pytest.mark.parametrize("kind", ["missing", "wrong"])
def test_damaged_records_are_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, key: str, kind: str
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    content = json.loads((copy / file).read_text())
    if kind == "missing":
        del content[key]
    else:
        content[key] = [1e300]
    (copy / file).write_text(json.dumps(content))
    write_rgb(tmp_path / "a.png", generate((64, 64), np.random.default_rng(0))[0])
    assert main(["predict", str(copy), str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--no-progress"]) in (
        1,
        2,
    )
    (line,) = capsys.readouterr().err.splitlines()
    assert file in line
    assert key in line


def test_names_of_images_to_predict(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = generate((64, 64), np.random.default_rng(0))[0]
    names = ["<script>alert(1)</script>".replace("/", "_"), 'a,"b"', "x;y 'z'", "été", "{0}%s"]
    paths = [tmp_path / f"{name}.png" for name in names]
    for path in paths:
        write_rgb(path, image)
    out = tmp_path / "out"
    assert main(["predict", str(run), *map(str, paths), "--out", str(out)]) == 0
    for name in names:
        assert json.loads((out / f"{name}.geojson").read_text(encoding="utf-8"))["type"] == "FeatureCollection"
    with (out / "summary.csv").open(newline="", encoding="utf-8") as file:
        assert [row["image"] for row in csv.DictReader(file)] == [path.name for path in paths]
    for name in ("a\nb", "a\x1b[2Jb"):
        write_rgb(tmp_path / f"{name}.png", image)
        assert main(["predict", str(run), str(tmp_path / f"{name}.png"), "--out", str(tmp_path / "none")]) == 1
        shown = capsys.readouterr().err
        assert "rename it" in shown
        assert shown.splitlines()[-1].isprintable()
    assert not (tmp_path / "none").exists()


def test_zip_in_place_of_weights(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps({"a": nn.Linear(1, 1)}))
    with pytest.raises(DataError, match=r"x\.pt"):
        read_state(tmp_path / "x.pt")
