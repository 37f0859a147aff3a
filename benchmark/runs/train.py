"""Train a method: the phases of its recipe, resumable between any two steps."""

from __future__ import annotations

import logging
import math
import os
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning.loggers import Logger

from benchmark.host import signals
from benchmark.host.files import atomic, read_json, write_json
from benchmark.host.precision import resolve
from benchmark.mirrors.training import log_interval, watch
from benchmark.registry import dataset_class, method_class
from benchmark.results.spec import LOSS, RunSpec
from benchmark.results.store import RunStore
from benchmark.runs.balance import type_weights, weighs_loss, window_side
from benchmark.runs.phase_keeper import AtomicCheckpointIO, PhaseKeeper
from benchmark.runs.validation import ValidationScores, rounds_every
from benchmark.runs.weight_average import WeightAverage
from datamodules.base import NucleiDataModule
from datamodules.drawing.labelled import keep_labels
from datamodules.reading.card import DatasetCard
from datamodules.reading.sample import Sample
from models.base.method import NucleiMethod, Task
from models.base.recipe import Recipe
from postproc.errors import ConfigError, DataError, NucbenchError

if TYPE_CHECKING:
    from benchmark.mirrors.run import Mirror

# Lightning's advice on loggers, devices and its own internals, repeated by every run of every user.
for name in ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning.trainer.connectors.checkpoint_connector"):
    logging.getLogger(name).setLevel(logging.WARNING)

warnings.filterwarnings("ignore", message="The `srun` command is available")  # advice to all users of a cluster


def build_method(spec: RunSpec, task: Task) -> NucleiMethod:
    """Build the method of a run, seeded, with its options checked against the constructor.

    Raises:
        ConfigError: If an option is unknown or has a wrong type or value.
    """
    from benchmark.options import check_options

    kind = method_class(spec.method)
    options = check_options(kind, spec.options)
    pl.seed_everything(spec.seed, verbose=False)
    try:
        method = kind(task, **options)
    except NucbenchError:
        raise
    except Exception as error:  # of whatever library fails over a value, such as no features at all
        given = ", ".join(f"{name}={value!r}" for name, value in options.items())
        raise ConfigError(f"{spec.method} cannot be built with the options {given or '(none)'}: {error}") from error
    return method.to(memory_format=torch.channels_last)


