"""`nucbench adopt`: make a finished run from weights that were trained elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.forward.scaling import LEAST, MOST
from benchmark.host.files import file_hash
from benchmark.host.machine import Machine
from benchmark.options import check_options, option_defaults, weight_options
from benchmark.registry import DATASETS, dataset_class, method_class
from benchmark.results.record import RecordedTask, check_texts
from benchmark.results.spec import EXTERNAL, RunSpec, Target
from benchmark.results.store import RunStore
from benchmark.results.trained_images import TRAINED_IMAGES, TrainedImages
from benchmark.runs.adopted import Adopted, digest, write_adopted
from benchmark.runs.adopted_types import match_types
from benchmark.runs.contamination import hash_named
from benchmark.runs.evaluate_trained import score_run
from benchmark.runs.result import Result
from benchmark.runs.run import open_targets
from benchmark.runs.train import build_method
from benchmark.runs.trained_on import training_set
from datamodules.reading.magnification import MPP_AT_1X
from datamodules.reading.schema import check
from models.base.foreign import Foreign
from models.base.method import NucleiMethod, Task
from models.base.weights import NONE, load_exactly, read_checkpoint
from postproc.errors import ConfigError, DataError, short


@dataclass(frozen=True)
class Request:
    """Weights to adopt, and what is known of them.

    Attributes:
        method: Registry name of the method.
        weights: File with the weights.
        trained_on: Training set, ``NAME`` or ``NAME.SPLIT``; registered here or not.
        options: Options of the method; those that the file determines may be left out.
        types: Names of the file's nucleus types 1..T in its order; None = those of the training set.
        magnification: Magnification of the training images; None = that of the checkpoint or of the training set.
        protocol: Protocol under which the weights were trained; ``external`` = none of this suite's.
        precision: Lightning precision of inference.
        note: Source of the weights.
        licence: Their licence.
    """

    method: str
    weights: Path
    trained_on: str
    options: Mapping[str, Any] = field(default_factory=dict)
    types: tuple[str, ...] | None = None
    magnification: float | None = None
    protocol: str = EXTERNAL
    precision: str = "auto"
    note: str = ""
    licence: str = ""


def adopt(request: Request, targets: list[Target], machine: Machine) -> Result:
    """Store weights as a finished run and evaluate it; nothing is trained.

    Args:
        request: The weights.
        targets: Sets to evaluate on; stored results are not computed again.
        machine: Folders and resources.

    Raises:
        ConfigError: If the method trains nothing, an option contradicts the file, or types are not named.
        DataError: If the file is unreadable, or a tensor of the file or of the method has no counterpart.
    """
    check_texts(note=request.note, licence=request.licence)
    images = open_targets(targets, machine)
    kind, trained = _method(request), training_set(request.trained_on)
    if not request.weights.is_file():
        raise ConfigError(f"{request.weights} does not exist; give a file with the weights of {request.method}")
    state, rest = read_checkpoint(request.weights)
    stored = _hyper_parameters(rest)
    stored_task = _stored_task(stored.pop("task", None), str(request.weights))
    card = dataset_class(trained.dataset).card if trained.dataset in DATASETS else None
    foreign, task = match_types(kind.read_foreign(state), request, stored_task, card)
    magnification = request.magnification or _stored_magnification(rest, str(request.weights))
    magnification = magnification or (MPP_AT_1X / task.mpp if task.mpp else None)
    task = Task(task.types, MPP_AT_1X / magnification if magnification else None)
    sha256 = file_hash(request.weights)
    spec = RunSpec(
        request.method,
        trained.dataset,
        split=trained.split,
        protocol=request.protocol,
        precision=request.precision,
        options=_options(kind, request.options, {**stored, **foreign.options}, str(request.weights)),
        adopted=digest(sha256, task.types, task.mpp),
    )
    initial = dict.fromkeys(weight_options(kind), NONE)
    method = build_method(dataclasses.replace(spec, options={**spec.options, **initial}), task)
    load_foreign(method, foreign, str(request.weights))
    store = RunStore.create(machine.runs, spec)
    with store.lock():
        about = Adopted.of(store, foreign, request.weights.name, sha256, request.licence, request.note)
        write_adopted(store, spec, method, about, {key: codec.defaults() for key, codec in method.codecs.items()})
        _tell(request, foreign, task)
        _keep_trained_images(store, request, machine)
        scores = score_run(store, images, machine)
    return Result(store, scores)


def _keep_trained_images(store: RunStore, request: Request, machine: Machine) -> None:
    """Store the hashes of the training images: those next to the weights, otherwise of the named training set."""
    if not store.trained_images_file.exists():
        beside = request.weights.with_name(TRAINED_IMAGES)
        known = TrainedImages.read(beside) if beside.is_file() else hash_named([request.trained_on], machine)
        if known.sets:
            known.write(store.trained_images_file)


def load_foreign(method: NucleiMethod, foreign: Foreign, origin: str) -> None:
    """Load foreign weights, all of them and exactly as they are, batch statistics included.

    Args:
        method: Method that receives them.
        foreign: The weights.
        origin: The file, for messages.

    Raises:
        DataError: If a tensor of the file or of the method has no counterpart, or a value is not finite.
    """
    wild = [foreign.names[n] for n, v in foreign.state.items() if v.is_floating_point() and not v.isfinite().all()]
    if wild:
        raise DataError(f"{origin}: tensors with values that are not finite ({len(wild)}): {', '.join(wild[:5])}")
    expected = method.state_dict()
    unknown = [foreign.names[name] for name in foreign.state if name not in expected]
    if unknown:
        raise DataError(
            f"{origin}: tensors of the file that have no place in {method.card.name} ({len(unknown)}): "
            f"{', '.join(unknown[:5])}"
            f"{', ...' if len(unknown) > 5 else ''}. Check that the file belongs to this method and its options."
        )
    load_exactly(method, foreign.state, origin)


def _method(request: Request) -> type[NucleiMethod]:
    kind = method_class(request.method)
    if not kind.card.trained:
        raise ConfigError(f"{request.method} trains nothing, so it has no weights to adopt")
    if request.types and "classification" not in kind.card.tasks:
        raise ConfigError(f"{request.method} predicts no types; leave out --types")
    for name in weight_options(kind):
        if name in request.options:
            raise ConfigError(f"leave out --options.{name}: all weights are those of {request.weights}")
    return kind


def _hyper_parameters(rest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the constructor arguments that a Lightning checkpoint holds; empty for other files."""
    stored = rest.get("hyper_parameters", {})
    return dict(stored) if isinstance(stored, Mapping) else {}


