"""Predict the nuclei of whole datasets: the network here, decoding in worker processes beside it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.inference import InferenceSettings, predict_maps, rescale, restore
from benchmark.progress import track
from benchmark.store import RunStore, write_instances
from datamodules.base import NucleiDataModule, Record
from postproc.codec import Codec, Maps, Params
from postproc.instances import Instances

if TYPE_CHECKING:
    from models.base import NucleiMethod

FEW_IMAGES = 8
"""Fewer images than this are decoded in this process: starting workers (seconds each) would take longer."""
PENDING_PER_WORKER = 2
"""Images whose maps may wait for a worker: it bounds memory where decoding is slower than the network."""


def decode(codec: Codec[Any], maps: Maps, params: Params, shape: tuple[int, int]) -> Instances:
    """Decode the maps of one image and bring the nuclei to the image's own size."""
    return restore(codec.decode(maps, params), shape)


def decode_to_files(codecs: dict[str, tuple[Codec[Any], Params, Path]], maps: Maps, shape: tuple[int, int]) -> None:
    """Decode one image for several variants and write each result; runs in a worker process."""
    for codec, params, path in codecs.values():
        write_instances(path, decode(codec, maps, params, shape))


@contextmanager
def decoders(workers: int) -> Iterator[Executor | None]:
    """Give a pool of processes that decode; None (decode in this process) where `workers` is 0.

    Workers are spawned, not forked: a fork of a process in which torch runs threads may hang.
    """
    if workers == 0:
        with nullcontext():
            yield None
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


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
    with decoders(min(workers, len(todo)) if len(todo) >= FEW_IMAGES else 0) as pool:
        pending: list[Future[None]] = []
        for record, paths in track(todo, f"predicting {name}.{split}", progress):
            sample = data.read(record)
            maps = predict_maps(method, rescale(sample.image, magnification, sample.magnification), settings)
            jobs = {variant: (method.codecs[variant], params[variant], path) for variant, path in paths.items()}
            if pool is None:
                decode_to_files(jobs, maps, sample.truth.shape)
                continue
            pending.append(pool.submit(decode_to_files, jobs, maps, sample.truth.shape))
            while len(pending) > PENDING_PER_WORKER * workers:
                pending.pop(0).result()
        for future in pending:
            future.result()
