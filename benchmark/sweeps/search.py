"""Hyper-parameter search with Optuna: each trial is a run under protocol ``strict``, scored on validation images."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict

from benchmark.host.files import held, read_json, write_json
from benchmark.host.machine import Machine
from benchmark.options import check_options
from benchmark.registry import method_class
from benchmark.results.spec import FORMAT, Overrides, RunSpec
from benchmark.results.store import RunStore
from benchmark.sweeps.spec import named, read_mapping
from datamodules.reading.schema import (
    LARGEST_SEED,
    STRICT,
    Count,
    Flag,
    Integer,
    Name,
    Number,
    Seed,
    Text,
    check,
)
from postproc.errors import BusyError, ConfigError, DataError, short, unknown_name

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class SearchSpec:
    """Content of a search file.

    Attributes:
        method: Method to train.
        dataset: Training set.
        space: Setting -> values to choose from. A setting is a recipe setting of `nucbench run` (``lr``), or
            ``options.NAME`` for an option of the method.
        trials: Total number of trainings, at most the number of combinations.
        seed: Seed of the sampler and of every run.
        options: Options of all trials.
        overrides: Recipe settings of all trials.
        precision: Floating-point precision.
        validate: Set on which trials are scored, ``dataset.split`` (or ``dataset`` for its ``validation``); empty = the
            validation images of the training set.
        variant: Variant of the method whose score counts; empty = its default.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    method: Name
    dataset: Name
    space: Mapping[Name, tuple[Flag | Integer | Number | Name | None, ...]]
    trials: Count = 20
    seed: Seed = 0
    options: Mapping[Name, Any] = field(default_factory=dict)
    overrides: Mapping[Name, Any] = field(default_factory=dict)
    precision: Name = "auto"
    validate: Text = ""
    variant: Text = ""

    def __post_init__(self) -> None:
        """Check the space.

        Raises:
            ConfigError: If it is empty, or a setting is unknown or has no values.
        """
        if not isinstance(self.space, Mapping) or not self.space:
            raise ConfigError("space must map settings to lists of values, for example {lr: [0.001, 0.0001]}")
        known = [f.name for f in dataclasses.fields(Overrides)]
        for name, values in self.space.items():
            if not name.startswith("options.") and name not in known:
                raise unknown_name("setting in space", name, [*known, "options.NAME"])
            if not isinstance(values, list | tuple) or not values:
                raise ConfigError(f"space: {name} is {short(values)}, expected a list of values")
            if len({json.dumps(value) for value in values}) < len(values):
                raise ConfigError(f"space: {name} has a value twice: {short(values)}")

    @classmethod
    def load(cls, file: Path) -> SearchSpec:
        """Read a search file; if a bare name does not exist here, use the file of that name in nucbench.

        Raises:
            ConfigError: If the file is missing, is not a YAML mapping, or has an unknown or missing key.
        """
        path, content = read_mapping(file, ("method", "dataset", "space"), "search")
        plan = check(cls, content, str(path), ConfigError)
        with named(path):
            plan.check()
        return plan

    def check(self) -> None:
        """Check every value before the first training, each combined with the first values of the other settings.

        Raises:
            ConfigError: If a name, split or value is unknown or has a wrong type.
        """
        Overrides.read(self.overrides)
        first = self.combination(0)
        for name, values in self.space.items():
            for value in values:
                spec = self.run({**first, name: value})
                check_options(method_class(spec.method), spec.options)
        for target in (*spec.training_sets, *filter(None, [spec.validation_set])):
            target.check()
        variants = {variant.key for variant in method_class(self.method).card.variants}
        if self.variant and self.variant not in variants:
            raise unknown_name(f"variant of {self.method}", self.variant, variants)

    def run(self, chosen: Mapping[str, Any]) -> RunSpec:
        """Return the run of one combination of settings."""
        options, overrides = dict(self.options), dict(self.overrides)
        for name, value in chosen.items():
            prefix, _, option = name.partition("options.")
            if prefix:
                overrides[name] = value
            else:
                options[option] = value
        return RunSpec(
            self.method,
            self.dataset,
            protocol="strict",
            seed=self.seed,
            precision=self.precision,
            options=options,
            overrides=Overrides.read(overrides),
            validate=self.validate,
        )

    @property
    def size(self) -> int:
        """Number of combinations; they are never listed, because a small file can define billions."""
        return math.prod(map(len, self.space.values()))

    def combination(self, number: int) -> dict[str, Any]:
        """Return a combination by its number from 0, in the order of the file; the last setting varies fastest."""
        chosen = {}
        for name, values in reversed(list(self.space.items())):
            number, place = divmod(number, len(values))
            chosen[name] = values[place]
        return {name: chosen[name] for name in self.space}

    def combinations(self) -> Iterator[dict[str, Any]]:
        """Yield all combinations of the space, in the order of the file."""
        return map(self.combination, range(self.size))

    @property
    def name(self) -> str:
        """Name of the study: method, dataset and a hash of everything but the number of trials."""
        content = dataclasses.asdict(dataclasses.replace(self, trials=0))
        if not self.variant:
            del content["variant"]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
        return f"{self.method}-{self.dataset}-{digest}"


