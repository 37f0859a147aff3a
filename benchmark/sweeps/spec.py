"""`SweepSpec`: the content of a sweep file, and the runs that it defines."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from benchmark.options import check_options
from benchmark.registry import METHODS, dataset_class, method_class
from benchmark.results.spec import Overrides, RunSpec, Target
from benchmark.sweeps.paper_length import PaperLength
from datamodules.reading.plain_files import read_yaml
from datamodules.reading.schema import STRICT, Flag, Name, Seed, Text, check
from postproc.errors import ConfigError, short, unknown_name

PER_METHOD = ("options", "method_overrides", "paper")
"""Keys of a sweep file with settings per method."""

Kind = Literal["sweep", "search"]
KINDS: dict[Kind, str] = {"sweep": "Sweeps", "search": "Searches"}
SEARCH_ENDING = "-search.yaml"
"""Ending of the search files of nucbench."""

Run = tuple[RunSpec, list[Target]]
"""A run with the sets to evaluate it on."""


@dataclass(frozen=True)
class SweepSpec:
    """Content of a sweep file.

    Attributes:
        methods: Methods to train.
        datasets: Training sets; each method is trained on each of them.
        seeds: Seeds; each pair of method and dataset is trained with each of them.
        protocol: Protocol of all runs.
        train_split: Split to train on.
        also: Further training sets of every run, each ``dataset.split``.
        validate: Validation set of protocol ``strict``, as for `nucbench run`; empty = the validation images of the
            training set.
        folds: Leave-one-group-out cross-validation: one run per group (patient) of the training set, trained on the
            other groups and evaluated on this one. With `train_split` ``group:A,B,C``, only these groups are used.
        evaluate: Sets to score, as for `nucbench run`; empty = the test split of the training set, or the left-out
            group.
        precision: Floating-point precision.
        options: Method -> options.
        overrides: Recipe settings of all runs of trained methods.
        method_overrides: Method -> recipe settings, added to `overrides` or replacing them.
        paper: Method -> training length of the paper (`benchmark.sweeps.paper_length.PaperLength`), printed in the plan
            of the sweep; runs do not depend on it.
        cases: Changes to the keys above; the sweep runs once for each case. Settings under `options`, `overrides`,
            `method_overrides` and `paper` are merged into those above; other keys are replaced.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    methods: tuple[Name, ...]
    datasets: tuple[Name, ...]
    seeds: tuple[Seed, ...] = (0,)
    protocol: Name = "paper"
    train_split: Name = "train"
    also: tuple[Name, ...] = ()
    validate: Text = ""
    folds: Flag = False
    evaluate: tuple[Name, ...] = ()
    precision: Name = "auto"
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    method_overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    paper: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cases: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def load(cls, file: Path) -> SweepSpec:
        """Read a sweep file; if a bare name does not exist here, use the file of that name in nucbench.

        Raises:
            ConfigError: If the file is missing, is not a YAML mapping, or has an unknown key or a value of wrong type.
        """
        path, content = read_mapping(file, ("methods", "datasets"))
        sweep = check(cls, content, str(path), ConfigError)
        for number, case in enumerate(sweep.cases, start=1):
            place = f"case {number} of {path}"
            if "cases" in case:
                raise ConfigError(f"{place} contains cases; add them to the list of cases instead")
            check(cls, {**content, **case, "cases": []}, place, ConfigError)
        with named(path):
            sweep.check()
        return sweep

    def check(self) -> None:
        """Check all runs before the first training.

        Raises:
            ConfigError: If a name, split, option or override is unknown, or a value has a wrong type.
        """
        for spec, targets in self.runs():
            check_options(method_class(spec.method), spec.options)
            for target in (*spec.training_sets, *targets, *filter(None, [spec.validation_set])):
                target.check()
        self.paper_lengths()

    def runs(self) -> list[Run]:
        """Return all distinct runs with the sets to evaluate them on.

        Raises:
            ConfigError: If a name is unknown.
        """
        found: dict[str, Run] = {}
        mentioned = (*self.methods, *(name for case in self.cases for name in case.get("methods", ())))
        self._check_methods(mentioned)  # settings may be for methods that only some cases use
        for case in self.cases or ({},):
            for spec, targets in self._changed(case)._product():
                known = found.setdefault(spec.run_id, (spec, []))[1]
                known.extend(target for target in targets if target not in known)
        return list(found.values())

    def paper_lengths(self) -> dict[str, PaperLength]:
        """Return run id -> training length of the paper, for the runs whose length the file states.

        Raises:
            ConfigError: If a name is unknown, or an entry is not a length with its source.
        """
        found = {}
        for case in self.cases or ({},):
            changed = self._changed(case)
            for spec, _ in changed._product():
                if spec.method in changed.paper:
                    content = changed.paper[spec.method]
                    found[spec.run_id] = PaperLength.read(content, f"paper.{spec.method} of the sweep")
        return found

    def _changed(self, case: Mapping[str, Any]) -> SweepSpec:
        """Return the sweep of one case."""
        changes: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in case.items()
        }
        methods = changes.get("methods", self.methods)
        own_settings = {key: value for key, value in changes.items() if key in PER_METHOD}
        SweepSpec(methods, self.datasets, **own_settings)._check_methods(methods)
        for key in PER_METHOD:
            if key in changes:
                own = getattr(self, key)
                changes[key] = {
                    **own,
                    **{name: {**own.get(name, {}), **settings} for name, settings in changes[key].items()},
                }
        if "overrides" in changes:
            changes["overrides"] = {**self.overrides, **changes["overrides"]}
        return dataclasses.replace(self, cases=(), **changes)

    def _check_methods(self, known: Collection[str]) -> None:
        """Check methods and the settings per method.

        Args:
            known: Methods that settings can be for.

        Raises:
            ConfigError: If a method is unknown, settings are for a method outside `known`, or training settings are for
                an untrained method.
        """
        for name in self.methods:
            if name not in METHODS:
                raise unknown_name("method", name, METHODS)
        for name in (*self.options, *self.method_overrides, *self.paper):
            if name not in known:
                raise unknown_name("method under options, method_overrides or paper", name, known)
        for name, settings in self.method_overrides.items():
            if settings and not method_class(name).card.trained:
                raise ConfigError(
                    f"method_overrides: {name} is not trained, so {', '.join(settings)} would have no effect; remove it"
                )

    def _overrides(self, method: str) -> Overrides:
        """Return the overrides of a method; none for untrained methods, whose runs do not depend on them."""
        overrides = Overrides.read({**self.overrides, **self.method_overrides.get(method, {})})
        return overrides if method_class(method).card.trained else Overrides()

    def _product(self) -> Iterator[Run]:
        for dataset in self.datasets:
            for split, targets in self._splits(dataset):
                for method in self.methods:
                    overrides = self._overrides(method)
                    options = dict(self.options.get(method, {}))
                    for seed in self.seeds:
                        spec = RunSpec(
                            method, dataset, split, self.protocol, seed, self.precision, options, overrides,
                            self.also, self.validate,
                        )  # fmt: skip
                        yield spec, targets

    def _splits(self, dataset: str) -> Iterator[tuple[str, list[Target]]]:
        """Yield the splits to train on, each with the sets to evaluate."""
        if not self.folds:
            yield self.train_split, [Target.parse(text) for text in self.evaluate or (dataset,)]
            return
        rows = dataset_class(dataset).splits().values()
        kind, _, names = self.train_split.partition(":")
        named = names.split(",") if kind == "group" else []
        groups = named or dict.fromkeys(row.group for row in rows if kind in ("all", "train", row.split))
        if not groups:
            raise ConfigError(
                f"folds: the groups (patients) of {dataset} are not known before its images are read; name them, for "
                "example train_split: group:A,B,C"
            )
        for group in groups:
            targets = [Target.parse(text) for text in self.evaluate] or [Target(dataset, f"group:{group}")]
            rest = ",".join(other for other in named if other != group)
            yield f"group:{rest}" if named else f"except-group:{group}", targets


