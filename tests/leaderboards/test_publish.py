"""What is published is whole or not at all."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import environment, nucbench
from many_runs import copy_runs

from leaderboards.publish import WORK, publish_run
from leaderboards.records import load_scores
from postproc.errors import DataError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of seven evaluations."""
    copy_runs(tmp_path / "runs", 1)
    (record,) = (tmp_path / "runs").rglob("record.json")
    (record.parent / "spec.json").write_text(json.dumps({"format": 1, "method": "fiji", "dataset": "kumar"}))
    return record.parent


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_limit_on_files_leaves_what_was_published(run: Path, tmp_path: Path) -> None:
    published = publish_run(run, tmp_path / "store")
    before = content(published)
    scores = sorted(run.rglob("scores.csv"))[-1]
    scores.write_text(scores.read_text().replace("0.", "0.0000000000000000000000000000000000000000"))
    command = f"ulimit -f 4; exec {sys.executable} -m benchmark.commands.cli publish {run} --store store"
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert content(published) == before
    assert len(load_scores([tmp_path / "store"])) > 0
    publish_run(run, tmp_path / "store")
    assert content(published) != before
    assert list((tmp_path / "store" / WORK).iterdir()) in ([], [tmp_path / "store" / WORK / ".lock"])


def test_what_tables_cannot_read_is_not_published(run: Path, tmp_path: Path) -> None:
    published = publish_run(run, tmp_path / "store")
    before = content(published)
    scores = sorted(run.rglob("scores.csv"))[0]
    scores.write_text(scores.read_text()[:300])
    with pytest.raises(DataError, match="different images"):
        publish_run(run, tmp_path / "store")
    assert content(published) == before
    shutil.rmtree(published)
    nucbench("publish", run, "--store", "store", folder=tmp_path, status=1)
    assert not published.exists()


@pytest.mark.slow
def test_a_kill_at_any_time_leaves_the_old_or_the_new(run: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    published = publish_run(run, store)
    old = content(published)
    for path in run.rglob("scores.csv"):
        path.write_text(path.read_text().replace("0.5", "0.4"))
    new = old | {name: data for name, data in content(run).items() if name in old}
    code = (
        "from pathlib import Path; from leaderboards.publish import publish_run as p\n"
        f"print(1, flush=True)\nwhile True: p(Path({str(run)!r}), Path({str(store)!r}))"
    )
    for pause in (0.0, 0.01, 0.03, 0.06, 0.1, 0.15):
        with subprocess.Popen(
            [sys.executable, "-c", code], env=environment(), stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(pause)
            process.send_signal(signal.SIGKILL)
        if published.exists():  # killed between two renames, it is put back by the next command
            assert content(published) in (old, new)
        assert len(load_scores([store])) in (0, len(load_scores([run.parents[2]])))
    publish_run(run, store)
    assert content(published) == new


def test_a_run_that_was_moved_and_renamed_keeps_its_place(run: Path, tmp_path: Path) -> None:
    expected = content(publish_run(run, tmp_path / "store"))
    moved = tmp_path / "mine"
    run.rename(moved)
    published = publish_run(moved, tmp_path / "other")
    assert published.relative_to(tmp_path / "other") == run.relative_to(tmp_path / "runs")
    assert content(published) == expected


@pytest.mark.parametrize("run_id", ["../../outside/x", "a/../b", "a/b/../../../c", "/a/b", "a/b", "a/.b/c"])
def test_an_id_cannot_lead_elsewhere(run: Path, tmp_path: Path, run_id: str) -> None:
    record = json.loads((run / "record.json").read_text())
    (run / "record.json").write_text(json.dumps(record | {"run_id": run_id}))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match="run_id is"):
        publish_run(run, tmp_path / "store")
    assert sorted(tmp_path.rglob("*")) == before
