"""Train a method: the phases of its recipe, resumable at the end of any epoch."""

from __future__ import annotations

import logging
import math
import os
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning.loggers import CSVLogger, Logger

from benchmark.balance import type_weights, weighs_loss, window_side
from benchmark.precision import resolve
from benchmark.registry import dataset_class, method_class
from benchmark.spec import RunSpec
from benchmark.store import RunStore, atomic, read_json, write_json
from datamodules.base import Loading, NucleiDataModule
from datamodules.card import DatasetCard
from datamodules.labelled import keep_labels
from datamodules.sample import Sample
from models.base import NucleiMethod, Task
from models.recipe import Phase, Recipe
from postproc.errors import ConfigError, DataError, NucbenchError

# Lightning's advice on loggers, devices and its own internals, repeated by every run of every user.
for name in ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning.trainer.connectors.checkpoint_connector"):
    logging.getLogger(name).setLevel(logging.WARNING)

warnings.filterwarnings("ignore", message="The `srun` command is available")  # advice to all users of a cluster

SAVE_SECONDS = 60.0
"""A checkpoint is written at the end of the first epoch after that many seconds since the last one."""


def build_method(spec: RunSpec, task: Task) -> NucleiMethod:
    """Build the method of a run, seeded, with its options checked against the constructor.

    Raises:
        ConfigError: If an option is unknown or has a wrong type or value.
    """
    from benchmark.options import check_options

    kind = method_class(spec.method)
    options = check_options(kind, spec.options)
    pl.seed_everything(spec.seed, verbose=False)
    method = kind(task, **options)
    return method.to(memory_format=torch.channels_last)


def train(
    spec: RunSpec,
    store: RunStore,
    method: NucleiMethod,
    data: NucleiDataModule,
    *,
    workers: int,
    devices: int,
    loggers: list[Logger] | None = None,
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
        loggers: Lightning loggers beside the CSV file in the run directory.
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
        result = _train_phase(
            spec, store, method, data, recipe, index, minutes, workers, devices, loggers or [], progress
        )
        for key in ("steps", "minutes", "epochs"):
            totals[key] += result[key]
        totals["best_epoch"], totals["val_loss"] = result["best_epoch"], result["val_loss"]
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
    progress: bool,
) -> dict[str, Any]:
    phase = recipe.phases[index]
    result_file = store.checkpoints / f"phase{index}.json"
    weights = store.checkpoints / f"phase{index}.pt"
    if result_file.exists() and weights.exists():
        load_weights(method, weights)
        return read_json(result_file)
    strict = spec.protocol == "strict"
    data.loading = Loading(
        train=method.drawer(recipe, augment=True),
        validation=method.drawer(recipe, augment=False),
        collate=method.collate,
        batch_size=phase.batch_size,
        crops_per_image=recipe.crops_per_image,
        strict=strict,
        split=spec.split,
        seed=spec.seed + 1_000_003 * index,
        workers=workers,
        rank=process_rank(),
        world=devices,
        annotated=method.card.needs != "none",
        choose=partial(choose_images, spec, method),
        window=window_side(spec, recipe),
    )
    method.phase = phase
    if weighs_loss(spec):
        method.type_weights = torch.from_numpy(type_weights(data.training_images(), len(method.task.types)))
    steps_per_epoch = len(data.train_dataloader())
    if steps_per_epoch == 0:
        raise ConfigError(f"batch size {phase.batch_size} over {devices} devices is larger than an epoch")
    keeper = PhaseKeeper(
        spec,
        store,
        data,
        phase,
        index,
        phase.total_steps(steps_per_epoch),
        minutes,
        recipe.patience if strict else None,
        strict,
    )
    trainer = pl.Trainer(
        accelerator="auto",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        use_distributed_sampler=False,  # EpochSampler divides the items itself
        precision=resolve(spec.precision),  # type: ignore[arg-type]  # one of PRECISIONS
        max_steps=keeper.total_steps,
        max_epochs=-1,
        logger=[CSVLogger(str(store.path), name="logs", version=f"phase{index}"), *loggers],
        callbacks=[keeper],
        plugins=_cluster(),  # type: ignore[arg-type]  # a list of one of the kinds that Lightning takes
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=progress,
        gradient_clip_val=recipe.gradient_clip,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
    )
    with warnings.catch_warnings():
        # What Lightning tells every user of every run: about workers, loggers, empty loaders and its own internals.
        warnings.filterwarnings("ignore", module="pytorch_lightning.*")
        trainer.fit(method, datamodule=data, ckpt_path=keeper.resume_from(), weights_only=True)
    if not keeper.finished:
        raise NucbenchError(f"training of {store.run_id} was interrupted; run the same command again to go on")
    if strict and keeper.best_file.exists():
        load_weights(method, keeper.best_file)
    result = {
        "steps": trainer.global_step,
        "minutes": round(keeper.elapsed / 60, 2),
        "epochs": keeper.epochs,
        "best_epoch": keeper.best_epoch,
        "val_loss": keeper.best if strict else None,
    }
    if not process_rank():
        with atomic(weights) as file:
            torch.save(method.state_dict(), file)
        write_json(result_file, result)
    return result


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
    chosen = [sample for sample in labelled if method.learns_from(sample)]
    if not chosen:
        raise DataError(
            f"none of the {len(samples)} training images has what {spec.method} learns from in this phase (nuclei, or "
            "regions: nucbench list methods --verbose); annotate some, or choose other options"
        )
    return chosen