def find_file(file: Path, kind: Kind = "sweep") -> Path:
    """Return the path of a file; if a bare name does not exist here, that of the file in nucbench.

    Raises:
        ConfigError: If neither exists.
    """
    path = file
    if not file.is_file() and file.parent == Path():
        path = Path(str(files("benchmark").joinpath("sweeps", file.name)))
    if not path.is_file():
        shipped = [p.name for p in files("benchmark").joinpath("sweeps").iterdir() if p.name.endswith(".yaml")]
        known = sorted(name for name in shipped if name.endswith(SEARCH_ENDING) == (kind == "search"))
        raise ConfigError(f"{kind} file {file} not found. {KINDS[kind]} of nucbench: {', '.join(known)}.")
    return path


def read_mapping(file: Path, needed: tuple[str, ...], kind: Kind = "sweep") -> tuple[Path, dict[str, Any]]:
    """Find and read a YAML file with a mapping.

    Args:
        file: As for `find_file`.
        needed: Keys that must be present and not empty.
        kind: What the file describes, for messages.

    Returns:
        Path and content.

    Raises:
        ConfigError: If the file is missing, is not a YAML mapping, or lacks a key.
    """
    path = find_file(file, kind)
    content = read_yaml(path, ConfigError)
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must contain a mapping with {', '.join(needed)}, not {short(content)}")
    for key in needed:
        if not content.get(key):
            raise ConfigError(f"{path} needs the key {key}")
    return path, content


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Prefix configuration errors with the file."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


__all__ = ["Run", "SweepSpec", "find_file", "named", "read_mapping"]
