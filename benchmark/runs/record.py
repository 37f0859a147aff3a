"""The record of a run: data, settings and environment of the training."""

from __future__ import annotations

import dataclasses
from typing import Any

from benchmark.host.environment import environment
from benchmark.host.files import read_json, write_json
from benchmark.host.precision import resolve
from benchmark.results.run import Run
from benchmark.results.spec import FORMAT, RunSpec
from benchmark.results.store import RunStore
from benchmark.results.trained_images import TRAINED_IMAGES
from models.base.method import NucleiMethod


def _training_set(spec: RunSpec) -> dict[str, Any]:
    """Return the training images for the record."""
    also = {"also": [str(target) for target in spec.training_sets[1:]]} if spec.also else {}
    validate = {"validate": str(spec.validation_set)} if spec.validation_set else {}
    return {"dataset": spec.dataset, "split": spec.split, **also, **validate}


def _fingerprints(run: Run) -> dict[str, Any]:
    """Return fingerprints of all images for the record; unused annotation is not read."""
    sources = run.sources
    first, *others = [data.fingerprint(split, annotated=sources.annotated) for data, split in sources.train]
    found: dict[str, Any] = {"data": first}
    if others:
        found["also"] = others
    if sources.elsewhere:
        found["validation"] = sources.validation.data.fingerprint(sources.validation.split)
    return found


def record_head(store: RunStore, spec: RunSpec, method: NucleiMethod, magnification: float | None) -> dict[str, Any]:
    """Return the part of a record that names the run and its method.

    Args:
        store: Run directory.
        spec: Its definition.
        method: Its method.
        magnification: Magnification of the training images; None = unknown.
    """
    return {
        "format": FORMAT,
        "run_id": store.run_id,
        "method": spec.method,
        "protocol": spec.protocol,
        "seed": spec.seed,
        "train": _training_set(spec) if method.card.trained else None,
        "magnification": magnification,
        "task": dataclasses.asdict(method.task),
        "variants": {variant.key: variant.title for variant in method.card.variants},
        "options": dict(spec.options),
    }


def write_record(run: Run, training: dict[str, Any]) -> None:
    """Write the record of a trained run.

    Args:
        run: The run.
        training: Steps, minutes and the other results of `benchmark.runs.train.train`.
    """
    machine = environment()
    spec, store, method = run.spec, run.store, run.method
    write_json(
        store.record_file,
        {
            **record_head(store, spec, method, run.magnification),
            "overrides": spec.overrides.given() | ({"start_from": spec.parent} if spec.parent else {}),
            "training": {
                "hardware": machine["hardware"],
                "precision": resolve(spec.precision),
                **training,
                "weights": starting_weights(spec),
            },
            "environment": machine,
            **_fingerprints(run),
            **({"trained_images": TRAINED_IMAGES} if method.card.trained else {}),
            **({"parent": read_json(store.parent_file)} if spec.parent else {}),
            "source": "run",
            "note": "",
        },
    )


def starting_weights(spec: RunSpec) -> str:
    """Return the initial weights of a run according to its options; for ImageNet weights, their source."""
    from benchmark.options import option_defaults, weight_options
    from benchmark.registry import method_class

    if spec.parent:
        return spec.parent
    kind = method_class(spec.method)
    known = {**option_defaults(kind), **spec.options}
    chosen = [str(known[name]) for name in weight_options(kind)]
    pretrained = kind.card.pretrained
    if "encoder" in known and known["encoder"] != option_defaults(kind)["encoder"]:
        pretrained = f"ImageNet (timm {known['encoder']})"
    named = [pretrained if value == "imagenet" else value for value in chosen]
    return " and ".join(dict.fromkeys(name or "none" for name in named)) or kind.card.pretrained or "none"


__all__ = ["record_head", "starting_weights", "write_record"]
