"""Sweeps: the product of methods, datasets and seeds, each run skipped where it is done."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from benchmark.spec import Overrides, RunSpec, Target
from benchmark.store import RunStore, atomic
from postproc.errors import ConfigError, unknown_name

if TYPE_CHECKING:  # the module imports torch
    from benchmark.run import Machine


@dataclass(frozen=True)
class SweepSpec:
    """What a sweep file says.

    Attributes:
        methods: Methods to train.
        datasets: Training sets; each method is trained on each.
        seeds: Seeds; each pair is trained with each.
        protocol: Protocol of all runs.
        train_split: Split to train on.
        evaluate: Sets to score, as for `nucbench run`; empty = the test split of the training set.
        precision: Floating-point precision.
        options: Method -> options.
        overrides: Recipe settings for all runs.
        method_overrides: Method -> recipe settings that differ from `overrides`.
    """

    methods: tuple[str, ...]
    datasets: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    protocol: str = "paper"
    train_split: str = "train"
    evaluate: tuple[str, ...] = ()
    precision: str = "auto"
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    method_overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def load(cls, file: Path) -> SweepSpec:
        """Read a sweep file; a bare name that is no file here is looked up among those of nucbench.

        Raises:
            ConfigError: If the file is missing, no YAML mapping, or has an unknown key.
        """
        path = file
        if not file.is_file() and file.parent == Path():
            path = Path(str(files("benchmark").joinpath("sweeps", file.name)))
        if not path.is_file():
            known = sorted(p.name for p in files("benchmark").joinpath("sweeps").iterdir())
            raise ConfigError(f"no sweep file {file}. Sweeps of nucbench: {', '.join(known)}.")
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is no YAML: {error}") from error
        if not isinstance(content, dict):
            raise ConfigError(f"{path} must hold a mapping with methods and datasets")
        fields = {f.name: f for f in dataclasses.fields(cls)}
        for key, value in content.items():
            if key not in fields:
                raise unknown_name(f"key of {path.name}", str(key), fields)
            if isinstance(value, list):
                content[key] = tuple(value)
        for key in ("methods", "datasets"):
            if not content.get(key):
                raise ConfigError(f"{path} names no {key}")
        return cls(**content)

    def runs(self) -> list[tuple[RunSpec, list[Target]]]:
        """Return every run with the sets to evaluate it on.

        Raises:
            ConfigError: If a name is unknown.
        """
        for name in (*self.options, *self.method_overrides):
            if name not in self.methods:
                raise unknown_name("method under options or method_overrides", name, self.methods)
        found = []
        for dataset in self.datasets:
            targets = [Target.parse(text) for text in self.evaluate or (dataset,)]
            for method in self.methods:
                options = dict(self.options.get(method, {}))
                overrides = Overrides.read({**self.overrides, **self.method_overrides.get(method, {})})
                for seed in self.seeds:
                    spec = RunSpec(
                        method, dataset, self.train_split, self.protocol, seed, self.precision, options, overrides
                    )
                    found.append((spec, targets))
        return found


def is_done(spec: RunSpec, targets: list[Target], runs: Path) -> bool:
    """Tell whether a run is stored with an evaluation on every target."""
    store = RunStore(runs, spec.run_id)
    return store.record_file.exists() and all(
        any(store.path.glob(f"evaluations/{target}/*/evaluation.json")) for target in targets
    )


def run_sweep(file: Path, machine: Machine, *, dry_run: bool) -> int:
    """Run a sweep in this process, one run after the other.

    A run that fails is noted with its traceback in ``failure.txt`` of its directory, and the others go on.

    Returns:
        0 if every run is done, 1 otherwise.
    """
    plan = SweepSpec.load(file).runs()
    failed: list[str] = []
    for i, (spec, targets) in enumerate(plan, start=1):
        done = is_done(spec, targets, machine.runs)
        names = ", ".join(map(str, targets))
        print(f"[{i}/{len(plan)}] {spec.run_id} -> {names}: {'done' if done else 'to do'}", flush=True)
        if done or dry_run:
            continue
        if not attempt(spec, targets, machine):
            failed.append(spec.run_id)
    if failed:
        print(f"{len(failed)} of {len(plan)} runs failed: {', '.join(failed)}")
    return 1 if failed else 0


def attempt(spec: RunSpec, targets: list[Target], machine: Machine) -> bool:
    """Execute a run; note its traceback in ``failure.txt`` and return False if it fails."""
    from benchmark.report import print_result
    from benchmark.run import execute

    note = machine.runs / spec.run_id / "failure.txt"
    try:
        print_result(execute(spec, targets, machine))
    except Exception as error:  # one failing run never stops the others
        with atomic(note, "w") as stored:
            stored.write(traceback.format_exc())
        print(f"failed: {error}\n  traceback in {note}", flush=True)
        return False
    note.unlink(missing_ok=True)
    return True
