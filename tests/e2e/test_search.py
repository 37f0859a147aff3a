"""`nucbench search`: trials on validation images, kept over a kill."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest
from command_line import nucbench, start, wait_until

from benchmark.sweeps.search import SearchSpec, open_study
from datamodules.synthetic_sets import Synthetic, SyntheticDIST

FILE = """
method: dist
dataset: synthetic
trials: 3
options: {features: 2}
overrides: {steps: 2, batch_size: 2, crop: 48, crops_per_image: 1, augment: flips}
space:
  lr: [0.01, 0.001]
  options.weight_decay: [0.0, 0.001]
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    Synthetic.write_synthetic(tmp_path / "data/synthetic", size=64)
    (tmp_path / "search.yaml").write_text(FILE)
    return tmp_path


def command(place: Path, *more: str) -> list[str]:
    arguments = ["search", str(place / "search.yaml"), "--data", str(place / "data"), "--runs", str(place / "runs")]
    return [*arguments, "--no-progress", *more]


def search(place: Path, *more: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    return nucbench(*command(place, *more), folder=place, status=status)


@pytest.mark.slow
def test_a_killed_search_goes_on_and_tries_nothing_twice(place: Path) -> None:
    plan = SearchSpec.load(place / "search.yaml")
    process = start(*command(place), folder=place)
    wait_until(lambda: "\ntrial 2" in process.output(), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (journal,) = place.glob("runs/search/*.journal")
    assert len(open_study(plan, journal).trials) == 2

    done = search(place)
    runs = list(place.glob("runs/dist/synthetic/strict-*/params.json"))
    assert len(runs) == 3
    scored = [line for line in done.stdout.splitlines() if line[:1].isdigit()]
    assert len(scored) == 3
    values = [float(line.split()[0]) for line in scored]
    assert values == sorted(values, reverse=True)
    assert not list(place.glob("runs/dist/synthetic/*/evaluations"))  # nothing was judged on test images

    (file,) = place.glob("runs/search/*.json")
    selected = json.loads(file.read_text())
    assert selected["score"] == pytest.approx(values[0], abs=1e-4)
    assert (selected["trials"], selected["run"]) == (3, scored[0].split()[-1])
    assert set(selected["params"]) == {"dist", "dist-p1-1"}

    again = search(place)
    assert "trial" not in again.stdout
    assert [line for line in again.stdout.splitlines() if line[:1].isdigit()] == scored

    best = scored[0].split()[-1]
    trials = json.loads((place / "runs" / best / "params.json").read_text())["dist"]["trials"]
    assert float(scored[0].split()[0]) == pytest.approx(max(t["score"] for t in trials), abs=1e-4)


def test_trials_are_judged_on_the_validation_images_named(place: Path) -> None:
    SyntheticDIST.write_synthetic(place / "data/synthetic-dist", images=3, size=64)
    (place / "search.yaml").write_text(FILE.replace("trials: 3", "trials: 1\nvalidate: synthetic-dist"))
    assert "images of\nsynthetic-dist;" in search(place, "--dry-run").stdout
    search(place)
    (spec,) = place.glob("runs/dist/synthetic/strict-*/spec.json")
    assert json.loads(spec.read_text())["validate"] == "synthetic-dist"


def test_a_wrong_setting_is_named(place: Path) -> None:
    (place / "search.yaml").write_text(FILE.replace("  lr:", "  lrr:"))
    done = search(place, status=2)
    assert "Did you mean 'lr'" in done.stderr
    (place / "search.yaml").write_text(FILE.replace("options.weight_decay", "options.weight_decai"))
    assert "Did you mean 'weight_decay'" in search(place, status=2).stderr
    assert not (place / "runs").exists()
