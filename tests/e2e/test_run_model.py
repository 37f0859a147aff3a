"""`nucbench run MODEL --evaluate`: a model that nobody trains here is scored like a run."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from command_line import nucbench


@pytest.mark.slow
def test_a_model_is_scored_like_a_run(tmp_path: Path) -> None:
    nucbench("prepare", "synthetic", "--synthetic", folder=tmp_path)
    words = ("run", "default", "--evaluate", "synthetic", "--no-progress")
    said = nucbench(*words, folder=tmp_path).stdout
    (record,) = (tmp_path / "runs").rglob("record.json")
    folder = record.parent
    content = json.loads(record.read_text())
    assert content["protocol"] == "external"
    assert content["adopted"]["layout"] == "nucbench"
    (scores,) = folder.rglob("scores.csv")
    assert pd.read_csv(scores)["aji"].mean() > 0.6, said
    before = {path: path.stat().st_mtime_ns for path in (record, scores)}
    assert nucbench(*words, folder=tmp_path).stdout.count("synthetic.test") == 1
    nucbench("run", folder.relative_to(tmp_path), "--evaluate", "synthetic", "--no-progress", folder=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in (record, scores)} == before  # nothing is computed again
    nucbench("predict", folder.relative_to(tmp_path), "data/synthetic/test/Images", "--out", "out", folder=tmp_path)
    assert len(list((tmp_path / "out").glob("*.mat"))) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "default"), "default is trained; name the sets to score it on: nucbench run default --evaluate kumar"),
        (("run", "default", "--evaluate", "tnbc", "--seed", "1"), "only --evaluate and options of the machine apply"),
        (("run", "dist"), "name the dataset to train dist on: nucbench run dist DATASET"),
        (("run", "defualt", "--evaluate", "tnbc"), "default"),
        (("run", "none/there", "--evaluate", "tnbc"), "none/there does not exist"),
    ],
)
def test_wrong_command_lines(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    assert message in nucbench(*words, folder=tmp_path, status=2).stderr
    assert not (tmp_path / "runs").exists()
