"""The record of a run: what it was trained on, how, and where."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from benchmark.host.environment import environment
from benchmark.host.files import write_json
from benchmark.host.precision import resolve
from benchmark.results.spec import FORMAT, RunSpec
from benchmark.results.store import RunStore

if TYPE_CHECKING:
    from datamodules.base import NucleiDataModule
    from models.base.method import NucleiMethod


def _training_set(spec: RunSpec) -> dict[str, Any]:
    """Return what the record says of the training images."""
    also = {"also": [str(target) for target in spec.training_sets[1:]]} if spec.also else {}
    validate = {"validate": str(spec.validation_set)} if spec.validation_set else {}
    return {"dataset": spec.dataset, "split": spec.split, **also, **validate}


def _fingerprints(spec: RunSpec, method: NucleiMethod, data: NucleiDataModule) -> dict[str, Any]:
    """Return what the record says of the contents of all images; annotation that is not learnt from is not read."""
    annotated = method.card.needs != "none"
    found: dict[str, Any] = {"data": data.fingerprint(spec.split, annotated=annotated)}
    if data.also:
        found["also"] = [other.fingerprint(split, annotated=annotated) for other, split in data.also]
    if data.validation_set is not None:
        source, split = data.validation_set
        found["validation"] = source.fingerprint(split)
    return found


def write_record(
    spec: RunSpec,
    store: RunStore,
    method: NucleiMethod,
    data: NucleiDataModule,
    training: dict[str, Any],
    magnification: float | None,
) -> None:
    """Write the record of a trained run.

    Args:
        spec: The run.
        store: Its directory.
        method: The method.
        data: Its training set.
        training: Steps, minutes and what else `benchmark.runs.train.train` notes.
        magnification: Of the training images; None where unknown.
    """
    machine = environment()
    write_json(
        store.record_file,
        {
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
            "overrides": spec.overrides.given(),
            "training": {
                **training,
                "weights": starting_weights(spec),
                "hardware": machine["hardware"],
                "precision": resolve(spec.precision),
            },
            "environment": machine,
            **_fingerprints(spec, method, data),
            "source": "run",
            "note": "",
        },
    )


def starting_weights(spec: RunSpec) -> str:
    """Return what the networks of a run start from, as its options say; for ImageNet's, where they come from."""
    from benchmark.options import option_defaults, weight_options
    from benchmark.registry import method_class

    kind = method_class(spec.method)
    known = {**option_defaults(kind), **spec.options}
    chosen = [str(known[name]) for name in weight_options(kind)]
    named = [kind.card.pretrained if value == "imagenet" else value for value in chosen]
    return " and ".join(dict.fromkeys(name or "none" for name in named)) or kind.card.pretrained or "none"


__all__ = ["starting_weights", "write_record"]