def train(
    spec: RunSpec,
    store: RunStore,
    method: NucleiMethod,
    data: NucleiDataModule,
    *,
    workers: int,
    devices: int,
    mirror: Mirror | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Train all phases that are not done, and leave the weights in `store.weights_file`.

    Args:
        spec: The run.
        store: Its directory.
        method: Freshly built; holds the final weights afterwards.
        data: The training set.
        workers: Processes that draw training items.
        devices: GPUs (or CPU processes) that train together.
        mirror: Shows the training elsewhere too.
        progress: Show a progress bar.

    Returns:
        Steps, minutes, loss and epoch of the chosen weights.

    Raises:
        NucbenchError: If the loss is not finite.
    """
    done_file = store.checkpoints / "done.json"
    if done_file.exists() and store.weights_file.exists():
        load_weights(method, store.weights_file)
        return read_json(done_file)
    recipe = spec.overrides.applied_to(method.recipe)
    budget = spec.overrides.max_minutes
    lengths = [float(phase.epochs or phase.steps or 0) for phase in recipe.phases]
    totals: dict[str, Any] = {"steps": 0, "minutes": 0.0, "epochs": 0}
    for index in range(len(recipe.phases)):
        minutes = None if budget is None else budget * lengths[index] / sum(lengths)
        loggers, callbacks = mirror.phase(index, totals["steps"]) if mirror else watch(store.path, index)
        result = _train_phase(
            spec, store, method, data, recipe, index, minutes, workers, devices, loggers, callbacks, progress
        )
        for key in ("steps", "minutes", "epochs"):
            totals[key] += result[key]
        totals |= {name: value for name, value in result.items() if name == "best_epoch" or name.startswith("val_")}
    totals["parameters"] = sum(p.numel() for p in method.parameters())
    if process_rank():
        return totals
    with atomic(store.weights_file) as file:
        torch.save(method.state_dict(), file)
    write_json(done_file, totals)
    for path in store.checkpoints.glob("phase*.ckpt"):
        path.unlink()
    return totals


def load_weights(method: NucleiMethod, path: Path) -> None:
    """Load weights that a run saved; nothing but tensors is read.

    Raises:
        DataError: If the file is truncated or belongs to another network.
    """
    try:
        method.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        raise DataError(f"cannot load the weights {path}: {error}") from error


def _train_phase(
    spec: RunSpec,
    store: RunStore,
    method: NucleiMethod,
    data: NucleiDataModule,
    recipe: Recipe,
    index: int,
    minutes: float | None,
    workers: int,
    devices: int,
    loggers: list[Logger],
    callbacks: list[pl.Callback],
    progress: bool,
) -> dict[str, Any]:
    phase = recipe.phases[index]
    result_file = store.checkpoints / f"phase{index}.json"
    weights = store.checkpoints / f"phase{index}.pt"
    if result_file.exists() and weights.exists():
        load_weights(method, weights)
        return read_json(result_file)
    strict = spec.protocol == "strict"
    data.loading = method.loading(
        recipe,
        phase,
        strict=strict,
        split=spec.split,
        seed=spec.seed + 1_000_003 * index,
        workers=workers,
        rank=process_rank(),
        world=devices,
        choose=partial(choose_images, spec, method),
        window=window_side(spec, recipe),
    )
    method.phase = phase
    if weighs_loss(spec):
        method.type_weights = torch.from_numpy(type_weights(data.training_images(), len(method.task.types)))
    steps_per_epoch = len(data.train_dataloader())
    if steps_per_epoch == 0:
        raise ConfigError(f"batch size {phase.batch_size} over {devices} devices is larger than an epoch")
    average = None if recipe.ema is None else WeightAverage(recipe.ema)
    total_steps = phase.total_steps(steps_per_epoch)
    scores = _validation(spec, method, data, rounds_every(total_steps, steps_per_epoch)) if strict else None
    keeper = PhaseKeeper(
        spec,
        store,
        data,
        phase,
        index,
        total_steps,
        minutes,
        recipe.patience if strict else None,
        strict,
        average,
        scores,
    )
    trainer = pl.Trainer(
        accelerator="auto",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        use_distributed_sampler=False,  # EpochSampler divides the items itself
        precision=resolve(spec.precision),  # type: ignore[arg-type]  # one of PRECISIONS
        max_steps=keeper.total_steps,
        max_epochs=-1,
        logger=loggers,
        # scored before the average is taken out again, which moves before the keeper saves
        callbacks=[each for each in (scores, average, keeper) if each is not None] + callbacks,
        plugins=[AtomicCheckpointIO(), *_cluster()],
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=progress,
        gradient_clip_val=recipe.gradient_clip,
        num_sanity_val_steps=0,
        # Lightning validates at the end of an epoch; a phase that is shorter than one would end without
        val_check_interval=total_steps if strict and total_steps < steps_per_epoch else 1.0,
        log_every_n_steps=log_interval(keeper.total_steps),
    )
    with warnings.catch_warnings(), signals.between_steps():
        # What Lightning tells every user of every run: about workers, loggers, empty loaders and its own internals.
        warnings.filterwarnings("ignore", module="pytorch_lightning.*")
        trainer.fit(method, datamodule=data, ckpt_path=keeper.resume_from(), weights_only=True)
    if not keeper.finished:
        raise NucbenchError(f"training of {store.run_id} was interrupted; run the same command again to go on")
    if average is not None:
        average.apply(method)
    if strict and keeper.best_file.exists():
        load_weights(method, keeper.best_file)
    best = keeper.best if math.isfinite(keeper.best) else None  # not finite: cut short before the first validation
    result = {
        "steps": trainer.global_step,
        "minutes": round(keeper.elapsed / 60, 2),
        "epochs": keeper.epochs,
        "best_epoch": keeper.best_epoch,
        "val_loss": best if strict and keeper.monitor == LOSS else None,
    } | ({f"val_{keeper.monitor}": best} if keeper.monitor != LOSS else {})
    if not process_rank():
        with atomic(weights) as file:
            torch.save(method.state_dict(), file)
        write_json(result_file, result)
    return result


def _validation(spec: RunSpec, method: NucleiMethod, data: NucleiDataModule, every: int) -> ValidationScores:
    """Return what scores the validation images of a run after every `every`-th epoch."""
    card = (data.validation_set or (data, ""))[0].card
    return ValidationScores(
        data.validation_images(),
        radius=card.radius,
        types=len(method.task.types) if card.types == method.task.types else 0,
        magnification=data.training_magnification(spec.split),
        precision=spec.precision,
        every=every,
    )


def _cluster() -> list[ClusterEnvironment]:
    """Return what keeps Lightning from taking a job of a cluster for one process of several that the cluster started.

    A job of a sweep is one task, which starts processes for further GPUs itself. Lightning would also queue the job
    again on its own when the time limit comes near, beside what the sweep does.
    """
    alone = SLURMEnvironment.detect() and os.environ.get("SLURM_NTASKS", "1") == "1"
    return [LightningEnvironment()] if alone else []


def choose_images(spec: RunSpec, method: NucleiMethod, samples: list[Sample]) -> list[Sample]:
    """Return the images that the current phase learns from, with the labels that the run may use.

    Raises:
        DataError: If there is none.
    """
    share = spec.overrides.label_share
    labelled = samples if share is None else keep_labels(samples, share, spec.seed)
    chosen = method.choose(labelled)
    if not chosen:
        raise DataError(
            f"none of the {len(samples)} training images has what {spec.method} learns from in this phase (nuclei, or "
            "regions: nucbench list methods --verbose); annotate some, or choose other options"
        )
    return chosen


def process_rank() -> int:
    """Return this process' number among those that train together; Lightning and launchers set it."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))


def task_of(spec: RunSpec, card: DatasetCard | None = None) -> Task:
    """Return what the training set asks of a network.

    Args:
        spec: The run.
        card: Of the training set as it was opened; None = that of its class, which lacks what a user's own set states.
    """
    card = card or dataset_class(spec.dataset).card
    return Task.of_card(card)
