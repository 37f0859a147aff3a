"""Start a training from the weights of a trained model: fine-tuning (``--start-from``)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.host.files import write_json
from benchmark.options import check_options, option_defaults, weight_options
from benchmark.registry import method_class
from benchmark.results.parent import Start, find_parent, trained_images_file
from benchmark.results.run import Run
from benchmark.results.spec import RunSpec
from benchmark.results.store import RunStore
from benchmark.results.trained_images import TrainedImages
from benchmark.runs.contamination import hash_named, hash_sources
from benchmark.runs.train import build_method
from benchmark.runs.trained import load_trained
from datamodules.reading.magnification import differs
from models.base.method import NucleiMethod, Task
from postproc.errors import ConfigError

CLASSIFY = "classify"
"""Option of methods that says whether types are learnt; with it, heads may differ as with the types."""
_NAMED = 5


def has_begun(store: RunStore) -> bool:
    """Tell whether a run has weights of its own, so that its parent is not loaded again."""
    saved = (*store.checkpoints.glob("phase*.ckpt"), *store.checkpoints.glob("phase*.json"))
    return store.weights_file.exists() or bool(saved)  # the best weights alone are no place to resume from


def load_parent(spec: RunSpec, method: NucleiMethod) -> Start:
    """Load the weights of the parent of a run, batch statistics included, except for heads of other types.

    Args:
        spec: The run.
        method: Its newly built method, which receives the weights.

    Raises:
        ConfigError: If the parent has changed, or differs in more than its types.
        DataError: If a file of the parent is damaged.
    """
    text = spec.overrides.start_from or ""
    source = Path(text).expanduser()
    parent, options = find_parent(text)
    if parent.label != spec.parent:
        raise ConfigError(f"start_from={text} was {spec.parent} and is now {parent.label}; start a new run from it")
    trained = load_trained(source).method.cpu()
    known = trained.state_dict()
    mpp = trained.task.mpp
    alike = _with_types_of(spec, options, Task(parent.types, mpp)).state_dict()
    if {k: v.shape for k, v in alike.items()} != {k: v.shape for k, v in known.items()}:
        raise ConfigError(_differing(spec, options, text))
    own = method.state_dict()
    taken = {name: value for name, value in known.items() if name in own and own[name].shape == value.shape}
    method.load_state_dict({**own, **taken})
    new = tuple(name for name in own if name not in taken)
    left_out = tuple(name for name in known if name not in taken)
    return Start(parent, source, new, left_out)


def write_start(run: Run, start: Start) -> None:
    """Store parent and training images of a run that is about to start, and print what it starts with.

    The training images of the parent are among those of the run, so that tables never count them as new images.
    """
    store, parent = run.store, start.parent
    own = hash_sources(run.sources)
    file = trained_images_file(start.source)
    above = TrainedImages.read(file) if file.is_file() else hash_named(parent.trained_on, run.machine)
    # a set of one name may hold other images by now
    others = {name if name not in own.sets else f"{name} ({parent.label})": each for name, each in above.sets.items()}
    TrainedImages({**own.sets, **others}).write(store.trained_images_file)
    write_json(store.parent_file, dataclasses.asdict(parent) | {"new": start.new, "left_out": start.left_out})
    print(_told(run, start), flush=True)


def _told(run: Run, start: Start) -> str:
    parent, types = start.parent, run.method.task.types
    total = len(run.method.state_dict())
    parts = [f"starting from {parent.label}: {total - len(start.new)} of {total} tensors"]
    if start.new:
        parts.append(f"new, because the types differ: {_heads(start.new)}")
    elif parent.types and types and parent.types != types:
        parts.append(f"heads of the types {', '.join(parent.types)} become those of {', '.join(types)}")
    if start.left_out and not start.new:
        parts.append(f"left out: {_heads(start.left_out)}")
    if parent.magnification and run.magnification and differs(parent.magnification, run.magnification):
        parts.append(f"note: it was trained at {parent.magnification:g}x, these images are at {run.magnification:g}x")
    return "; ".join(parts)


def _heads(names: Sequence[str]) -> str:
    """Return the modules of some tensors."""
    modules = list(dict.fromkeys(re.sub(r"(\.\d+)+$", "", name.rpartition(".")[0]) or name for name in names))
    return ", ".join(modules[:_NAMED]) + (f" and {len(modules) - _NAMED} more" if len(modules) > _NAMED else "")


def _with_types_of(spec: RunSpec, options: Mapping[str, Any], task: Task) -> NucleiMethod:
    """Build the network of a run for the types of its parent."""
    changed = {name: value for name, value in spec.options.items() if name != CLASSIFY}
    if CLASSIFY in options:
        changed[CLASSIFY] = options[CLASSIFY]
    return build_method(dataclasses.replace(spec, options=changed), task)


def _differing(spec: RunSpec, options: Mapping[str, Any], source: str) -> str:
    """Return a message on the options that differ between a run and its parent."""
    kind = method_class(spec.method)
    defaults = option_defaults(kind)
    ours = {**defaults, **check_options(kind, spec.options)}
    theirs = {**defaults, **check_options(kind, {k: v for k, v in options.items() if k in defaults})}
    names = [k for k in defaults if k not in (*weight_options(kind), CLASSIFY) and ours[k] != theirs[k]]
    values = ", ".join(f"{name} is {theirs[name]!r} there and {ours[name]!r} here" for name in names)
    remedy = " ".join(f"--options.{name}" for name in names)
    return (
        f"start_from={source}: the networks differ ({values or 'in their tensors'}); leave out {remedy}"
        if names
        else f"start_from={source}: its tensors are not those of this version of {spec.method}; train it again"
    )


__all__ = ["has_begun", "load_parent", "write_start"]
