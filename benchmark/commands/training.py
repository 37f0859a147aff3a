"""Commands that train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmark.commands.common import Mirror, Precision, Protocol, filled, mirrored
from benchmark.results.spec import Overrides
from benchmark.sweeps.slurm_options import Executor, SlurmOptions


def run(
    method: str,
    dataset: str,
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
    devices: int = 1,
    workers: int | None = None,
    compile: bool = False,
    wandb: Mirror | None = None,
    tensorboard: bool = False,
    data: Path | None = None,
    runs: Path | None = None,
    progress: bool = True,
) -> None:
    """Train a method on a dataset, tune it, predict and score whole images, and store the run.

    Stored results are not computed again: run the same command to resume after an interruption, or with other sets in
    --evaluate to also score the trained run on those. Settings default to those of the method's paper.

    Args:
        method: Method to train (see `nucbench list methods`).
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
        precision: Floating-point precision; auto: bf16 if the hardware supports it, else 16-bit on GPUs, 32-bit on
            CPUs.
        overrides: Training settings that replace those of the recipe.
        devices: Number of GPUs.
        workers: Processes that draw training samples and decode predictions; default: depends on the number of cores.
        compile: Compile the network for inference with torch.compile; worthwhile for many images of one size.
        wandb: Mirror the run to Weights & Biases; offline writes files to the run directory for a later `wandb sync`.
            Results are stored in the run directory in any case. Default: WANDB_MODE, else offline.
        tensorboard: Write losses, scores and pictures for TensorBoard to logs/tensorboard in the run directory.
        data: Folder with one folder per dataset; default: NUCBENCH_DATA or data.
        runs: Folder of all runs; default: NUCBENCH_RUNS or runs.
        progress: Hide progress bars.
    """
    from benchmark.host.machine import Machine
    from benchmark.results.spec import RunSpec, Target
    from benchmark.runs.result import print_result
    from benchmark.runs.run import execute

    further = tuple(also or ())
    spec = RunSpec(
        method,
        dataset,
        split=train_split,
        protocol=protocol,
        seed=seed,
        precision=precision,
        options=options or {},
        overrides=overrides,
        also=further,
        validate=validate,
    )
    targets = [Target.parse(text) for text in evaluate or [dataset]]
    machine = Machine(
        filled(data),
        filled(runs),
        devices=devices,
        workers=workers,
        progress=progress,
        compile=compile,
        wandb=mirrored(wandb),
        tensorboard=tensorboard,
    )
    print_result(execute(spec, targets, machine))


def sweep(
    file: Path,
    *,
    executor: Executor = "inline",
    processes: int | None = None,
    slurm: SlurmOptions | None = None,
    retry_failed: bool = False,
    dry_run: bool = False,
    wandb: Mirror | None = None,
    tensorboard: bool = False,
    data: Path | None = None,
    runs: Path | None = None,
    progress: bool = True,
) -> int:
    """Run every combination in a sweep file; skip finished runs and continue after failures.

    A sweep file is YAML with lists of methods, datasets and seeds, the protocol, the sets to evaluate on, settings as
    in `nucbench run` (ignored for methods without training), `folds: true` for leave-one-patient-out, `cases` (sets
    of changes; the sweep is repeated with each) and `paper` (training length of each method in the paper). Files
    shipped with nucbench are given by name without a folder (demo.yaml).

    Args:
        file: Sweep file.
        executor: Where to run: one run after another in this process (inline), in separate processes on this machine
            (local; one per GPU), or as a job array on a cluster (slurm).
        processes: Parallel runs with --executor local; default: one per GPU, or one without GPUs.
        slurm: Resources for --executor slurm, for example --slurm.partition gpu --slurm.minutes 600 --slurm.gpus 1.
        retry_failed: Repeat failed runs; by default they are only listed.
        dry_run: Only print the runs, their state, their optimiser steps and those of the paper, and the estimated time.
        wandb: Mirror each run to Weights & Biases, in one group; see `nucbench run`. Default: WANDB_MODE, else offline.
        tensorboard: Write losses, scores and pictures for TensorBoard to logs/tensorboard in each run directory.
        data: Folder with one folder per dataset; default: NUCBENCH_DATA or data.
        runs: Folder of all runs; default: NUCBENCH_RUNS or runs.
        progress: Hide progress bars.
    """
    from benchmark.host.machine import Machine
    from benchmark.sweeps.sweep import run_sweep

    machine = Machine(filled(data), filled(runs), progress=progress, wandb=mirrored(wandb), tensorboard=tensorboard)
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
    wandb: Mirror | None = None,
    tensorboard: bool = False,
    data: Path | None = None,
    runs: Path | None = None,
    progress: bool = True,
) -> int:
    """Search hyper-parameters with Optuna; each trial is a run under protocol strict, scored on validation images.

    A search file is YAML with method, dataset, space (setting -> values), number of trials, and settings as in
    `nucbench run`; `validate` names another dataset whose validation images are used. Run the same command to
    resume after an interruption. Files shipped with nucbench are given by name without a folder (dist-search.yaml).

    Args:
        file: Search file.
        dry_run: Only print the planned search.
        wandb: Mirror each run to Weights & Biases, in one group; see `nucbench run`. Default: WANDB_MODE, else offline.
        tensorboard: Write losses, scores and pictures for TensorBoard to logs/tensorboard in each run directory.
        data: Folder with one folder per dataset; default: NUCBENCH_DATA or data.
        runs: Folder of all runs; default: NUCBENCH_RUNS or runs.
        progress: Hide progress bars.
    """
    from benchmark.host.machine import Machine
    from benchmark.sweeps.search import run_search

    machine = Machine(filled(data), filled(runs), progress=progress, wandb=mirrored(wandb), tensorboard=tensorboard)
    return run_search(file, machine, dry_run=dry_run)
