"""Files of a run: whole or not at all, and never taken for what they are not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import benchmark.results.store
from benchmark.host.files import atomic, read_json, write_json
from benchmark.results.spec import RunSpec
from benchmark.results.store import RunStore, read_instances, write_instances, write_scores
from benchmark.runs.train import load_weights
from benchmark.runs.trained import load_run
from leaderboards.publish import publish_run
from models.base.method import Task
from models.dist import DIST
from postproc.errors import ConfigError, DataError
from postproc.instances import Instances


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore.create(tmp_path / "runs", RunSpec("dist", "kumar"))


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"old": 1})
    with pytest.raises(TypeError, match="cannot be stored"):
        write_json(path, {"new": object()})
    assert read_json(path) == {"old": 1}
    with pytest.raises(TypeError), atomic(path, "w") as file:
        file.writelines(["half", 3])
    assert read_json(path) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]


@pytest.mark.parametrize("umask", [0o077, 0o022, 0o002])
def test_files_have_the_rights_that_the_umask_gives(tmp_path: Path, umask: int) -> None:
    code = (
        "import sys, pathlib, numpy as np\n"
        "from benchmark.results.store import write_json\nfrom datamodules.reading.files import write_npy\n"
        "folder = pathlib.Path(sys.argv[1])\nwrite_json(folder / 'a.json', {})\n"
        "write_npy(folder / 'a.npy', np.zeros((2, 2), np.int32))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, umask=umask)
    for name in ("a.json", "a.npy"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_prediction_that_claims_too_much_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_instances(tmp_path / "a.npz", Instances((100, 100), labels=np.zeros((100, 100), np.int32)))
    monkeypatch.setattr(benchmark.results.store, "LARGEST", 40_000)
    with pytest.raises(DataError, match="more than the limit"):
        read_instances(tmp_path / "a.npz")


def test_instances_round_trip(tmp_path: Path) -> None:
    labels = np.array([[0, 1], [2, 0]], np.int32)
    given = Instances((2, 2), labels=labels, types=np.array([1, 3]), scores=np.array([0.5, 1.0], np.float32))
    write_instances(tmp_path / "a.npz", given)
    found = read_instances(tmp_path / "a.npz")
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.types, given.types)
    assert found.shape == (2, 2)
    assert found.points is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"\x93NUMPY"])
def test_a_broken_prediction_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "image.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"image\.npz"):
        read_instances(path)


def test_open_finds_runs_and_refuses_other_folders(store: RunStore, tmp_path: Path) -> None:
    opened = RunStore.open(store.path)
    assert opened.run_id == store.run_id
    assert opened.spec() == RunSpec("dist", "kumar")
    with pytest.raises(ConfigError, match=r"no spec\.json"):
        RunStore.open(tmp_path)
    with pytest.raises(ConfigError, match="not finished"):
        load_run(store)


@pytest.mark.skipif(not os.access("/", os.W_OK), reason="cannot write to the root of the file system")
def test_a_run_works_near_the_root(store: RunStore) -> None:
    with tempfile.TemporaryDirectory(dir="/") as folder:
        moved = Path(folder)
        shutil.copytree(store.path, moved, dirs_exist_ok=True)
        assert RunStore.open(moved).path == moved
        assert RunStore.open(moved).spec() == RunSpec("dist", "kumar")


def test_specs_of_other_versions_are_refused(store: RunStore) -> None:
    write_json(store.spec_file, {**read_json(store.spec_file), "format": 99})
    with pytest.raises(DataError, match="another version"):
        store.spec()


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code ran",)


def test_weights_never_run_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(Evil(), tmp_path / "evil.pt")
    with pytest.raises(DataError, match=r"evil\.pt"):
        load_weights(DIST(Task(), features=4), tmp_path / "evil.pt")
    assert "code ran" not in capsys.readouterr().out


def test_publish_copies_scores_alone(store: RunStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no scores yet"):
        publish_run(store.path, tmp_path / "published")
    folder = store.evaluation("kumar.test", "dist")
    write_scores(folder / "scores.csv", pd.DataFrame({"image": ["01"], "pq": [0.1 + 0.2]}))
    about = {"dataset": "kumar", "split": "test", "variant": "dist", "title": "DIST", "images": 1}
    write_json(folder / "evaluation.json", about)
    (store.path / "checkpoints").mkdir()
    (store.path / "checkpoints" / "final.pt").write_bytes(b"weights")
    record = {"format": 1, "run_id": store.run_id, "method": "dist", "protocol": "paper", "seed": 0}
    write_json(store.record_file, record | {"data": {"synthetic": True}})
    with pytest.raises(ConfigError, match="synthetic"):
        publish_run(store.path, tmp_path / "published")
    write_json(store.record_file, record | {"data": {"synthetic": False}})
    write_json(folder / "evaluation.json", about | {"synthetic": True})
    with pytest.raises(ConfigError, match=r"kumar\.test.dist was scored on synthetic stand-ins"):
        publish_run(store.path, tmp_path / "published")
    write_json(folder / "evaluation.json", about | {"synthetic": False})
    target = publish_run(store.path, tmp_path / "published")
    names = {str(p.relative_to(target)) for p in target.rglob("*") if p.is_file()}
    assert names == {
        "record.json",
        "evaluations/kumar.test/dist/scores.csv",
        "evaluations/kumar.test/dist/evaluation.json",
    }
    text = (target / "evaluations/kumar.test/dist/scores.csv").read_text()
    assert text == "image,pq\n01,0.30000000000000004\n"
    assert json.loads((target / "record.json").read_text())["data"] == {"synthetic": False}


def test_what_a_search_selected_is_published(tmp_path: Path) -> None:
    path = tmp_path / "runs/search/dist-kumar-0.json"
    write_json(path, {"trials": 1})
    with pytest.raises(DataError, match="names no method"):
        publish_run(path, tmp_path / "published")
    write_json(path, {"method": "dist", "settings": {"lr": 0.1}, "params": {}})
    assert publish_run(path, tmp_path / "published") == tmp_path / "published/search/dist-kumar-0.json"
