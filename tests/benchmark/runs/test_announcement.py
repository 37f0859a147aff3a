"""The estimate of the remaining training."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmark.host.machine import Machine
from benchmark.host.progress import duration
from benchmark.results.spec import Overrides, RunSpec, Target
from benchmark.runs import announcement
from benchmark.runs.announcement import estimate
from benchmark.runs.run import execute
from datamodules.synthetic_sets import Synthetic


@pytest.mark.parametrize(
    ("steps", "rate", "limit", "text"),
    [
        (600, 1.0, None, "about 10 min left for 600 steps"),
        (6000, 0.5, None, "about 3 h 20 min left for 6,000 steps"),
        (50, 1.0, None, ""),
        (6000, 0.5, 600.0, "10 min left by --max-minutes, enough for about 300 of 6,000 steps"),
        (100, 1.0, 600.0, "about 2 min left for 100 steps"),
    ],
)
def test_texts(steps: int, rate: float, limit: float | None, text: str) -> None:
    assert estimate(steps, rate, limit) == text


@pytest.mark.parametrize(("seconds", "text"), [(45, "45 s"), (300, "5 min"), (5399, "1 h 30 min"), (7260, "2 h 1 min")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_training_announces_its_length_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(announcement, "SECONDS", 0.0)
    monkeypatch.setattr(announcement, "WORTH", 0.0)
    Synthetic.write_synthetic(tmp_path / "data/synthetic", size=64)
    overrides = Overrides(crop=48, augment="flips", crops_per_image=2, batch_size=4, steps=14)
    spec = RunSpec("dist", "synthetic", options={"features": 2}, overrides=overrides)
    result = execute(
        spec, [Target("synthetic")], Machine(tmp_path / "data", tmp_path / "runs", workers=0, progress=False)
    )
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("training ")]
    (line,) = lines
    assert line.startswith(f"training {result.store.run_id}: about ")
    steps = announcement.WARM_UP + announcement.STEPS
    assert re.search(rf"left for {14 - steps} steps, at [0-9.e+]+ crops per second$", line)
