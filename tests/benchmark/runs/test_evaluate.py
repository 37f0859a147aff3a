"""Scoring of stored predictions."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmark.host.files import read_json
from benchmark.host.machine import Machine
from benchmark.results.spec import Overrides, RunSpec, Target
from benchmark.runs.run import execute
from datamodules.base import SYNTHETIC_MARKER
from datamodules.ki67 import Ki67
from leaderboards.literature import load_facts
from leaderboards.papers.ki67 import Ki67 as Ki67Table
from leaderboards.records import load_scores


def test_detectors_get_the_area_under_their_curve(tmp_path: Path) -> None:
    Ki67.write_synthetic(tmp_path / "data/ki67", size=96)
    short = Overrides(crop=64, steps=2, batch_size=2, crops_per_image=1)
    spec = RunSpec("kinet", "ki67", options={"width": 4}, overrides=short)
    machine = Machine(tmp_path / "data", tmp_path / "runs", workers=0, progress=False)
    result = execute(spec, [Target("ki67", "test")], machine)
    (scores,) = result.scores.values()
    assert 0 <= scores["auc_pooled"] <= 1
    assert 0 <= scores["auc_c_pooled"] <= 1
    (file,) = result.store.path.glob("evaluations/*/*/scores.csv")
    table = pd.read_csv(file)
    lowest, highest = table["n_pred@0.05"].sum(), table["n_pred@0.95"].sum()
    assert lowest > highest >= 1  # every image has a peak as high as its highest


def test_scores_on_stand_ins_say_so(tmp_path: Path) -> None:
    Ki67.write_synthetic(tmp_path / "data/ki67", size=96)
    (tmp_path / "data/ki67" / SYNTHETIC_MARKER).write_text("Not Ki67.\n")
    short = Overrides(crop=64, steps=1, batch_size=1, crops_per_image=1)
    spec = RunSpec("kinet", "ki67", options={"width": 4}, overrides=short)
    machine = Machine(tmp_path / "data", tmp_path / "runs", workers=0, progress=False)
    result = execute(spec, [Target("ki67", "test")], machine)
    (file,) = result.store.path.glob("evaluations/*/*/evaluation.json")
    assert read_json(file)["synthetic"] is True
    scores = load_scores([tmp_path / "runs"])
    assert set(scores["title"]) == {"KiNet (synthetic stand-ins)"}
    assert not len(Ki67Table().build(scores, load_facts()).dropna(subset=["ours", "published"]))
