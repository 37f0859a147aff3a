"""One run from spec to scores: train, tune, predict and evaluate; finished steps are skipped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from benchmark.host.machine import Machine
from benchmark.inference.datasets import predict_dataset
from benchmark.mirrors.mirror import Mirror
from benchmark.options import check_options
from benchmark.registry import method_class
from benchmark.results.run import Ready, Run
from benchmark.results.spec import RunSpec, Target
from benchmark.results.store import RunStore
from benchmark.runs.balance import check_balance
from benchmark.runs.contamination import KnownImages, known_images
from benchmark.runs.datasets import check_pair, open_dataset, open_sources
from benchmark.runs.evaluate import Decoding, evaluate, stored_overlap
from benchmark.runs.monitor import check_monitor
from benchmark.runs.record import write_record
from benchmark.runs.result import Result
from benchmark.runs.start import has_begun, load_parent, write_start
from benchmark.runs.train import build_method, process_rank, task_of, train
from benchmark.runs.tune import fit_parameters
from datamodules.sources import ImageSet
from postproc.codec import Params
from postproc.errors import ConfigError

if TYPE_CHECKING:
    from models.base.method import NucleiMethod


def execute(spec: RunSpec, targets: list[Target], machine: Machine, group: str = "") -> Result:
    """Run a spec and evaluate it on `targets`; stored results are not computed again.

    Args:
        spec: The run.
        targets: Sets to evaluate on.
        machine: Folders and resources.
        group: Group of the run in mirrors; empty = its method.

    Raises:
        ConfigError: If the spec is invalid; raised before training.
        DataError: If data is missing; raised before training.
    """
    check_settings(spec)
    images = open_targets(targets, machine)
    if machine.devices > max(1, torch.cuda.device_count()):
        raise ConfigError(f"{machine.devices} devices requested, but this machine has {torch.cuda.device_count()} GPUs")
    run = open_run(spec, machine)
    if process_rank():  # started by Lightning for distributed training only
        train_method(run)
        return Result(run.store, {})
    with run.store.lock(), Mirror(run, group) as mirror:
        params = prepare_run(run, mirror)
        mirror.prepared(params)
        trained = known_images(run.store, run.sources, machine) if run.method.card.trained else KnownImages()
        scores = {}
        for target, each in images.items():
            scores.update(evaluate_images(run, each, params, trained))
            mirror.evaluated(each.data, target, list(params))
    return Result(run.store, scores)


def open_targets(targets: list[Target], machine: Machine) -> dict[Target, ImageSet]:
    """Open the sets to evaluate on.

    Raises:
        ConfigError: If one has no annotation.
        DataError: If data is missing.
    """
    opened = {name: open_dataset(name, machine) for name in dict.fromkeys(target.dataset for target in targets)}
    images = {target: ImageSet(opened[target.dataset], target.split) for target in targets}
    for target, each in images.items():
        each.records()  # raises if there are none
        if each.data.card.annotation == "none":
            raise ConfigError(f"{target} has no annotation to score against; name other sets with --evaluate")
    return images


def open_run(spec: RunSpec, machine: Machine) -> Run:
    """Open the images of a run, build its method and create its directory.

    Raises:
        ConfigError: If the spec is invalid; nothing is stored in this case.
        DataError: If data is missing.
    """
    sources = open_sources(spec, machine)
    method = build_method(spec, task_of(spec, sources.first.data.card))
    for data, _ in sources.train:
        check_pair(method, data)
    check_recipe(spec, method)
    check_balance(spec, method)
    if spec.overrides.monitor is not None:
        check_monitor(spec.overrides.monitor, method.card, sources.validation.data.card.annotation)
    store = RunStore(machine.runs, spec.run_id)
    start = load_parent(spec, method) if spec.parent and not has_begun(store) else None
    return Run(spec, RunStore.create(machine.runs, spec), method, sources, machine, start)


def prepare_run(run: Run, mirror: Mirror | None = None) -> dict[str, Params]:
    """Train, tune and write the record; return the post-processing parameters of each variant."""
    if run.start is not None:
        write_start(run, run.start)
    training = train_method(run, mirror)
    if torch.cuda.is_available():
        run.method.cuda()
    params = fit_parameters(run)
    if run.method.card.trained:
        known_images(run.store, run.sources)
    if not run.store.record_file.exists():
        write_record(run, training)
    return params


def train_method(run: Run, mirror: Mirror | None = None) -> dict[str, Any]:
    """Train the method, if it is trainable; return steps, minutes and the other results of `benchmark.runs.train`."""
    return train(run, mirror) if run.method.card.trained else {"steps": 0, "minutes": 0.0}


def check_settings(spec: RunSpec) -> None:
    """Reject settings that are wrong for any data, before data are opened, which may be missing too.

    Raises:
        ConfigError: If an option or a policy of augmentation is unknown or has a wrong value, or the method trains
            nothing.
    """
    kind, given = method_class(spec.method), spec.overrides.given()
    check_options(kind, spec.options)
    if given and not kind.card.trained:
        words = {f"--{name.replace('_', '-')}": value for name, value in given.items()}
        flags = " ".join(flag if value is True else f"{flag} {value}" for flag, value in words.items())
        raise ConfigError(f"{kind.card.name} trains nothing, so {flags} would have no effect; leave it out")
    if spec.overrides.augment is not None:
        from datamodules.drawing.augment import build_policy  # imports albumentations, which prediction does not need

        build_policy(spec.overrides.augment)


def check_recipe(spec: RunSpec, method: NucleiMethod) -> None:
    """Reject settings that do not fit the network, before anything is stored.

    Raises:
        ConfigError: If the recipe cannot be changed in this way, or the network does not accept the crop size; the
            message names the nearest valid sizes.
    """
    if spec.overrides.tta:
        method.check_symmetries()
    spec.overrides.applied_to(method.recipe)  # raises if it does not fit
    crop, geometry = spec.overrides.crop, method.geometry
    if crop is None or not method.card.trained or geometry.valid_input(crop) == crop:
        return
    larger = geometry.valid_input(crop)
    near = [size for size in (larger - geometry.multiple, larger) if size >= geometry.minimum]
    raise ConfigError(
        f"crop={crop}: {method.card.name} does not accept crops of {crop} px. Nearest valid sizes: "
        f"{' or '.join(map(str, near))} px; the recipe has {method.recipe.crop} px."
    )


def evaluate_images(
    run: Run | Ready, images: ImageSet, params: dict[str, Params], trained: KnownImages
) -> dict[tuple[str, str], dict[str, float]]:
    """Predict and score a set of images with every variant; return summaries by set and title.

    Args:
        run: A trained run.
        images: Images to score.
        params: Post-processing parameters per variant.
        trained: The training images.
    """
    predict_dataset(run, images, params)
    keys = [variant.key for variant in run.method.card.variants if variant.key in params]
    overlap = stored_overlap(run.store, images, keys) or trained.overlap(images)
    overlap.tell(str(images))
    types = images.data.card.types
    typed = bool(types) and types == run.method.task.types
    found = {}
    for variant in run.method.card.variants:
        if variant.key in params:
            decoding = Decoding(variant.key, variant.title, params[variant.key])
            found[(str(images), variant.title)] = evaluate(
                run.store, images, decoding, typed=typed, overlap=overlap, progress=run.machine.progress
            )
    return found