def run_search(file: Path, machine: Machine, *, dry_run: bool) -> int:
    """Search until the number of trials of the file is done; earlier trials count.

    The study is stored in ``search/<name>.journal`` in the runs folder. Every step is appended to that file, so that a
    killed search resumes with the interrupted trial, whose run continues from its checkpoint. No combination is tried
    twice. Only one process can work on a study at a time.

    Returns:
        0 if every trial has a score, 1 otherwise.
    """
    plan = SearchSpec.load(file)
    wanted = min(plan.trials, plan.size)
    if dry_run:
        print(f"{wanted} of {plan.size} combinations of {', '.join(plan.space)}, scored on the validation images of")
        judges, tried = plan.validate or plan.dataset, _stored_trials(plan, machine.runs)
        print(f"{judges}; the study {plan.name} has {tried} trials so far")
        return 0
    journal = _journal(plan, machine.runs)
    with held(journal.with_name(f".{plan.name}"), "working on the search of"):
        drop_torn_line(journal)
        study = open_study(plan, journal)
        _take_up_again(study)
        while _settled(study) < wanted:
            _one_trial(study, plan, machine)
        _write_result(study, plan, machine.runs)
        return _print(study, plan, journal)


class _NoLock:
    """No lock: `run_search` locks the whole study, and Optuna's lock would remain after a kill."""

    def acquire(self) -> bool:
        """Do nothing."""
        return True

    def release(self) -> None:
        """Do nothing."""


def drop_torn_line(journal: Path) -> None:
    """Remove the last line of a journal if it is incomplete because its writer was killed."""
    if not journal.is_file():
        return
    with journal.open("r+b") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)