def _stored_task(task: object, origin: str) -> Task | None:
    """Return the task that a checkpoint holds; unpickling does not check the values of its fields.

    Raises:
        DataError: If it is no task, or a field has a wrong value.
    """
    if task is None:
        return None
    if not isinstance(task, Task):
        raise DataError(f"{origin}: hyper_parameters: task is {short(task)}, expected a Task of nucbench")
    fields = {"types": getattr(task, "types", None), "mpp": getattr(task, "mpp", None)}
    checked = check(RecordedTask, fields, f"{origin}: hyper_parameters: task", DataError)
    return Task(checked.types, checked.mpp)


def _stored_magnification(rest: Mapping[str, Any], origin: str) -> float | None:
    """Return the magnification that a checkpoint holds, if any.

    Raises:
        DataError: If it is not that of a microscope.
    """
    stored = rest.get("magnification")
    if stored is None:
        return None
    if not isinstance(stored, int | float) or not LEAST <= stored <= MOST:  # NaN is not
        raise DataError(
            f"{origin}: magnification is {short(stored)}, expected a number from {LEAST:g} to {MOST:g}; state that of "
            "the training images with --magnification"
        )
    return float(stored)


def _options(
    kind: type[NucleiMethod], given: Mapping[str, Any], found: Mapping[str, Any], origin: str
) -> dict[str, Any]:
    """Return the options that differ from the defaults: those of the file and those given.

    Raises:
        ConfigError: If an option is unknown, or its value differs from that of the file.
    """
    options, defaults = check_options(kind, given), option_defaults(kind)
    fixed = {name: value for name, value in found.items() if name not in weight_options(kind)}
    for name, value in check_options(kind, fixed).items():
        if options.setdefault(name, value) != value:
            raise ConfigError(f"--options.{name} is {options[name]}, but {origin} has {name}={value}; leave it out")
    return {name: value for name, value in options.items() if value != defaults[name]}


def _tell(request: Request, foreign: Foreign, task: Task) -> None:
    """Print what was read and what was left out."""
    left = f"; left out: {_short(foreign.left_out)}" if foreign.left_out else ""
    print(f"{request.weights.name}: {len(foreign.state)} tensors used{left}", flush=True)
    if task.types:
        print(f"types in the order of the model: {', '.join(task.types)}", flush=True)
    if task.mpp is None:
        print("the magnification is unknown, so that no image is rescaled; --magnification states it", flush=True)


def _short(names: tuple[str, ...]) -> str:
    """Return up to three names, then groups of names with the same beginning."""
    if len(names) <= 3:
        return ", ".join(names)
    groups: dict[str, int] = {}
    for name in names:
        key = ".".join(name.split(".")[:2])
        groups[key] = groups.get(key, 0) + 1
    return ", ".join(f"{key} ({count} tensors)" for key, count in groups.items())


__all__ = ["Request", "adopt", "load_foreign"]
