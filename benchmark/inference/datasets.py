"""Predict the nuclei of datasets: the network in this process, decoding in parallel worker processes."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

from benchmark.forward.maps import predict_maps
from benchmark.forward.scaling import rescale
from benchmark.host.progress import track
from benchmark.host.stages import stage
from benchmark.inference.decoding import decode_to_files, decoders, submit
from benchmark.results.run import Ready, Run
from datamodules.reading.records import Record
from datamodules.sources import ImageSet
from postproc.codec import Params

FEW_IMAGES = 8
"""Minimum number of images for decoding in workers if the network runs on a CPU. Starting workers takes seconds each,
and they compete with the network for the CPU. A GPU never waits for decoding."""
PENDING_PER_WORKER = 2
"""Maximum number of images per worker whose maps wait for decoding; limits memory if decoding is slow."""


def predict_dataset(run: Run | Ready, images: ImageSet, params: dict[str, Params]) -> None:
    """Predict all images for all variants; existing predictions are skipped.

    Images are rescaled to the magnification of the training images, and nuclei are mapped back.

    Args:
        run: A trained run.
        images: Images to predict.
        params: Post-processing parameters per variant.
    """
    method, workers = run.method, run.machine.decoders()
    todo: list[tuple[Record, dict[str, Path]]] = []
    for record in images.records():
        paths = {v: run.store.prediction_file(images.data.card.name, v, record.image_id) for v in params}
        missing = {variant: path for variant, path in paths.items() if not path.exists()}
        if missing:
            todo.append((record, missing))
    if not todo:
        return
    beside = len(todo) >= (FEW_IMAGES if method.device.type == "cpu" else 2)
    with decoders(min(workers, len(todo)) if beside else 0) as pool:
        pending: list[Future[None]] = []
        for record, paths in track(todo, f"predicting {images}", run.machine.progress):
            with stage("reading images"):
                sample = images.data.read_image(record)  # without the annotation, which takes longer to read
            scaled = rescale(sample.image, run.magnification, sample.magnification)
            with stage("network"):
                maps = predict_maps(method, scaled, run.settings)
            jobs = {variant: (method.codecs[variant], params[variant], path) for variant, path in paths.items()}
            pending.append(submit(pool, decode_to_files, jobs, maps, sample.truth.shape))
            while len(pending) > PENDING_PER_WORKER * workers:
                _wait_for(pending.pop(0))
        for future in pending:
            _wait_for(future)


def _wait_for(future: Future[None]) -> None:
    with stage("waiting for decoding"):
        future.result()


__all__ = ["predict_dataset"]
