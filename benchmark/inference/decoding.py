"""Decode in worker processes parallel to the network. Does not import torch, which workers do not need."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmark.forward.scaling import decode, restore
from benchmark.host.processes import start_worker
from benchmark.host.stages import stage
from benchmark.results.legend import entries_of, with_legend
from benchmark.results.pictures import geojson, overlay, write_geojson, write_png
from benchmark.results.prediction_folder import OVERLAY
from benchmark.results.store import candidates_file, write_instances
from benchmark.results.summary import ImageSummary
from datamodules.reading.files import write_mat
from postproc.codec import Codec, Maps, Params

A = ParamSpec("A")
T = TypeVar("T")


def decode_to_files(codecs: dict[str, tuple[Codec[Any], Params, Path]], maps: Maps, shape: tuple[int, int]) -> None:
    """Decode one image for several variants and write the results; runs in a worker process.

    Candidates are written before the nuclei, so that every existing prediction is complete.
    """
    for codec, params, path in codecs.values():
        with stage("decoding"):
            every = codec.candidates(maps, params)
            found = decode(codec, maps, params, shape)
        with stage("writing"):
            if every is not None:
                write_instances(candidates_file(path), restore(every, shape))
            write_instances(path, found)


def decode_to_pictures(
    maps: Maps,
    image: NDArray[np.uint8],
    name: str,
    codec: Codec[Any],
    params: Params,
    types: tuple[str, ...],
    path: Path,
    mpp: float | None,
) -> ImageSummary:
    """Decode one image, write its results with the prefix `path` and return a summary; runs in a worker process.

    The overlay has a legend, and a scale bar if the microns per pixel of the image, `mpp`, are known.
    """
    with stage("decoding"):
        found = restore(codec.rate(codec.decode(maps, params), maps), (image.shape[0], image.shape[1]))
    with stage("writing"):
        labels = path.parent / f"{path.name}.mat"
        if found.labels is not None:
            write_mat(labels, found)
        else:
            labels.unlink(missing_ok=True)  # result of an earlier call with another method
        write_png(
            path.parent / f"{path.name}{OVERLAY}", with_legend(overlay(image, found), entries_of(found, types), mpp)
        )
        write_geojson(path.parent / f"{path.name}.geojson", geojson(found, types))
    return ImageSummary.of(name, found.count, found.types, types)


@contextmanager
def decoders(workers: int) -> Iterator[Executor | None]:
    """Yield a pool of decoding processes; None (decode in this process) if `workers` is 0.

    Workers are spawned, because a fork of a process with torch threads can hang.
    """
    if workers == 0:
        yield None
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker) as pool:
        yield pool


def submit(pool: Executor | None, call: Callable[A, T], *args: A.args, **kwargs: A.kwargs) -> Future[T]:
    """Submit a call to the pool, or call it here without a pool."""
    if pool is not None:
        return pool.submit(call, *args, **kwargs)
    done: Future[T] = Future()
    done.set_result(call(*args, **kwargs))
    return done