def open_study(plan: SearchSpec, journal: Path) -> optuna.Study:
    """Open or create the study of a search; the caller must hold its lock.

    Args:
        plan: The search.
        journal: File of the study.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal.parent.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal), lock_obj=_NoLock()))  # type: ignore[arg-type]
    # a resumed search must not repeat the first random choices: the number of trials changes the seed
    done = len(study.trials) if (study := _existing(storage, plan)) else 0
    sampler = optuna.samplers.TPESampler(seed=(plan.seed + done) % (LARGEST_SEED + 1), n_startup_trials=10)
    return optuna.create_study(
        study_name=plan.name, storage=storage, sampler=sampler, direction="maximize", load_if_exists=True
    )


def _existing(storage: optuna.storages.BaseStorage, plan: SearchSpec) -> optuna.Study | None:
    import optuna

    names = [summary.study_name for summary in optuna.get_all_study_summaries(storage)]
    return optuna.load_study(study_name=plan.name, storage=storage) if plan.name in names else None


def _journal(plan: SearchSpec, runs: Path) -> Path:
    return runs / "search" / f"{plan.name}.journal"


def _stored_trials(plan: SearchSpec, runs: Path) -> int:
    """Count the trials of a study; reads a copy of its journal, since another process may be working on it."""
    journal = _journal(plan, runs)
    if not journal.exists():
        return 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copy(journal, folder))
        drop_torn_line(copy)
        return len(open_study(plan, copy).trials)


def _take_up_again(study: optuna.Study) -> None:
    """Queue the trials that a killed process left running; their runs resume from the last checkpoint.

    This never counts as a failure. Trials are queued before they are closed, so that a kill between the two steps loses
    none.
    """
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        if trial.params:
            study.enqueue_trial(trial.params)
        study.tell(trial.number, state=TrialState.PRUNED)


def _settled(study: optuna.Study) -> int:
    """Count the distinct combinations that have a score or failed."""
    from optuna.trial import TrialState

    settled = {_key(t.params) for t in study.trials if t.state in (TrialState.COMPLETE, TrialState.FAIL)}
    waiting = {_key(t.system_attrs.get("fixed_params", {})) for t in study.trials if t.state == TrialState.WAITING}
    return len(settled - waiting)


def _key(chosen: Mapping[str, Any]) -> str:
    return json.dumps(chosen, sort_keys=True)


def _one_trial(study: optuna.Study, plan: SearchSpec, machine: Machine) -> None:
    """Train and score one combination; if it was tried before, queue an untried one instead.

    Raises:
        BusyError: If another process is working on the run of the combination; the next command tries it again.
    """
    from optuna.trial import TrialState

    from benchmark.runs.run import execute

    trial = study.ask()
    queued = "fixed_params" in study.trials[trial.number].system_attrs
    chosen = {name: trial.suggest_categorical(name, list(values)) for name, values in plan.space.items()}
    closed = {TrialState.COMPLETE} if queued else {TrialState.COMPLETE, TrialState.FAIL}
    tried = {_key(t.params) for t in study.trials if t.state in closed}
    if _key(chosen) in tried:
        study.tell(trial, state=TrialState.PRUNED)
        untried = next((c for c in plan.combinations() if _key(c) not in tried), None)
        if untried is not None:
            study.enqueue_trial(untried)
        return
    spec = plan.run(chosen)
    print(f"trial {_settled(study) + 1}: {_text(chosen)} -> {spec.run_id}", flush=True)
    try:
        score = validation_score(execute(spec, [], machine, plan.name).store, plan.variant)
        if not math.isfinite(score):
            raise DataError(f"the score on the validation images is {score}")
    except BusyError:
        raise
    except Exception as error:  # one failing trial never stops the search
        study.tell(trial, state=TrialState.FAIL)
        print(f"failed: {error}", flush=True)
        return
    study.tell(trial, score)


def validation_score(store: RunStore, variant: str = "") -> float:
    """Return the best score of a variant of a finished run on the validation images; empty = default variant."""
    fitted = read_json(store.params_file)
    judged = fitted[variant] if variant else next(iter(fitted.values()))
    return max(float(trial["score"]) for trial in judged["trials"])


def _write_result(study: optuna.Study, plan: SearchSpec, runs: Path) -> None:
    """Write the selection to ``search/<name>.json`` for `nucbench publish`; nothing if all trials failed."""
    from optuna.trial import TrialState

    complete = study.get_trials(states=(TrialState.COMPLETE,))
    if not complete:
        return
    best = max(complete, key=lambda trial: trial.value or 0.0)
    run = plan.run(best.params)
    fitted = read_json(RunStore(runs, run.run_id).params_file)
    content = {
        "format": FORMAT,
        "study": plan.name,
        "method": plan.method,
        "dataset": plan.dataset,
        "trials": len({_key(trial.params) for trial in complete}),
        "combinations": plan.size,
        "score": best.value,
        "settings": best.params,
        "params": {variant: entry["params"] for variant, entry in fitted.items()},
        "options": dict(plan.options),
        "overrides": dict(plan.overrides),
        "run": run.run_id,
    }
    path = _journal(plan, runs).with_suffix(".json")
    write_json(path, content)
    print(f"selected: {path}; add it to the tables with: nucbench publish {path}")


def _print(study: optuna.Study, plan: SearchSpec, journal: Path) -> int:
    from optuna.trial import TrialState

    complete = sorted(study.get_trials(states=(TrialState.COMPLETE,)), key=lambda t: -(t.value or 0.0))
    for trial in complete:
        print(f"{trial.value:.4f}  {_text(trial.params)}  {plan.run(trial.params).run_id}")
    failed = {json.dumps(t.params) for t in study.get_trials(states=(TrialState.FAIL,))}
    failed -= {json.dumps(t.params) for t in complete}
    if failed:
        print(f"{len(failed)} combinations failed: {', '.join(sorted(failed))}")
        print(f"To try them again, delete {journal} and repeat the command; finished trainings are not repeated.")
    return 1 if failed else 0


def _text(chosen: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in chosen.items())
