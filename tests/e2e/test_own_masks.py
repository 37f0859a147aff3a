"""Masks of one's own from the command line: prepare, train, fine-tune, score and list."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from command_line import nucbench, start, wait_until

from datamodules.base import SYNTHETIC_MARKER
from datamodules.masks import Masks

pytestmark = pytest.mark.slow

TINY = ("--options.features", "2", "--batch-size", "2", "--crop", "48", "--crops-per-image", "1", "--augment", "flips")


@pytest.fixture(scope="module")
def place(once: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with masks in data/, and a short run of DIST on them."""

    def fill(folder: Path) -> None:
        Masks.write_synthetic(folder / "data/masks", images=9, size=96)
        nucbench("run", "dist", "masks", *TINY, "--steps", "3", "--no-progress", "--wandb", "off", folder=folder)

    return shutil.copytree(once("own masks", fill), tmp_path_factory.mktemp("user"), dirs_exist_ok=True)


def test_from_images_to_a_table(place: Path) -> None:
    shown = nucbench("prepare", "masks", folder=place).stdout
    assert "train: 6 images, 3 of them for validation" in shown
    (run,) = (place / "runs/dist/masks").glob("paper-*")
    scores = pd.read_csv(run / "evaluations/masks.test/dist/scores.csv")
    assert len(scores) == 3
    truth = shutil.copytree(place / "data/masks/test/labels", place / "mine")
    for path in truth.glob("*_types.*"):
        path.unlink()
    words = ("--predictions", "mine", "--dataset", "masks", "--method", "Perfect", "--no-progress")
    nucbench("evaluate", *words, folder=place)
    (perfect,) = place.glob("runs/perfect/*/*/evaluations/masks.test/*/scores.csv")
    assert (pd.read_csv(perfect)["aji"] == 1).all()
    (place / "store").mkdir()
    nucbench("leaderboard", "statistics", "--store", "store", "--out", "tables", folder=place)
    assert (place / "tables/statistics.csv").exists()
    (place / "sweep.yaml").write_text("methods: [dist]\ndatasets: [masks]\noverrides: {steps: 3}\nfolds: true\n")
    error = nucbench("sweep", "sweep.yaml", "--dry-run", folder=place, status=2).stderr
    assert "folds: the groups (patients) of masks are not known" in error


def test_every_problem_is_listed_with_exit_status_1(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "data", tmp_path / "data")
    for path in sorted(tmp_path.glob("data/masks/*/labels/*.mat")):
        path.write_bytes(b"damaged" * 30)
    error = nucbench("prepare", "masks", folder=tmp_path, status=1).stderr
    assert error.count(".mat: ") == len(list(tmp_path.glob("data/masks/*/labels/*.mat"))) == 2
    assert "2 problems; correct them, then run nucbench prepare masks again" in error


def test_a_stopped_fine_tuning_does_not_load_its_parent_again(place: Path, tmp_path: Path) -> None:
    (parent,) = (place / "runs/dist/masks").glob("paper-*")
    model = tmp_path / "model"
    shutil.copytree(parent, model / "dist/masks" / parent.name)
    source = model / "dist/masks" / parent.name
    common = ("run", "dist", "masks", *TINY[2:], "--steps", "120", "--start-from", str(source), "--no-progress")
    words = (*common, "--wandb", "off", "--data", str(place / "data"))

    process = start(*words, "--runs", str(tmp_path / "cut"), folder=tmp_path)
    metrics = "cut/dist/masks/*/**/metrics.csv"
    wait_until(lambda: any(path.read_text().count("\n") > 4 for path in tmp_path.glob(metrics)), process)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    (cut,) = tmp_path.glob("cut/dist/masks/*")
    assert (cut / "checkpoints/phase0.ckpt").exists()
    stored = (cut / "parent.json").read_bytes()
    out = nucbench(*words, "--runs", str(tmp_path / "cut"), folder=tmp_path).stdout
    assert "starting from" not in out
    assert (cut / "parent.json").read_bytes() == stored
    whole = nucbench(*words, "--runs", str(tmp_path / "whole"), folder=tmp_path).stdout
    assert f"starting from {json.loads(stored)['name']}@" in whole
    (other,) = tmp_path.glob("whole/dist/masks/*")
    assert other.name == cut.name
    first, second = (torch.load(path / "checkpoints/final.pt", weights_only=True) for path in (cut, other))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_synthetic_masks_say_so(tmp_path: Path) -> None:
    shown = nucbench("prepare", "masks", "--synthetic", "--size", "64", folder=tmp_path).stdout
    assert "These images are synthetic" in shown
    assert (tmp_path / "data/masks" / SYNTHETIC_MARKER).exists()
