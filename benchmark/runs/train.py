"""Train the phases of a method's recipe, resumable between any two steps."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
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
from benchmark.results.run import Run
from benchmark.results.spec import RunSpec
from benchmark.results.store import RunStore
from benchmark.runs.announcement import Announcement
from benchmark.runs.balance import type_weights, weighs_loss, window_side
from benchmark.runs.phase_keeper import SEED_STEP, AtomicCheckpointIO, PhaseKeeper
from benchmark.runs.progress_bar import ProgressBar
from datamodules.drawing.labelled import keep_labels
from datamodules.drawing.loading import Loading
from datamodules.reading.card import DatasetCard
from datamodules.reading.sample import Sample
from datamodules.sources import Bookmark, TrainingData
from models.base.method import NucleiMethod, Task
from models.base.weight_average import WeightAverage
from models.base.weights import NONE
from postproc.errors import ConfigError, DataError, NucbenchError, short

if TYPE_CHECKING:
    from benchmark.mirrors.mirror import Mirror

DONE = "done.json"
"""File in the folder of checkpoints with the result of a finished training."""

# Lightning's hints on loggers, devices and its internals, repeated in every run.
for name in ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning.trainer.connectors.checkpoint_connector"):
    logging.getLogger(name).setLevel(logging.WARNING)

warnings.filterwarnings("ignore", message="The `srun` command is available")  # a hint to all users of a cluster


def build_method(spec: RunSpec, task: Task) -> NucleiMethod:
    """Build the method of a run with a fixed seed, after checking its options against the constructor.

    Raises:
        ConfigError: If an option is unknown or has a wrong type or value.
    """
    from benchmark.options import check_options, weight_options

    kind = method_class(spec.method)
    options = check_options(kind, spec.options)
    if spec.parent:
        options |= dict.fromkeys(weight_options(kind), NONE)  # else downloaded and overwritten
    pl.seed_everything(spec.seed, verbose=False)
    try:
        method = kind(task, **options)
    except NucbenchError:
        raise
    except Exception as error:  # any library may fail on a value, such as zero features
        given = ", ".join(f"{name}={value!r}" for name, value in options.items())
        raise ConfigError(f"{spec.method} cannot be built with the options {given or '(none)'}: {error}") from error
    return method.to(memory_format=torch.channels_last)


def train(run: Run, mirror: Mirror | None = None) -> dict[str, Any]:
    """Train all unfinished phases and save the weights to `Run.store`; `Run.method` holds them afterwards.

    Args:
        run: The run, with a newly built method.
        mirror: Mirror of the training, such as W&B.

    Returns:
        Steps, minutes, loss and epoch of the chosen weights.

    Raises:
        NucbenchError: If the loss is not finite.
    """
    store, method = run.store, run.method
    done_file = store.checkpoints / DONE
    if run.spec.overrides.tta and not process_rank():
        _take_weights(run)
    if done_file.exists() and store.weights_file.exists():
        load_weights(method, store.weights_file)
        return read_json(done_file)
    budget, phases = run.spec.overrides.max_minutes, run.recipe.phases
    lengths = [float(phase.epochs or phase.steps or 0) for phase in phases]
    totals: dict[str, Any] = {"steps": 0, "minutes": 0.0, "epochs": 0}
    for index in range(len(phases)):
        minutes = None if budget is None else budget * lengths[index] / sum(lengths)
        watchers = mirror.phase(index, totals["steps"]) if mirror else watch(store.path, index)
        result = _train_phase(run, index, minutes, watchers)
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


def _take_weights(run: Run) -> None:
    """Copy the result of the same training without `Overrides.tta`, which only changes predictions, if it is stored."""
    spec, store = run.spec, run.store
    plain = dataclasses.replace(spec, overrides=dataclasses.replace(spec.overrides, tta=False))
    source = RunStore(store.root, plain.run_id)
    begun = store.checkpoints.exists() and any(store.checkpoints.iterdir())
    if begun or not (source.record_file.exists() and source.weights_file.exists()):
        return
    trained = read_json(source.record_file)["training"]
    if (source.path / "logs").is_dir():
        shutil.copytree(source.path / "logs", store.path / "logs", dirs_exist_ok=True)
    with atomic(store.weights_file) as file, source.weights_file.open("rb") as weights:
        shutil.copyfileobj(weights, file)
    kept = {name: trained[name] for name in ("hardware", "precision")}  # those of the training, not of this process
    write_json(store.checkpoints / DONE, {**read_json(source.checkpoints / DONE), **kept})
    print(f"weights of {plain.run_id}, which was trained in the same way")


def load_weights(method: NucleiMethod, path: Path) -> None:
    """Load the weights saved by a run; only tensors are read.

    Raises:
        DataError: If the file is truncated or belongs to another network.
    """
    try:
        method.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        raise DataError(f"cannot load the weights {path}: {_why(error, path)}") from error


def _why(error: Exception, path: Path) -> str:
    """Say in one line why a file of weights cannot be loaded; torch's own messages advise to trust it."""
    if isinstance(error, RuntimeError) and "state_dict" in str(error):
        lines = [line.strip() for line in str(error).splitlines()[1:] if line.strip()]
        return (
            f"they are of another network ({short(lines[0] if lines else error, quoted=False)}); use the run's own file"
        )
    if not path.is_file():
        return "the file does not exist; copy the whole run directory, or run its command again"
    return "the file is damaged or no file of weights; copy it again, or delete it and run the command of the run again"


