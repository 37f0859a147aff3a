"""`nucbench demo`: run everything once on synthetic images, without a download."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmark.data.prepare import StandIn, write_stand_in
from benchmark.host.machine import Machine
from benchmark.registry import TABLES, dataset_class
from benchmark.results.pictures import overlay, write_png
from benchmark.results.spec import RunSpec
from benchmark.results.store import RunStore, read_instances
from benchmark.sweeps.job import Job, State, attempt
from benchmark.sweeps.spec import SweepSpec
from leaderboards.build import build_tables

SWEEP = Path("demo.yaml")
PICTURES_PER_RUN = 2


def run_demo(out: Path, steps: int, *, progress: bool = True) -> int:
    """Write synthetic data, run the demo sweep, build tables and pictures, and print where they are.

    Args:
        out: Output folder; existing results are kept and not computed again.
        steps: Optimiser steps of each training.
        progress: Show progress bars.

    Returns:
        0 if every run succeeded, 1 otherwise.
    """
    machine = Machine(out / "data", out / "runs", progress=progress)
    plan = SweepSpec.load(SWEEP)
    plan = dataclasses.replace(plan, overrides={**plan.overrides, "steps": steps})
    for name in plan.datasets:
        if not (machine.data / name).is_dir():
            write_stand_in(name, machine.data / name, StandIn())
    good = True
    runs = plan.runs()
    for i, (spec, targets) in enumerate(runs, start=1):
        print(f"[{i}/{len(runs)}] {spec.run_id}", flush=True)
        job = Job(spec, tuple(targets), machine)
        good &= job.state is State.DONE or attempt(job)
    tables = build_tables(list(TABLES), [machine.runs], out / "tables")
    pictures = [path for spec, _ in runs for path in _pictures(spec, machine, out / "pictures")]
    print("\nThe images are synthetic and training is short: the scores only show that everything works.")
    print(f"data:      {machine.data}")
    print(f"runs:      {machine.runs}")
    print(f"tables:    {', '.join(str(path) for path in tables if path.suffix == '.md')}")
    print(f"pictures:  {out / 'pictures'} ({len(pictures)}: image, annotation, prediction)")
    return 0 if good else 1


def _pictures(spec: RunSpec, machine: Machine, out: Path) -> list[Path]:
    """Write image, annotation and prediction side by side for the first test images of a run."""
    store = RunStore(machine.runs, spec.run_id)
    data = dataset_class(spec.dataset)(machine.data / spec.dataset)
    written = []
    for record in data.select("test")[:PICTURES_PER_RUN]:
        for folder in sorted((store.path / "predictions" / spec.dataset).glob("*")):
            file = store.prediction_file(spec.dataset, folder.name, record.image_id)
            if not file.exists():
                continue
            sample = data.read(record)
            found = overlay(sample.image, read_instances(file))
            path = out / f"{spec.dataset}-{record.image_id}-{spec.method}-{folder.name}.png"
            write_png(path, side_by_side([sample.image, overlay(sample.image, sample.truth), found]))
            written.append(path)
    return written


def side_by_side(images: list[NDArray[np.uint8]], gap: int = 6) -> NDArray[np.uint8]:
    """Place images of equal size side by side, enlarged twice, with white gaps."""
    large = [cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST) for image in images]
    white = np.full((large[0].shape[0], gap, 3), 255, np.uint8)
    row = [part for image in large for part in (image, white)][:-1]
    return np.concatenate(row, axis=1)
