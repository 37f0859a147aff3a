"""Predict the nuclei of whole datasets: the network here, decoding in worker processes beside it."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.host.progress import track
from benchmark.inference.decoding import decode, decode_to_files, decoders, submit
from benchmark.inference.maps import InferenceSettings, predict_maps
from benchmark.inference.scaling import rescale
from benchmark.results.store import RunStore
from datamodules.base import NucleiDataModule
from datamodules.reading.records import Record
from postproc.codec import Params

if TYPE_CHECKING:
    from models.base.method import NucleiMethod

FEW_IMAGES = 8
"""Fewer images than this are decoded in this process where the network runs on a CPU: starting workers (seconds each)
would take longer, and take the CPU from the network. A GPU never waits for decoding."""
PENDING_PER_WORKER = 2
"""Images whose maps may wait for a worker: it bounds memory where decoding is slower than the network."""


def predict_dataset(
    method: NucleiMethod,
    store: RunStore,
    data: NucleiDataModule,
    split: str,
    params: dict[str, Params],
    *,
    magnification: float | None,
    settings: InferenceSettings,
    workers: int,
    progress: bool = True,
) -> None:
    """Predict every image of a split for every variant; images that have a prediction are skipped.

    Args:
        method: The trained method, on its device.
        store: Of the run.
        data: The dataset.
        split: Its split.
        params: Post-processing parameters per variant.
        magnification: Of the training images; others are rescaled to it and the nuclei mapped back. None = as is.
        settings: Of inference.
        workers: Processes that decode.
        progress: Show a progress bar.
    """
    name = data.card.name
    todo: list[tuple[Record, dict[str, Path]]] = []
    for record in data.select(split):
        paths = {variant: store.prediction_file(name, variant, record.image_id) for variant in params}
        missing = {variant: path for variant, path in paths.items() if not path.exists()}
        if missing:
            todo.append((record, missing))
    if not todo:
        return
    method.eval()
    beside = len(todo) >= (FEW_IMAGES if method.device.type == "cpu" else 2)
    with decoders(min(workers, len(todo)) if beside else 0) as pool:
        pending: list[Future[None]] = []
        for record, paths in track(todo, f"predicting {name}.{split}", progress):
            sample = data.read(record)
            maps = predict_maps(method, rescale(sample.image, magnification, sample.magnification), settings)
            jobs = {variant: (method.codecs[variant], params[variant], path) for variant, path in paths.items()}
            pending.append(submit(pool, decode_to_files, jobs, maps, sample.truth.shape))
            while len(pending) > PENDING_PER_WORKER * workers:
                pending.pop(0).result()
        for future in pending:
            future.result()


__all__ = ["decode", "decoders", "predict_dataset"]
