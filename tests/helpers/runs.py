"""Runs of a data module at hand, without a machine's folders."""

from __future__ import annotations

from benchmark.host.machine import Machine
from benchmark.registry import method_class
from benchmark.results.run import Run
from benchmark.results.spec import RunSpec
from benchmark.results.store import RunStore
from benchmark.runs.train import build_method, task_of
from datamodules.base import NucleiDataModule
from datamodules.drawing.loading import Loading
from datamodules.sources import Bookmark, ImageSet, Sources, TrainingData


def sources_of(data: NucleiDataModule, split: str = "train", *, strict: bool = True, annotated: bool = True) -> Sources:
    """Return the images of a training on one dataset."""
    return Sources((ImageSet(data, split),), ImageSet(data, "validation"), strict, annotated)


def run_of(spec: RunSpec, store: RunStore, data: NucleiDataModule) -> Run:
    """Return a run with a freshly built method."""
    annotated = method_class(spec.method).card.needs != "none"
    sources = sources_of(data, spec.split, strict=spec.protocol == "strict", annotated=annotated)
    machine = Machine(data.root.parent, store.path, workers=0, progress=False)
    return Run(spec, store, build_method(spec, task_of(spec)), sources, machine)


def training_data(
    data: NucleiDataModule, loading: Loading, *, epoch: int = 0, strict: bool = True, annotated: bool = True
) -> TrainingData:
    """Return the loaders of an epoch of a training."""
    return TrainingData(sources_of(data, strict=strict, annotated=annotated), loading, Bookmark(epoch))
