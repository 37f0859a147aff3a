"""Measure where the time of `nucbench predict` and `nucbench score` goes, stage by stage, in their own processes."""

from __future__ import annotations

import dataclasses
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmark.host.stages import VARIABLE, Stage, read_stages
from benchmark.registry import dataset_class
from benchmark.results.model_folder import Description, write_model
from benchmark.results.pictures import write_png
from benchmark.results.spec import Target
from benchmark.speed.components import DENSITY
from benchmark.speed.methods import build
from datamodules.reading.files import write_mat
from datamodules.reading.sample import Sample
from datamodules.sources import ImageSet
from datamodules.synthetic.images import generate
from postproc.errors import ConfigError

IMAGES = 14
"""Number of synthetic images: as many as Kumar has test images."""
NETWORK = "network"
START = "start-up"


def pipeline_table(name: str, options: dict[str, Any], samples: Iterable[Sample]) -> pd.DataFrame:
    """Predict and score images by the command line, with random weights, and measure its stages.

    Args:
        name: Method.
        options: Options of the method.
        samples: Images with annotation.

    Returns:
        A row per command, process (main or workers) and stage: wall-clock and CPU seconds, the number of times it ran,
        and its share of the wall-clock time of the command. Workers run parallel to the main process, and their
        wall-clock time is not part of its. The last row of a command is its total.

    Raises:
        ConfigError: If the method or an option is unknown, or it has no weights.
    """
    with tempfile.TemporaryDirectory(prefix="nucbench-") as temporary:
        folder = Path(temporary)
        write_random_model(folder / "model", name, options)
        for number, sample in enumerate(samples):
            write_png(folder / "images" / f"{number:03}.png", sample.image)
            if sample.truth.labels is not None:
                write_mat(folder / "truth" / f"{number:03}.mat", dataclasses.replace(sample.truth, types=None))
        predict = ["predict", "model", "images", "--out", "out", "--no-progress"]
        rows = command_rows(predict, folder)
        if (folder / "truth").is_dir():
            rows += command_rows(["score", "--truth", "truth", "--predictions", "out"], folder)
    return pd.DataFrame(rows)


def pipeline_samples(dataset: str | None, data: Path, side: int) -> Iterable[Sample]:
    """Return the images of a set, or synthetic images if `dataset` is None.

    Args:
        dataset: DATASET.SPLIT, or DATASET for its test split.
        data: Folder of datasets.
        side: Side of the synthetic images in pixels.
    """
    if dataset is not None:
        target = Target.parse(dataset)
        return ImageSet(dataset_class(target.dataset)(data / target.dataset), target.split).samples()
    drawn = (generate((side, side), np.random.default_rng(seed), density=DENSITY) for seed in range(IMAGES))
    return (Sample(*each, f"{number}", f"{number}") for number, each in enumerate(drawn))


def write_random_model(folder: Path, name: str, options: dict[str, Any]) -> None:
    """Write a method with random weights as a model folder.

    Raises:
        ConfigError: If the method or an option is unknown, or it has no weights.
    """
    method = build(name, options, ()).cpu()
    if not method.state_dict():
        raise ConfigError(f"{name} has no network; --pipeline measures methods with one")
    about = Description(
        name="random",
        method=name,
        options=options,
        types=(),
        mpp=None,
        magnification=None,
        parameters={key: dataclasses.asdict(codec.defaults()) for key, codec in method.codecs.items()},
        sha256="",
        trained_on=("synthetic.train",),
        licence="none",
    )
    write_model(folder, method, about)


def measured(stages: Path) -> dict[str, str]:
    """Return the environment of a command that imports what this process does, and appends its stages to a file."""
    return os.environ | {VARIABLE: str(stages), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def command_rows(words: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    """Run a command in its own process and return its stages as rows.

    Args:
        words: Words after `nucbench`.
        folder: Working directory.

    Raises:
        RuntimeError: If the command fails; with its error output.
    """
    file = folder / f"{words[0]}.stages"
    before, began = _children_cpu(), time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "benchmark", *words],
        cwd=folder,
        env=measured(file),
        capture_output=True,
        text=True,
    )
    wall, cpu = time.monotonic() - began, _children_cpu() - before
    if done.returncode:
        raise RuntimeError(f"nucbench {' '.join(words)} failed: {done.stderr.strip()}")
    return rows_of(words[0], read_stages(file), began, wall, cpu)


def rows_of(command: str, stages: Sequence[Stage], began: float, wall: float, cpu: float) -> list[dict[str, Any]]:
    """Add the stages of each process up.

    Args:
        command: Name of the command.
        stages: Stages of all of its processes.
        began: Wall-clock time when the command was started.
        wall: Wall-clock seconds of the command.
        cpu: CPU seconds of all of its processes.
    """
    main = min(stages, key=lambda each: each.began).process
    sums: dict[tuple[str, str], list[float]] = {}

    def add(process: str, name: str, seconds: float, spent: float) -> None:
        so_far = sums.setdefault((process, name), [0.0, 0.0, 0])
        sums[process, name] = [so_far[0] + seconds, so_far[1] + spent, so_far[2] + 1]

    firsts: dict[int, Stage] = {}
    for each in stages:
        if each.process not in firsts or each.began < firsts[each.process].began:
            firsts[each.process] = each
    for process, first in sorted(firsts.items(), key=lambda item: item[0] != main):
        waited = first.began - began if process == main else float("nan")
        add("main" if process == main else "workers", START, waited, first.cpu_before)
    for each in stages:
        process_name = "main" if each.process == main else "workers"
        add(process_name, each.name, each.ended - each.began, each.cpu_after - each.cpu_before)
    used = [sum(values[k] for (process, _), values in sums.items() if process == "main") for k in (0, 1)]
    others = sum(values[1] for (process, _), values in sums.items() if process != "main")
    sums["main", "everything else"] = [wall - used[0], cpu - used[1] - others, 1]
    sums["all", "total"] = [wall, cpu, 1]
    return [
        {"command": command, "process": process, "stage": name, "wall_s": values[0], "cpu_s": values[1]}
        | {"times": int(values[2]), "share": values[0] / wall if process != "workers" else None}
        for (process, name), values in sums.items()
    ]


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_pipeline(
    methods: list[str], options: dict[str, Any], dataset: str | None, data: Path, side: int, out: Path
) -> list[Path]:
    """Measure the stages of methods, print them, and write a CSV each.

    Args:
        methods: Methods.
        options: Options of the methods.
        dataset: Images, as for `pipeline_samples`.
        data: Folder of datasets.
        side: Side of synthetic images in pixels.
        out: Output folder.

    Raises:
        ConfigError: If no method is given, or one is unknown.
    """
    from benchmark.host.console import print_frame
    from benchmark.results.store import write_scores
    from benchmark.speed.report import file_name

    if not methods:
        raise ConfigError("--pipeline needs a method, for example: nucbench speed dist --pipeline")
    files = []
    for name in methods:
        frame = pipeline_table(name, options, pipeline_samples(dataset, data, side))
        print_frame(frame)
        predict = frame[frame["command"] == "predict"].set_index("stage")["wall_s"]
        print(f"predict takes {predict['total'] / predict[NETWORK]:.2f} times the wall-clock time of its network")
        files.append(out / "pipeline" / file_name(f"{name}-{dataset or 'synthetic'}", "auto"))
        write_scores(files[-1], frame)
        print(f"written to {files[-1]}")
    return files


__all__ = [
    "command_rows",
    "measured",
    "pipeline_samples",
    "pipeline_table",
    "rows_of",
    "run_pipeline",
    "write_random_model",
]
