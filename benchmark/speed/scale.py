"""Measure `nucbench predict` on larger and larger images: seconds and peak memory of each stage."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
from numpy.typing import NDArray

from benchmark.host.resources import GIB
from benchmark.host.stages import Stage, read_stages
from benchmark.speed.components import DENSITY
from benchmark.speed.pipeline import measured
from datamodules.reading.magnification import MPP_AT_1X
from datamodules.synthetic.images import generate
from postproc.errors import ConfigError

SIDES = (2000, 4000, 8000)
"""Default sides of the images in pixels."""
SCENE = 1024
"""Side in pixels of the synthetic image that large images repeat: a multiple of `TILE`."""
TILE = 512
"""Side of the tiles of the TIFF in pixels."""
EVERY = 0.2
"""Seconds between two measurements of the memory."""
TOTAL = "total"


class Memory(threading.Thread):
    """Measures the memory of a process and its descendants until it ends.

    The proportional set size counts pages that several processes share once.

    Attributes:
        samples: Time (`time.monotonic`) and GiB of each measurement.
    """

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self.samples: list[tuple[float, float]] = []
        self._process = process
        self._ended = threading.Event()

    def run(self) -> None:
        """Measure until `stop`."""
        while not self._ended.wait(EVERY):
            self.samples.append((time.monotonic(), sum(map(_proportional, _family(self._process))) / GIB))

    def stop(self) -> None:
        """End the measurement."""
        self._ended.set()
        self.join()

    def peak(self, began: float, ended: float) -> float:
        """Return the highest value within an interval, extended by one measurement on either side; NaN if none."""
        found = [gib for moment, gib in self.samples if began - EVERY <= moment <= ended + EVERY]
        return max(found, default=float("nan"))


def _family(process: int) -> list[int]:
    """Return a process and its descendants."""
    found = [process]
    for parent in found:
        try:
            threads = os.listdir(f"/proc/{parent}/task")
            for thread in threads:
                children = Path(f"/proc/{parent}/task/{thread}/children").read_text(encoding="ascii")
                found += [int(child) for child in children.split()]
        except OSError:  # it has ended
            continue
    return found


def _proportional(process: int) -> int:
    """Return the proportional set size of a process in bytes, 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def write_scene(path: Path, side: int) -> None:
    """Write a tiled TIFF that repeats a synthetic H&E image, without holding it in memory.

    Args:
        path: The file.
        side: Side in pixels.
    """
    scene = generate((SCENE, SCENE), np.random.default_rng(0), density=DENSITY)[0]
    tiles = -(-side // TILE)
    per_scene = SCENE // TILE

    def parts() -> Iterator[NDArray[np.uint8]]:
        for row in range(tiles):
            for column in range(tiles):
                top, left = row % per_scene * TILE, column % per_scene * TILE
                yield scene[top : top + TILE, left : left + TILE]

    tifffile.imwrite(
        path, parts(), shape=(side, side, 3), dtype=np.uint8, tile=(TILE, TILE), photometric="rgb", compression="zlib",
        bigtiff=True,
    )  # fmt: skip


def measure(model: str, side: int, magnification: float, folder: Path) -> list[dict[str, Any]]:
    """Predict one image in its own process and return a row per stage and one for the whole.

    Args:
        model: Run directory, model folder, or name of a shipped model.
        side: Side of the image in pixels.
        magnification: Magnification of the image.
        folder: Folder for image and results.

    Raises:
        RuntimeError: If the command fails; with its error output.
    """
    image, stages = folder / f"{side}.tif", folder / f"{side}.stages"
    write_scene(image, side)
    words = ["predict", model, str(image), "--out", str(folder / f"out-{side}")]
    words += ["--magnification", f"{magnification:g}", "--no-progress"]
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmark", *words], env=measured(stages), stdout=output, stderr=subprocess.STDOUT
        )
        memory = Memory(process.pid)
        memory.start()
        status = process.wait()
        ended = time.monotonic()
        memory.stop()
        output.seek(0)
        if status:
            raise RuntimeError(f"nucbench {' '.join(words)} failed: {output.read().strip()}")
    image.unlink()
    return _rows(read_stages(stages), began, ended, side, magnification, memory)


def _rows(
    stages: Sequence[Stage], began: float, ended: float, side: int, magnification: float, memory: Memory
) -> list[dict[str, Any]]:
    main = min(stages, key=lambda each: each.began).process
    own = [each for each in stages if each.process == main]
    area = (side * MPP_AT_1X / magnification / 1000) ** 2

    def row(name: str, seconds: float, gib: float) -> dict[str, Any]:
        return {"side": side, "mm2": area, "stage": name, "wall_s": seconds, "s_per_mm2": seconds / area, "gib": gib}

    rows = [row("start-up", own[0].began - began, memory.peak(began, own[0].began))]
    for name in dict.fromkeys(each.name for each in own):
        parts = [each for each in own if each.name == name]
        peak = max(memory.peak(each.began, each.ended) for each in parts)
        rows.append(row(name, sum(each.ended - each.began for each in parts), peak))
    return [*rows, row(TOTAL, ended - began, memory.peak(began, ended))]


def _magnification(model: Path) -> float:
    """Return the magnification of a model's training images; 40 if it is unknown."""
    from benchmark.results.known_models import find_model
    from benchmark.results.model_folder import Description
    from benchmark.results.record import read_record
    from benchmark.results.store import RunStore

    folder = find_model(model)
    known = (
        Description.read(folder).magnification
        if folder is not None
        else read_record(RunStore.open(model).record_file)["magnification"]
    )
    return float(known or 40)


def run_scale(models: Sequence[str], sides: Sequence[int], out: Path) -> list[Path]:
    """Measure models on images of several sizes, print a table each, and write it as CSV.

    Args:
        models: Run directories, model folders, or names of shipped models.
        sides: Sides of the images in pixels.
        out: Output folder.

    Raises:
        ConfigError: If no model is given or one does not exist, a side is below 1, or the platform is not Linux.
    """
    from benchmark.host.console import print_frame
    from benchmark.results.store import write_scores
    from benchmark.speed.report import file_name

    if not Path("/proc/self/smaps_rollup").exists():
        raise ConfigError("--scale measures memory by /proc, which only Linux has")
    if not models:
        raise ConfigError("--scale needs a model, for example: nucbench speed default --scale")
    for side in sides:
        if side < 1:
            raise ConfigError(f"--sizes is {side}; give 1 or more")
    files = []
    for model in models:
        magnification = _magnification(Path(model))
        with tempfile.TemporaryDirectory(prefix="nucbench-") as temporary:
            rows = [row for side in sides for row in measure(model, side, magnification, Path(temporary))]
        frame = pd.DataFrame(rows)
        print_frame(frame)
        files.append(out / "scale" / file_name(Path(model).name, "auto"))
        write_scores(files[-1], frame)
        print(f"written to {files[-1]}")
    return files


__all__ = ["SIDES", "Memory", "measure", "run_scale", "write_scene"]
