"""Settings of the training and methods that train nothing, and the plan of a sweep, by real command lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import nucbench

from datamodules.synthetic_sets import Synthetic


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("user")
    Synthetic.write_synthetic(folder / "data/synthetic", images=3, size=64)
    return folder


@pytest.mark.parametrize(
    "given", [["--steps", "5"], ["--epochs", "2", "--lr", "0.1"], ["--max-minutes", "3"], ["--balance", "crops"]]
)
def test_a_run_refuses_settings_that_would_do_nothing(place: Path, given: list[str]) -> None:
    done = nucbench("run", "fiji", "synthetic", *given, folder=place, status=2)
    assert done.stderr.startswith("nucbench: error: fiji trains nothing, so --")
    assert all(word in done.stderr for word in given)
    assert done.stderr.count("\n") == 1
    assert not (place / "runs").exists()


@pytest.mark.slow
def test_a_sweep_of_mixed_methods_trains_those_that_learn(place: Path, tmp_path: Path) -> None:
    file = tmp_path / "mixed.yaml"
    head = "methods: [fiji, pangnet]\ndatasets: [synthetic]\n"
    paper = "paper: {pangnet: {steps: 5, source: 'Somebody 1999, section 2', differs: a trial}}\n"
    file.write_text(head + "overrides: {steps: 2, batch_size: 1, crop: 64, augment: none}\n" + paper)
    runs = tmp_path / "runs"
    plan = nucbench("sweep", file, "--dry-run", "--runs", runs, folder=place).stdout
    assert "to do, 0 steps, about 0 min" in plan
    assert "to do, 2 steps [NOT the paper's 5 steps, Somebody 1999, section 2; a trial]" in plan
    done = nucbench("sweep", file, "--runs", runs, "--no-progress", folder=place)
    assert "2 of 2 runs done" in done.stdout
    (classical,) = runs.glob("fiji/synthetic/*")
    (trained,) = runs.glob("pangnet/synthetic/*")
    assert json.loads((trained / "record.json").read_text())["training"]["steps"] == 2
    # the same run as without the settings: nothing is left to do
    file.write_text(head.replace(", pangnet", ""))
    assert (
        f"[1/1] fiji/synthetic/{classical.name} -> synthetic.test: done"
        in nucbench("sweep", file, "--dry-run", "--runs", runs, folder=place).stdout
    )
