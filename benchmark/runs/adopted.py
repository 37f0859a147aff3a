"""Runs whose weights were trained elsewhere: their files, and what their record says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from benchmark.host.environment import environment
from benchmark.host.files import atomic, read_json, write_json
from benchmark.host.precision import resolve
from benchmark.results.spec import RunSpec
from benchmark.results.store import RunStore
from benchmark.runs.record import record_head
from benchmark.runs.tune import write_parameters
from models.base.foreign import Foreign
from models.base.method import NucleiMethod
from postproc.codec import Params
from postproc.errors import NucbenchError

ADOPTED = "adopted"
"""Value of ``source`` in the record of such a run."""


@dataclass(frozen=True)
class Adopted:
    """What a record says of adopted weights.

    Attributes:
        file: Name of the weights file.
        sha256: Its hash.
        layout: Code that wrote it.
        tensors: Number of tensors used.
        left_out: Tensors of the file that the method does not need.
        licence: Licence of the weights.
        note: Source of the weights.
    """

    file: str
    sha256: str
    layout: str
    tensors: int
    left_out: tuple[str, ...]
    licence: str
    note: str

    @classmethod
    def of(cls, store: RunStore, foreign: Foreign, file: str, sha256: str, licence: str, note: str) -> Adopted:
        """Describe a file; note and licence of an earlier record are kept unless new ones are given."""
        before: dict[str, Any] = {}
        with suppress(NucbenchError):  # an unreadable record is replaced
            before = read_json(store.record_file) if store.record_file.exists() else {}
        licence = licence or _text(before.get("adopted"), "licence")
        note = note or _text(before, "note") or "weights trained elsewhere"
        return cls(file, sha256, foreign.layout, len(foreign.state), tuple(foreign.left_out), licence, note)


def digest(sha256: str, types: tuple[str, ...], mpp: float | None, more: Mapping[str, Any] | None = None) -> str:
    """Return a digest of weights and their meaning: the same file with other types is another run.

    Args:
        sha256: Hash of the weights.
        types: Names of the types.
        mpp: Microns per pixel of the training images.
        more: Post-processing parameters, if not the defaults.
    """
    text = json.dumps([sha256, types, mpp, *([more] if more else [])])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_adopted(
    store: RunStore,
    spec: RunSpec,
    method: NucleiMethod,
    about: Adopted,
    params: Mapping[str, Params],
    magnification: float | None = None,
) -> None:
    """Write weights, parameters and, last, the record.

    Args:
        store: Directory of the run.
        spec: Its definition.
        method: Its method, with the weights.
        about: What is known of the weights.
        params: Post-processing parameters of each variant.
        magnification: Magnification of the training images; None = that of the method's task.
    """
    machine = environment()
    parameters = sum(p.numel() for p in method.parameters())
    with atomic(store.weights_file) as file:
        torch.save(method.state_dict(), file)
    write_json(store.checkpoints / "done.json", {"steps": 0, "minutes": 0.0, "parameters": parameters})
    write_parameters(store, dict(params), {})
    write_json(
        store.record_file,
        {
            **record_head(store, spec, method, magnification or method.magnification),
            "overrides": spec.overrides.given(),
            "training": {
                "steps": None,
                "minutes": None,
                "parameters": parameters,
                "weights": f"{about.file} (sha256 {about.sha256[:8]})",
                "hardware": "",
                "precision": resolve(spec.precision),
            },
            "environment": machine,
            "data": {},
            "adopted": {
                "file": about.file,
                "sha256": about.sha256,
                "layout": about.layout,
                "tensors": about.tensors,
                "left_out": list(about.left_out),
                "licence": about.licence,
            },
            "source": ADOPTED,
            "note": about.note,
        },
    )


def _text(content: object, key: str) -> str:
    value = content.get(key) if isinstance(content, Mapping) else None
    return value if isinstance(value, str) else ""


__all__ = ["ADOPTED", "Adopted", "digest", "write_adopted"]
