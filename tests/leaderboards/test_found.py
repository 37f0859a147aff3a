"""Runs are found wherever their directories were copied to, under any name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import nucbench

from leaderboards.found import run_folder, run_folders
from leaderboards.literature import load_names
from leaderboards.records import load_scores
from leaderboards.report.runs import read_runs

RUN = "unet/kumar.train/paper-s0-aaaaaaaa"


@pytest.fixture
def run(store: Path, made: Any) -> Path:
    found: Path = made.run(store, "paper-s0-aaaaaaaa")
    made.evaluation(found, "kumar.test", made.scores(["a", "b"]), variant="unet")
    return found


@pytest.mark.parametrize("place", [".", "m", "a/m", "a [1]/b/\u00e9", RUN])
def test_a_renamed_run_is_read(run: Path, tmp_path: Path, place: str) -> None:
    root = tmp_path / "elsewhere"
    shutil.copytree(run, root / place)
    assert run_folders(root) == [root / place]
    assert load_scores([root])["image"].tolist() == ["a", "b"]
    runs, unfinished = read_runs([root], load_names())
    assert (list(runs), unfinished) == ([RUN], [])
    assert runs[RUN].folders == (root / place,)
    assert run_folder(root, RUN) == root / place


def test_a_copy_beside_the_run_counts_once(run: Path, store: Path) -> None:
    shutil.copytree(run, store / "copy")
    assert len(run_folders(store)) == 2
    assert load_scores([store])["image"].tolist() == ["a", "b"]
    assert run_folder(store, RUN) == run


def test_unfinished_broken_and_hidden_folders(run: Path, store: Path) -> None:
    (store / ".publishing" / "m").mkdir(parents=True)
    shutil.copy(run / "record.json", store / ".publishing" / "m")
    (store / "begun").mkdir()
    (store / "begun" / "spec.json").write_text("{}")
    (store / "broken").mkdir()
    (store / "broken" / "record.json").write_text("{")
    assert run_folders(store) == [store / "begun", store / "broken", run]
    problems: list[str] = []
    assert read_runs([store], load_names(), problems)[1] == ["begun"]
    assert len(problems) == 1
    assert run_folder(store, "no/such/run") == store / "no/such/run"


def test_commands_find_it_and_say_where_they_found_none(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "mine" / "m")
    (tmp_path / "mine" / "m" / "spec.json").write_text("{}")
    (tmp_path / "none").mkdir()
    options = ["segmentation", "--store", "none", "--out", "tables"]
    listed = nucbench("list", "runs", "--runs", "mine", folder=tmp_path)
    assert "trained" in listed.stdout
    assert "no runs" not in nucbench("leaderboard", *options, "--runs", "mine", folder=tmp_path).stderr
    assert (
        "no runs in none or nowhere" in nucbench("leaderboard", *options, "--runs", "nowhere", folder=tmp_path).stderr
    )
