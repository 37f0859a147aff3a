"""One run from spec to scores: train, tune, predict, evaluate, each skipped where it is done."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmark.host.files import read_json
from benchmark.host.machine import Machine
from benchmark.inference.datasets import predict_dataset
from benchmark.inference.maps import InferenceSettings
from benchmark.mirrors.run import Mirror
from benchmark.options import weight_options
from benchmark.registry import method_class
from benchmark.results.spec import RunSpec, Target
from benchmark.results.store import RunStore
from benchmark.runs.balance import check_balance
from benchmark.runs.datasets import check_pair, open_dataset, open_training, trained_images_of
from benchmark.runs.evaluate import evaluate
from benchmark.runs.record import write_record
from benchmark.runs.result import Result
from benchmark.runs.train import build_method, load_weights, process_rank, task_of, train
from benchmark.runs.tune import fit_parameters
from benchmark.runs.validation import check_monitor
from datamodules.drawing.augment import build_policy
from models.base.method import Task
from models.base.weights import NONE
from postproc.codec import Params
from postproc.errors import ConfigError, DataError

if TYPE_CHECKING:
    from datamodules.base import NucleiDataModule
    from models.base.method import NucleiMethod


def execute(spec: RunSpec, targets: list[Target], machine: Machine, group: str = "") -> Result:
    """Run a spec and evaluate it on `targets`; whatever is already stored is not computed again.

    Args:
        spec: The run.
        targets: What it is evaluated on.
        machine: Where things are.
        group: What mirrors list the run under; empty = its method.

    Raises:
        ConfigError: If the spec cannot work, found before anything is trained.
        DataError: If data is missing, found before anything is trained.
    """
    data = open_training(spec, machine)
    if spec.protocol == "strict":
        source, split = data.validation_set or (data, "validation")
        source.select(split)
    others = {t.dataset: open_dataset(t.dataset, machine) for t in targets}
    for target in targets:
        others[target.dataset].select(target.split)
        if others[target.dataset].card.annotation == "none":
            raise ConfigError(f"{target} has no annotation to score against; name other sets with --evaluate")
    if machine.devices > max(1, torch.cuda.device_count()):
        raise ConfigError(f"{machine.devices} devices asked for, but this machine has {torch.cuda.device_count()} GPUs")
    method = build_method(spec, task_of(spec, data.card))
    for each in (data, *(other for other, _ in data.also)):
        check_pair(method, each)
    check_recipe(spec, method)
    check_balance(spec, method)
    if spec.overrides.monitor is not None:
        check_monitor(spec.overrides.monitor, method.card, (data.validation_set or (data, ""))[0].card.annotation)
    store = RunStore.create(machine.runs, spec)
    if process_rank():  # started by Lightning beside the first process, to train with it and no more
        train_method(spec, store, method, data, machine)
        return Result(store, {})
    known = partial(data.training_magnification, spec.split)
    with store.lock(), Mirror(spec, store, method, data, machine, known, group) as mirror:
        magnification, params = prepare_run(spec, store, method, data, machine, mirror)
        mirror.prepared(params)
        trained = trained_images_of(spec, data) if method.card.trained else set()
        scores = {}
        for target in targets:
            source = others[target.dataset]
            scores.update(_evaluate(store, method, source, target, params, magnification, machine, spec, trained))
            mirror.evaluated(source, target, list(params))
    return Result(store, scores)


def prepare_run(
    spec: RunSpec,
    store: RunStore,
    method: NucleiMethod,
    data: NucleiDataModule,
    machine: Machine,
    mirror: Mirror | None = None,
) -> tuple[float | None, dict[str, Params]]:
    """Train and tune, and write the record; return the training magnification and the parameters."""
    training = train_method(spec, store, method, data, machine, mirror)
    if torch.cuda.is_available():
        method = method.cuda()
    magnification = data.training_magnification(spec.split)
    settings = InferenceSettings(precision=spec.precision, compile=machine.compile)
    params = fit_parameters(
        spec,
        store,
        method,
        data,
        magnification=magnification,
        settings=settings,
        workers=machine.decoders(),
        progress=machine.progress,
    )
    if not store.record_file.exists():
        write_record(spec, store, method, data, training, magnification)
    return magnification, params


def train_method(
    spec: RunSpec,
    store: RunStore,
    method: NucleiMethod,
    data: NucleiDataModule,
    machine: Machine,
    mirror: Mirror | None = None,
) -> dict[str, Any]:
    """Train a method that learns; return steps, minutes and what else `benchmark.runs.train.train` notes."""
    if not method.card.trained:
        return {"steps": 0, "minutes": 0.0}
    return train(
        spec,
        store,
        method,
        data,
        workers=machine.loaders(),
        devices=machine.devices,
        mirror=mirror,
        progress=machine.progress,
    )


def check_recipe(spec: RunSpec, method: NucleiMethod) -> None:
    """Refuse settings of the training that cannot work, before anything is stored.

    Raises:
        ConfigError: If a name is unknown, the method trains nothing, or the network does not take crops of that size;
            with the nearest.
    """
    given = spec.overrides.given()
    if given and not method.card.trained:
        flags = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in given.items())
        raise ConfigError(f"{method.card.name} trains nothing, so that {flags} would do nothing; leave it out")
    recipe = spec.overrides.applied_to(method.recipe)
    build_policy(recipe.augment)
    crop, geometry = spec.overrides.crop, method.geometry
    if crop is None or not method.card.trained or geometry.valid_input(crop) == crop:
        return
    larger = geometry.valid_input(crop)
    near = [size for size in (larger - geometry.multiple, larger) if size >= geometry.minimum]
    raise ConfigError(
        f"crop={crop}: {method.card.name} does not take crops of {crop} px. The nearest that it takes: "
        f"{' or '.join(map(str, near))} px; its recipe has {method.recipe.crop}."
    )


def _evaluate(
    store: RunStore,
    method: NucleiMethod,
    data: NucleiDataModule,
    target: Target,
    params: dict[str, Params],
    magnification: float | None,
    machine: Machine,
    spec: RunSpec,
    trained_images: set[Path | str],
) -> dict[tuple[str, str], dict[str, float]]:
    settings = InferenceSettings(precision=spec.precision, compile=machine.compile)
    predict_dataset(
        method,
        store,
        data,
        target.split,
        params,
        magnification=magnification,
        settings=settings,
        workers=machine.decoders(),
        progress=machine.progress,
    )
    seen = sum(not trained_images.isdisjoint((r.image, r.group)) for r in data.select(target.split))
    if seen:
        print(f"note: {seen} images of {target} were trained on; its scores say nothing about new images", flush=True)
    titles = {variant.key: variant.title for variant in method.card.variants}
    typed = bool(data.card.types) and data.card.types == method.task.types
    return {
        (str(target), titles[key]): evaluate(
            store, data, target, key, titles[key], params[key], typed=typed, seen=seen, progress=machine.progress
        )
        for key in params
    }


def load_run(store: RunStore) -> tuple[NucleiMethod, dict[str, Params], dict[str, Any]]:
    """Load a finished run: its method with weights, parameters per variant, and record.

    Raises:
        ConfigError: If the run is not finished.
    """
    if not store.record_file.exists():
        raise ConfigError(f"the run {store.path} is not finished; start it again with the same command to go on")
    spec = store.spec()
    initial = dict.fromkeys(weight_options(method_class(spec.method)), NONE)  # fetched, and overwritten anyway
    spec = dataclasses.replace(spec, options={**spec.options, **initial})
    record = read_json(store.record_file)
    stored_task = record.get("task")  # runs of earlier versions lack it
    task = Task(tuple(stored_task["types"]), stored_task["mpp"]) if stored_task else task_of(spec)
    method = build_method(spec, task)
    if method.card.trained:
        load_weights(method, store.weights_file)
    stored = read_json(store.params_file)
    params = {key: codec.params_type(**stored[key]["params"]) for key, codec in method.codecs.items() if key in stored}
    if not params:
        raise DataError(f"{store.params_file} has parameters of none of {', '.join(method.codecs)}; run it again")
    if torch.cuda.is_available():
        method = method.cuda()
    return method.eval(), params, record
