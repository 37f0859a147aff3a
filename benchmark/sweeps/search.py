"""Hyper-parameter search with Optuna: each trial is a run under protocol ``strict``, judged on validation images."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.host.files import read_json, write_json
from benchmark.host.machine import Machine
from benchmark.options import check_options
from benchmark.registry import method_class
from benchmark.results.spec import FORMAT, Overrides, RunSpec
from benchmark.results.store import RunStore
from benchmark.sweeps.spec import read_mapping
from postproc.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    import optuna


RETRIES = 3
"""How often a trial that was cut off is taken up again before it counts as failed."""


@dataclass(frozen=True)
class SearchSpec:
    """What a search file says.

    Attributes:
        method: Method to train.
        dataset: Training set.
        space: Setting -> values to choose from. A setting is a recipe setting of `nucbench run` (``lr``) or
            ``options.NAME`` for an option of the method.
        trials: Trainings in all; never more than there are combinations.
        seed: Of the sampler and of every run.
        options: Options of all trials.
        overrides: Recipe settings of all trials.
        precision: Floating-point precision.
        validate: What the trials are judged on, ``dataset.split`` (or ``dataset``: its ``validation``); empty = the
            validation images of the training set.
        variant: Variant of the method that the trials are judged by; empty = its default.
    """

    method: str
    dataset: str
    space: Mapping[str, tuple[Any, ...]]
    trials: int = 20
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    precision: str = "auto"
    validate: str = ""
    variant: str = ""

    def __post_init__(self) -> None:
        """Check the space.

        Raises:
            ConfigError: If it is empty, or a setting has no values or no known name.
        """
        if not isinstance(self.space, Mapping) or not self.space:
            raise ConfigError("space must map settings to lists of values, for example {lr: [0.001, 0.0001]}")
        known = [f.name for f in dataclasses.fields(Overrides)]
        for name, values in self.space.items():
            if not name.startswith("options.") and name not in known:
                raise unknown_name("setting in space", name, [*known, "options.NAME"])
            if not isinstance(values, list | tuple) or not values:
                raise ConfigError(f"space: {name} is {values!r}, expected a list of values")

    @classmethod
    def load(cls, file: Path) -> SearchSpec:
        """Read a search file; a bare name that is no file here is looked up among those of nucbench.

        Raises:
            ConfigError: If the file is missing, no YAML mapping, or has an unknown or missing key.
        """
        path, content = read_mapping(file, ("method", "dataset", "space"))
        fields = {f.name for f in dataclasses.fields(cls)}
        for key in content:
            if key not in fields:
                raise unknown_name(f"key of {path.name}", str(key), fields)
        return cls(**content)

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

    def combinations(self) -> list[dict[str, Any]]:
        """Return every combination of the space, in the order of the file."""
        return [dict(zip(self.space, values, strict=True)) for values in itertools.product(*self.space.values())]

    @property
    def name(self) -> str:
        """Name of the study: method, dataset and a hash of everything but the number of trials."""
        content = dataclasses.asdict(dataclasses.replace(self, trials=0))
        if not self.variant:
            del content["variant"]
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
        return f"{self.method}-{self.dataset}-{digest}"


def run_search(file: Path, machine: Machine, *, dry_run: bool) -> int:
    """Search until the file's number of trials is done; what was done before is kept.

    The study lies in ``search/<name>.journal`` below the runs folder. Every step is appended to that file, so that
    it survives a kill; the trial that was cut off is taken up again, and its run resumes. Nothing is tried twice.

    Returns:
        0 if every trial gave a score, 1 otherwise.
    """
    plan = SearchSpec.load(file)
    combinations = plan.combinations()
    wanted = min(plan.trials, len(combinations))
    variants = {variant.key for variant in method_class(plan.method).card.variants}
    if plan.variant and plan.variant not in variants:
        raise unknown_name(f"variant of {plan.method}", plan.variant, variants)
    for chosen in combinations:  # every name and value is checked before the first training
        check_options(method_class(plan.method), plan.run(chosen).options)
    if dry_run:
        print(f"{wanted} of {len(combinations)} combinations of {', '.join(plan.space)} on the validation images of")
        judges, tried = plan.validate or plan.dataset, _stored_trials(plan, machine.runs)
        print(f"{judges}; the study {plan.name} has {tried} trials so far")
        return 0
    study = open_study(plan, machine.runs)
    _take_up_again(study)
    while _settled(study) < wanted:
        _one_trial(study, plan, machine)
    _write_result(study, plan, machine.runs)
    return _print(study, plan, _journal(plan, machine.runs))


def open_study(plan: SearchSpec, runs: Path) -> optuna.Study:
    """Open or create the study of a search."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = _journal(plan, runs)
    path.parent.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    # a killed process must not repeat the choices of the first trials: their number moves the seed
    done = len(study.trials) if (study := _existing(storage, plan)) else 0
    sampler = optuna.samplers.TPESampler(seed=plan.seed + done, n_startup_trials=10)
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
    return len(open_study(plan, runs).trials) if _journal(plan, runs).exists() else 0