class PhaseKeeper(pl.Callback):
    """Keeps time, progress, checkpoints and the best weights of one phase.

    Checkpoints are written at the end of epochs, and every epoch reseeds itself, so a run that is killed and started
    again takes the same steps as one that was not.

    Args:
        spec: The run.
        store: Its directory.
        data: The training set, told which epoch it is.
        phase: The phase.
        index: Its number.
        total_steps: Optimiser steps of the phase.
        minutes: Time after which the phase ends early; None = never.
        patience: Epochs without a better validation loss after which the phase ends; None = never.
        choose: Keep the weights with the least validation loss.
    """

    def __init__(
        self,
        spec: RunSpec,
        store: RunStore,
        data: NucleiDataModule,
        phase: Phase,
        index: int,
        total_steps: int,
        minutes: float | None,
        patience: int | None,
        choose: bool,
    ) -> None:
        self.total_steps = total_steps
        self.elapsed = 0.0
        self.epochs = 0
        self.steps = 0
        self.best = math.inf
        self.best_epoch = -1
        self.finished = False
        self._seed = spec.seed + 1_000_003 * index
        self._store = store
        self._data = data
        self._data.epoch = 0
        self._phase = phase
        self._limit = None if minutes is None else 60 * minutes
        self._patience = patience
        self._choose = choose
        self._last_tick = self._last_save = time.monotonic()
        self._checkpoint = store.checkpoints / f"phase{index}.ckpt"
        self.best_file = store.checkpoints / f"phase{index}-best.pt"

    def resume_from(self) -> Path | None:
        """Return the checkpoint to go on from, if there is one that can be read."""
        if not self._checkpoint.exists():
            return None
        try:
            torch.load(self._checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:
            raise DataError(
                f"the checkpoint {self._checkpoint} cannot be read ({type(error).__name__}). Delete it to train this "
                "phase from its beginning."
            ) from error
        return self._checkpoint

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know."""
        names = ("elapsed", "epochs", "steps", "best", "best_epoch", "finished")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        for name, value in state_dict.items():
            setattr(self, name, value)
        self._data.epoch = self.epochs

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._last_tick = self._last_save = time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reseed what is random inside the network (dropout)."""
        torch.manual_seed(self._seed * 7919 + trainer.current_epoch)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Tell the method how much of the phase is done."""
        share = trainer.global_step / self.total_steps
        if self._limit is not None:
            share = max(share, self.elapsed / self._limit)
        assert isinstance(pl_module, NucleiMethod)
        pl_module.progress = min(share, 1.0)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count time, stop at the limit, and refuse a loss that is not finite."""
        now = time.monotonic()
        self.elapsed += now - self._last_tick
        self._last_tick = now
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if not torch.isfinite(loss).all():
            raise NucbenchError(
                f"the loss became {float(loss)} at step {trainer.global_step} of {self._store.run_id}. The last good "
                f"checkpoint is kept; try a smaller learning rate (now {self._phase.lr}) or --precision 32-true."
            )
        if self._limit is not None and trainer.strategy.reduce_boolean_decision(self.elapsed >= self._limit, all=False):
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Choose, stop early, save."""
        if trainer.global_step == self.steps:
            return  # Lightning ends the epoch again whose end a resumed run goes on from
        self.steps = trainer.global_step
        self.epochs += 1
        self._data.epoch = self.epochs
        if self._choose:
            self._validate(trainer, pl_module)
        self.finished = trainer.global_step >= self.total_steps or trainer.should_stop
        if self.finished or time.monotonic() - self._last_save >= SAVE_SECONDS:
            partial = self._checkpoint.with_suffix(".part")
            self._checkpoint.parent.mkdir(parents=True, exist_ok=True)
            trainer.save_checkpoint(partial)
            if trainer.is_global_zero:
                partial.replace(self._checkpoint)
            self._last_save = time.monotonic()

    def _validate(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if "val/loss" not in trainer.callback_metrics:
            return  # training stopped inside its first epoch: nothing to choose from, the last weights are kept
        value = trainer.strategy.reduce(trainer.callback_metrics["val/loss"], reduce_op="mean")
        if float(value) < self.best:
            self.best, self.best_epoch = float(value), trainer.current_epoch
            if trainer.is_global_zero:
                with atomic(self.best_file) as file:
                    torch.save(module.state_dict(), file)
        elif self._patience is not None and trainer.current_epoch - self.best_epoch >= self._patience:
            trainer.should_stop = True


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
    usual = 10 / card.magnification if card.magnification else None
    return Task(card.types, card.mpp or usual)