def _train_phase(
    run: Run, index: int, minutes: float | None, watchers: tuple[list[Logger], list[pl.Callback]]
) -> dict[str, Any]:
    """Train one phase unless it is finished; load its weights into the method and return its summary."""
    store, method, recipe = run.store, run.method, run.recipe
    result_file = store.checkpoints / f"phase{index}.json"
    weights = store.checkpoints / f"phase{index}.pt"
    if result_file.exists() and weights.exists():
        load_weights(method, weights)
        return read_json(result_file)
    phase, bookmark = recipe.phases[index], Bookmark()
    method.begin(phase)  # the choice of training images depends on it
    data = TrainingData(run.sources, _loading(run, index), bookmark)
    steps_per_epoch = len(data.train_dataloader())
    if steps_per_epoch == 0:
        raise ConfigError(f"batch size {phase.batch_size} over {run.machine.devices} devices is larger than an epoch")
    average = None if recipe.ema is None else WeightAverage(recipe.ema)
    keeper = PhaseKeeper(run, index, phase.total_steps(steps_per_epoch), minutes, bookmark, average)
    method.begin(phase, type_weights=_type_weights(run), share=keeper.share)
    trainer = _trainer(run, keeper, steps_per_epoch, watchers)
    with warnings.catch_warnings(), signals.between_steps():
        # Lightning's hints in every run: about workers, loggers, empty loaders and its internals.
        warnings.filterwarnings("ignore", module="pytorch_lightning.*")
        trainer.fit(method, datamodule=data, ckpt_path=keeper.resume_from(), weights_only=True)
    if not keeper.finished:
        raise NucbenchError(f"training of {store.run_id} was interrupted; run the same command to resume it")
    if run.strict and keeper.best_file.exists():
        load_weights(method, keeper.best_file)
    result = keeper.result(trainer.global_step)
    if not process_rank():
        with atomic(weights) as file:
            torch.save(method.state_dict(), file)
        write_json(result_file, result)
    return result


def _loading(run: Run, index: int) -> Loading:
    """Return the loading settings of a phase."""
    return run.method.loading(
        run.recipe,
        run.recipe.phases[index],
        seed=run.spec.seed + SEED_STEP * index,
        workers=run.machine.loaders(),
        rank=process_rank(),
        world=run.machine.devices,
        choose=partial(choose_images, run.spec, run.method),
        window=window_side(run.spec, run.recipe),
    )


def _type_weights(run: Run) -> torch.Tensor | None:
    """Return the loss weights of background and types, from the training images of the current phase."""
    if not weighs_loss(run.spec):
        return None
    images = choose_images(run.spec, run.method, run.sources.training_images)
    return torch.from_numpy(type_weights(images, len(run.method.task.types)))


def _trainer(
    run: Run, keeper: PhaseKeeper, steps_per_epoch: int, watchers: tuple[list[Logger], list[pl.Callback]]
) -> pl.Trainer:
    """Return the trainer of one phase."""
    loggers, callbacks = watchers
    devices, strict, progress = run.machine.devices, run.strict, run.machine.progress
    bar = [ProgressBar()] if progress else []
    # the average is updated and the row of the step is written before the keeper saves
    kept = [keeper] if keeper.average is None else [keeper.average, keeper]
    announcement = Announcement(run.store.run_id, keeper)
    return pl.Trainer(
        accelerator="auto",
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        use_distributed_sampler=False,  # EpochSampler distributes the samples itself
        precision=resolve(run.spec.precision),  # type: ignore[arg-type]  # one of PRECISIONS
        max_steps=keeper.total_steps,
        max_epochs=-1,
        logger=loggers,
        callbacks=[*callbacks, announcement, *bar, *kept],
        plugins=[AtomicCheckpointIO(), *_cluster()],
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=progress,
        gradient_clip_val=run.recipe.gradient_clip,
        num_sanity_val_steps=0,
        # Lightning validates at the end of an epoch; a shorter phase would end without validation
        val_check_interval=keeper.total_steps if strict and keeper.total_steps < steps_per_epoch else 1.0,
        log_every_n_steps=log_interval(keeper.total_steps),
    )


def _cluster() -> list[ClusterEnvironment]:
    """Return the environment that stops Lightning from treating a cluster job as one of several started processes.

    A job of a sweep is one task, which starts the processes for more GPUs itself. Lightning would also requeue the job
    near the time limit, in addition to the sweep.
    """
    alone = SLURMEnvironment.detect() and os.environ.get("SLURM_NTASKS", "1") == "1"
    return [LightningEnvironment()] if alone else []


def choose_images(spec: RunSpec, method: NucleiMethod, samples: list[Sample]) -> list[Sample]:
    """Return the training images of the current phase, with the labels that the run may use.

    Raises:
        DataError: If no image is suitable.
    """
    share = spec.overrides.label_share
    labelled = samples if share is None else keep_labels(samples, share, spec.seed)
    chosen = method.choose(labelled)
    if not chosen:
        raise DataError(
            f"none of the {len(samples)} training images has the annotation that {spec.method} needs in this phase "
            "(nuclei or regions: nucbench list methods --verbose); annotate some, or choose other options"
        )
    return chosen


def process_rank() -> int:
    """Return the rank of this process in distributed training, set by Lightning and launchers."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))


def task_of(spec: RunSpec, card: DatasetCard | None = None) -> Task:
    """Return the task that the training set defines.

    Args:
        spec: The run.
        card: Card of the opened training set; None = the card of its class, which lacks the settings of user datasets.
    """
    card = card or dataset_class(spec.dataset).card
    return Task.of_card(card)