def _take_up_again(study: optuna.Study) -> None:
    """Queue the trials that a killed process left running; their runs resume from the last checkpoint."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        cut_off = [t for t in study.trials if t.params == trial.params and t.state == TrialState.FAIL]
        if len(cut_off) <= RETRIES:
            study.enqueue_trial(trial.params)


def _settled(study: optuna.Study) -> int:
    """Count the different combinations that have a score or have failed for good."""
    from optuna.trial import TrialState

    waiting = {json.dumps(t.system_attrs.get("fixed_params", {}), sort_keys=True) for t in study.trials
               if t.state == TrialState.WAITING}  # fmt: skip
    tried = {json.dumps(t.params, sort_keys=True) for t in study.trials if t.state.is_finished()}
    return len(tried - waiting)


def _one_trial(study: optuna.Study, plan: SearchSpec, machine: Machine) -> None:
    """Train and judge one combination; a combination that was drawn before gives way to an untried one."""
    from optuna.trial import TrialState

    from benchmark.runs.run import execute

    trial = study.ask()
    chosen = {name: trial.suggest_categorical(name, list(values)) for name, values in plan.space.items()}
    others = [t for t in study.trials if t.state == TrialState.COMPLETE]
    if any(t.params == chosen for t in others):
        tried = [t.params for t in study.trials if t.state.is_finished()]
        study.tell(trial, state=TrialState.PRUNED)
        untried = next((c for c in plan.combinations() if c not in tried), None)
        if untried is not None:
            study.enqueue_trial(untried)
        return
    spec = plan.run(chosen)
    print(f"trial {_settled(study) + 1}: {_text(chosen)} -> {spec.run_id}", flush=True)
    try:
        store = execute(spec, [], machine, plan.name).store
    except Exception as error:  # one failing trial never stops the search
        study.tell(trial, state=TrialState.FAIL)
        print(f"failed: {error}", flush=True)
        return
    study.tell(trial, validation_score(store, plan.variant))


def validation_score(store: RunStore, variant: str = "") -> float:
    """Return the best score of a variant of a finished run on the validation images; empty = its default."""
    fitted = read_json(store.params_file)
    judged = fitted[variant] if variant else next(iter(fitted.values()))
    return max(float(trial["score"]) for trial in judged["trials"])


def _write_result(study: optuna.Study, plan: SearchSpec, runs: Path) -> None:
    """Write what was selected to ``search/<name>.json``, which `nucbench publish` takes; nothing where all failed."""
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
        "trials": len({json.dumps(trial.params, sort_keys=True) for trial in complete}),
        "combinations": len(plan.combinations()),
        "score": best.value,
        "settings": best.params,
        "params": {variant: entry["params"] for variant, entry in fitted.items()},
        "options": dict(plan.options),
        "overrides": dict(plan.overrides),
        "run": run.run_id,
    }
    path = _journal(plan, runs).with_suffix(".json")
    write_json(path, content)
    print(f"selected: {path}; nucbench publish {path} puts it into the tables")


def _print(study: optuna.Study, plan: SearchSpec, journal: Path) -> int:
    from optuna.trial import TrialState

    complete = sorted(study.get_trials(states=(TrialState.COMPLETE,)), key=lambda t: -(t.value or 0.0))
    for trial in complete:
        print(f"{trial.value:.4f}  {_text(trial.params)}  {plan.run(trial.params).run_id}")
    failed = {json.dumps(t.params) for t in study.get_trials(states=(TrialState.FAIL,))}
    failed -= {json.dumps(t.params) for t in complete}
    if failed:
        print(f"{len(failed)} combinations failed: {', '.join(sorted(failed))}")
        print(f"To try them again, delete {journal} and repeat the command. What is trained is not trained again.")
    return 1 if failed else 0


def _text(chosen: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in chosen.items())
