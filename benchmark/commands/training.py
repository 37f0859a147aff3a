"""Commands that train."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

from benchmark.commands.common import Precision, Protocol
from benchmark.host.machine import Machine
from benchmark.results.spec import Overrides
from benchmark.sweeps.slurm_options import Executor, SlurmOptions
from postproc.errors import ConfigError

OnOneDevice = Annotated[Machine, ("data", "runs", "workers", "progress", "compile", "wandb", "tensorboard")]
"""The options of commands that do many runs, each on one GPU."""


def run(
    method: str,
    dataset: str | None = None,
    *,
    protocol: Protocol = "paper",
    seed: int = 0,
    train_split: str = "train",
    also: list[str] | None = None,
    validate: str = "",
    evaluate: list[str] | None = None,
    options: dict[str, Any] | None = None,
    precision: Precision = "auto",
    overrides: Overrides,
    machine: Machine,
) -> None:
    """Train a method on a dataset, tune it, predict and score whole images, and store the run.

    Stored results are not computed again: run the same command to resume after an interruption, or with other sets in
    --evaluate to also score the trained run on those. Settings default to those of the method's paper.

    With a trained model instead of METHOD and without DATASET, nothing is trained: the model is scored on the sets of
    --evaluate. A model folder or name becomes a run with adopted weights in the folder of runs, which `publish` and
    `report` take.

    Args:
        method: Method to train (see `nucbench list methods`); or run directory, folder or name of a model.
        dataset: Dataset to train on (see `nucbench list datasets`).
        protocol: strict: exclude validation images from training and use them to choose the checkpoint and the
            post-processing parameters. paper: all training images, last checkpoint, the parameters of the paper.
        seed: Seed of initialisation, crops and augmentation.
        train_split: Training split: a split of the dataset, all, group:A,B or except-group:A,B.
        also: Additional training sets, each DATASET.SPLIT or DATASET.
        validate: Other dataset to validate on with protocol strict: DATASET.SPLIT, or DATASET for its validation
            images. Default: the validation images of the training dataset.
        evaluate: Sets to score, each DATASET.SPLIT, or DATASET for its test split (all images if it has none). Default:
            the training dataset.
        options: Options of the method, for example --options.features 16 (see `nucbench list methods --verbose`).
        precision: Floating-point precision; auto: bf16 where the hardware has it, else 16-bit on GPUs, 32 on CPUs.
        overrides: What is trained differently from the recipe.
        machine: Where things are and how much of this machine to use.
    """
    from benchmark.results.spec import RunSpec, Target

    if dataset is None:
        given = {
            "protocol": protocol, "seed": seed, "train_split": train_split, "also": also or None, "validate": validate,
            "options": options or None, "precision": precision,
        }  # fmt: skip
        usual = inspect.signature(run).parameters
        untouched = overrides == Overrides() and all(value == usual[name].default for name, value in given.items())
        _score_model(method, evaluate, machine, untouched=untouched)
        return
    spec = RunSpec(
        method,
        dataset,
        split=train_split,
        protocol=protocol,
        seed=seed,
        precision=precision,
        options=options or {},
        overrides=overrides,
        also=tuple(also or ()),
        validate=validate,
    )
    targets = [Target.parse(text) for text in evaluate or [dataset]]
    from benchmark.runs.result import print_result
    from benchmark.runs.run import execute  # after the check of names, since importing torch takes seconds

    print_result(execute(spec, targets, machine))


def _score_model(model: str, evaluate: list[str] | None, machine: Machine, *, untouched: bool) -> None:
    """Score a trained model.

    Args:
        model: Run directory, model folder, or name of a model.
        evaluate: Sets to score.
        machine: Where things are.
        untouched: Whether all settings of a training have their defaults.
    """
    from benchmark.registry import METHODS
    from benchmark.results.known_models import find_model
    from benchmark.results.spec import Target

    if model in METHODS:
        raise ConfigError(f"name the dataset to train {model} on: nucbench run {model} DATASET")
    source = Path(model).expanduser()
    try:
        find_model(source)
    except ConfigError as error:
        raise ConfigError(f"{error} To train a method, name a dataset too: nucbench run METHOD DATASET.") from None
    if not evaluate:
        raise ConfigError(f"{model} is trained; name the sets to score it on: nucbench run {model} --evaluate kumar")
    if not untouched:
        raise ConfigError(f"{model} is trained, so only --evaluate and options of the machine apply; leave others out")
    targets = [Target.parse(text) for text in evaluate]
    from benchmark.runs.evaluate_trained import evaluate_trained
    from benchmark.runs.result import print_result

    print_result(evaluate_trained(source, targets, machine))


def sweep(
    file: Path,
    *,
    executor: Executor = "inline",
    processes: int | None = None,
    slurm: SlurmOptions,
    retry_failed: bool = False,
    dry_run: bool = False,
    machine: OnOneDevice,
) -> int:
    """Run every combination in a sweep file; skip finished runs and continue after failures.

    A sweep file is YAML with lists of methods, datasets and seeds, the protocol, the sets to evaluate on, settings as
    in `nucbench run` (ignored for methods without training), `folds: true` for leave-one-patient-out, `cases` (sets
    of changes; the sweep is repeated with each) and `paper` (training length of each method in the paper). Files
    shipped with nucbench are given by name without a folder (demo.yaml).

    Args:
        file: Sweep file.
        executor: How to execute the runs: one after the other in this process (inline), in separate processes on this
            machine (local; one per GPU), or as an array of jobs on a cluster (slurm).
        processes: Number of parallel runs with --executor local; default: one per GPU, or one without a GPU.
        slurm: Resources for --executor slurm, for example --slurm.partition gpu --slurm.minutes 600 --slurm.gpus 1.
        retry_failed: Repeat all failed runs. Without it, only those are repeated whose input was missing or wrong.
        dry_run: Only print the plan: state, optimiser steps, the paper's steps and the estimated time of each run, and
            missing datasets (exit status 1).
        machine: Where things are and how much of this machine to use.
    """
    from benchmark.sweeps.sweep import run_sweep

    return run_sweep(
        file,
        machine,
        executor=executor,
        processes=processes,
        slurm=slurm,
        retry_failed=retry_failed,
        dry_run=dry_run,
    )


def search(
    file: Path,
    *,
    dry_run: bool = False,
    machine: OnOneDevice,
) -> int:
    """Search hyper-parameters with Optuna; each trial is a run under protocol strict, scored on validation images.

    A search file is YAML with method, dataset, space (setting -> values), number of trials, and settings as in
    `nucbench run`; `validate` names another dataset whose validation images are used. Run the same command to
    resume after an interruption. Files shipped with nucbench are given by name without a folder (dist-search.yaml).

    Args:
        file: Search file.
        dry_run: Only print what would be searched.
        machine: Where things are and how much of this machine to use.
    """
    from benchmark.sweeps.search import run_search

    return run_search(file, machine, dry_run=dry_run)
