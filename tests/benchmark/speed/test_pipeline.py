"""Stages of commands, measured in real processes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from benchmark.host.stages import VARIABLE, Stage, read_stages, stage
from benchmark.speed.pipeline import pipeline_samples, pipeline_table, rows_of, run_pipeline
from postproc.errors import ConfigError


def test_stages_are_measured_only_if_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "stages"
    with stage("before"):
        pass
    monkeypatch.setenv(VARIABLE, str(file))
    with stage("outer"), stage("sleeping"):
        time.sleep(0.05)
    sleeping, outer = read_stages(file)
    assert (sleeping.name, outer.name, sleeping.process) == ("sleeping", "outer", os.getpid())
    assert outer.began <= sleeping.began
    assert sleeping.ended - sleeping.began >= 0.05 > sleeping.cpu_after - sleeping.cpu_before


def test_stages_add_up_to_the_command() -> None:
    stages = [
        Stage("decoding", 2, 14.0, 15.0, 1.0, 1.5),
        Stage("network", 1, 12.0, 16.0, 3.0, 9.0),
        Stage("network", 1, 16.0, 17.0, 9.0, 10.0),
    ]
    rows = {(row["process"], row["stage"]): row for row in rows_of("predict", stages, began=10.0, wall=8.0, cpu=13.0)}
    found = {key: (row["wall_s"], row["cpu_s"], row["times"], row["share"]) for key, row in rows.items()}
    assert found["main", "start-up"] == (2.0, 3.0, 1, 0.25)
    assert found["main", "network"] == (5.0, 7.0, 2, 0.625)
    assert found["main", "everything else"] == (1.0, 1.5, 1, 0.125)
    assert found["workers", "decoding"] == (1.0, 0.5, 1, None)
    assert rows["workers", "start-up"]["cpu_s"] == 1.0
    assert found["all", "total"] == (8.0, 13.0, 1, 1.0)


@pytest.mark.slow
def test_a_method_is_measured_from_start_up_to_scores(tmp_path: Path) -> None:
    samples = list(pipeline_samples(None, tmp_path, 64))[:2]
    frame = pipeline_table("dist", {"features": 4}, samples).set_index(["command", "stage"])
    for name in ("start-up", "loading the model", "reading images", "network", "decoding", "writing", "total"):
        assert (frame.loc[("predict", name), "wall_s"] > 0).all(), name
    assert frame.loc[("score", "reading and scoring"), "times"].item() == 2
    parts = frame[frame["process"] == "main"].groupby("command")["wall_s"].sum()
    for command in ("predict", "score"):
        assert parts[command] == pytest.approx(frame.loc[(command, "total"), "wall_s"].item())


def test_the_pipeline_needs_a_method_with_a_network(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--pipeline needs a method"):
        run_pipeline([], {}, None, tmp_path, 64, tmp_path)
