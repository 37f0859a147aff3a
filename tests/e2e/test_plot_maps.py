"""`nucbench plot maps` in subprocesses, of runs trained for a few steps."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import command_line
import numpy as np
import pytest
from PIL import Image

from datamodules.synthetic_sets import Synthetic

nucbench = partial(command_line.nucbench, MPLBACKEND="qtagg")  # a window would fail
TRAIN = ["--steps", "3", "--batch-size", "1", "--augment", "none", "--no-progress"]


@pytest.fixture(scope="module")
def place(once: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    def fill(folder: Path) -> None:
        Synthetic.write_synthetic(folder / "data/synthetic", images=3, size=128)
        nucbench("run", "dist", "synthetic", *TRAIN, "--crop", "64", "--options.features", "4", folder=folder)
        small = ["--options.features", "8", "--options.weights", "none", "--options.mode", "fast", "--crop", "160"]
        nucbench("run", "hovernet", "synthetic", *TRAIN, *small, folder=folder)
        nucbench("run", "fiji", "synthetic", "--no-progress", folder=folder)

    return shutil.copytree(once("plot-maps", fill), tmp_path_factory.mktemp("user"), dirs_exist_ok=True)


def run_of(place: Path, method: str) -> Path:
    (run,) = place.glob(f"runs/{method}/synthetic/*")
    return run


def said(picture: str) -> str:
    """Return the words of an SVG, whose titles may be wrapped."""
    return " ".join(re.findall(r"<!-- (.*?) -->", picture))


@pytest.mark.slow
def test_maps_of_runs_are_drawn(place: Path) -> None:
    runs = [run_of(place, "dist"), run_of(place, "hovernet")]
    done = nucbench("plot", "maps", "--run", *runs, "--out", "pictures", folder=place)
    files = [place / line for line in done.stdout.splitlines()]
    assert [file.suffix for file in files] == [".png", ".svg"] * 2
    assert np.asarray(Image.open(files[0]).convert("RGB")).shape[1] > 1400
    dist, hover = files[1].read_text(), files[3].read_text()
    for text, titles in (
        (dist, ["Image", "Annotation", "Distance to the outside", "Result: DIST", "px"]),
        (hover, ["Horizontal distance", "Vertical distance", "Probability of nucleus", "Result: HoVer-Net"]),
    ):
        for title in titles:
            assert title in said(text)
    # types of the dataset, by name
    assert "Probability of epithelial" in said(hover)


@pytest.mark.slow
def test_images_are_named(place: Path) -> None:
    run = run_of(place, "dist")
    done = nucbench("plot", "maps", "--run", run, "--images", "synthetic/train_01", "--side", "64", folder=place)
    assert f"plots/maps-synthetic-train_01-dist-{run.name}.png" in done.stdout
    for image, message in (("synthetic/train_99", "unknown image of synthetic"), ("train_01", "named DATASET/IMAGE")):
        done = nucbench("plot", "maps", "--run", run, "--images", image, folder=place, status=2)
        assert message in done.stderr


@pytest.mark.slow
def test_what_has_no_maps_is_refused(place: Path) -> None:
    done = nucbench("plot", "maps", "--run", run_of(place, "fiji"), folder=place, status=2)
    assert "fiji has no network and therefore no maps to draw" in done.stderr
    assert "nucbench plot maps --run RUN" in nucbench("plot", "maps", folder=place, status=2).stderr
    done = nucbench("plot", "boxes", "--run", run_of(place, "dist"), folder=place, status=2)
    assert "are options of the plot maps" in done.stderr
    done = nucbench("plot", "map", folder=place, status=2)
    assert "Did you mean 'maps'?" in done.stderr
