"""`nucbench speed --scale`: what it measures on, and the memory it measures."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from command_line import nucbench

from benchmark.speed.scale import SCENE, Memory, write_scene

HOLDS = """
import subprocess, sys, time
held = bytearray(100 << 20)
held[::4096] = b"x" * len(held[::4096])
if len(sys.argv) > 1:
    subprocess.run([sys.executable, "-c", sys.argv[1]])
else:
    time.sleep(1.5)
"""


def test_memory_counts_descendants() -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLDS, HOLDS])
    memory, began = Memory(process.pid), time.monotonic()
    memory.start()
    process.wait()
    memory.stop()
    assert 0.19 < memory.peak(began, time.monotonic()) < 0.4  # two times 100 MiB, and two interpreters
    assert np.isnan(memory.peak(began - 100, began - 90))


@pytest.mark.parametrize("side", [300, 1300])
def test_the_scene_has_its_size_and_repeats(tmp_path: Path, side: int) -> None:
    write_scene(tmp_path / "scene.tif", side)
    image = tifffile.imread(tmp_path / "scene.tif")
    assert image.shape == (side, side, 3)
    assert image.std() > 10
    rest = side - SCENE
    if rest > 0:
        assert np.array_equal(image[SCENE:, SCENE:], image[:rest, :rest])


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ((), "--scale needs a model"),
        (("nosuch",), "unknown model 'nosuch'"),
        (("default", "--sizes", "0"), "--sizes is 0"),
    ],
)
def test_wrong_arguments_are_named(tmp_path: Path, words: tuple[str, ...], named: str) -> None:
    assert named in nucbench("speed", *words, "--scale", folder=tmp_path, status=2).stderr


@pytest.mark.slow
def test_stages_make_the_total(tmp_path: Path) -> None:
    nucbench("speed", "default", "--scale", "--sizes", "300", "--out", "speed", folder=tmp_path)
    (file,) = (tmp_path / "speed/scale").glob("*.csv")
    frame = pd.read_csv(file).set_index("stage")
    assert {"start-up", "network", "decoding", "writing", "total"} <= set(frame.index)
    assert frame["wall_s"].drop("total").sum() <= frame.loc["total", "wall_s"]
    assert frame["gib"].max() == frame.loc["total", "gib"]
    assert frame.loc["total", "mm2"] == pytest.approx(0.075**2)
