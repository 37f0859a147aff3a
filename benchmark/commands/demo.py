"""`nucbench demo`: predict with a shipped model, then run everything once on synthetic images, without a download."""

from __future__ import annotations

import dataclasses
from importlib.resources import files
from pathlib import Path

from benchmark.commands.demo_model import predict_photograph
from benchmark.data.prepare import StandIn, write_stand_in
from benchmark.data.presence import is_there
from benchmark.host.machine import Machine
from benchmark.registry import TABLES, dataset_class
from benchmark.results.pictures import overlay, side_by_side, write_png
from benchmark.results.spec import RunSpec
from benchmark.results.store import RunStore, read_instances
from benchmark.sweeps.job import Job, State, attempt
from benchmark.sweeps.spec import SweepSpec
from leaderboards.build import build_tables

SWEEP = Path(str(files("benchmark").joinpath("sweeps", "demo.yaml")))
"""By its path: a file of this name may exist where the demo is started."""
PICTURES_PER_RUN = 2


def run_demo(out: Path, steps: int, *, progress: bool = True) -> int:
    """Predict with a shipped model; then write synthetic data, run the demo sweep, and build tables and pictures.

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
    runs = plan.runs()  # rejects a wrong number of steps
    photograph = predict_photograph(out, progress=progress)
    print("\nNow the whole benchmark: short trainings on synthetic images.", flush=True)
    for name in plan.datasets:
        if not is_there(machine.data / name):
            write_stand_in(name, machine.data / name, StandIn())
    good = True
    for i, (spec, targets) in enumerate(runs, start=1):
        print(f"[{i}/{len(runs)}] {spec.run_id}", flush=True)
        job = Job(spec, tuple(targets), machine)
        good &= job.state is State.DONE or attempt(job)
    tables = build_tables(list(TABLES), [machine.runs], out / "tables")
    pictures = [path for spec, _ in runs for path in _pictures(spec, machine, out / "pictures")]
    print("\nThese images are synthetic and training is short: the scores only show that everything works.")
    print(f"model:     {photograph}")
    print(f"data:      {machine.data}")
    print(f"runs:      {machine.runs}")
    print(f"tables:    {', '.join(str(path) for path in tables if path.suffix == '.md')}")
    print(f"pictures:  {out / 'pictures'} ({len(pictures)}: image, annotation, prediction)")
    print("next:      nucbench predict default YOUR_IMAGE.png")
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
