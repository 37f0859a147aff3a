"""Tune post-processing parameters on the validation images."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np

from benchmark.forward.maps import predict_maps
from benchmark.forward.scaling import decode, rescale
from benchmark.host.files import read_json, write_json
from benchmark.host.progress import track
from benchmark.inference.decoding import decoders
from benchmark.metrics.contingency import contingency
from benchmark.metrics.image import score_image
from benchmark.metrics.instance import aji
from benchmark.results.run import Run
from benchmark.results.store import RunStore
from datamodules.drawing.labelled import has_nuclei
from postproc.codec import Codec, Maps, Params, search_space
from postproc.instances import Instances


def fit_parameters(run: Run) -> dict[str, Params]:
    """Return the post-processing parameters of every variant, tuned under protocol ``strict``.

    Under protocol ``paper``, the parameters of the paper are used. The result is stored with the score of every
    candidate; a resumed run reads it and adds missing variants.
    """
    store, method = run.store, run.method
    stored = read_json(store.params_file) if store.params_file.exists() else {}
    codecs = {variant: codec for variant, codec in method.codecs.items() if variant not in stored}
    chosen = {v: codec.params_type(**stored[v]["params"]) for v, codec in method.codecs.items() if v in stored}
    trials = {variant: stored[variant]["trials"] for variant in chosen}
    if not codecs:
        return chosen
    if not run.strict:
        chosen |= {variant: codec.defaults() for variant, codec in codecs.items()}
        write_parameters(store, chosen, trials)
        return {variant: chosen[variant] for variant in method.codecs}
    images = _predicted(run)
    for variant, codec in codecs.items():
        radius, workers = run.sources.validation.data.card.radius, run.machine.decoders()
        chosen[variant], trials[variant] = tune(codec, images, radius, workers, run.machine.progress)
    write_parameters(store, chosen, trials)
    return {variant: chosen[variant] for variant in method.codecs}


def _predicted(run: Run) -> list[tuple[Maps, Instances]]:
    """Return maps and annotation of every validation image with nuclei."""
    found: list[tuple[Maps, Instances]] = []
    source = run.sources.validation
    for record in track(source.records(), "predicting validation images", run.machine.progress):
        sample = source.data.read(record)
        if not has_nuclei(sample.truth):
            continue  # only regions are annotated
        image = rescale(sample.image, run.magnification, sample.magnification)
        found.append((predict_maps(run.method, image, run.settings), sample.truth))
    return found


def candidates(codec: Codec[Any]) -> list[Params]:
    """Return all combinations of the tunable parameters of a codec, starting with those of the paper."""
    space = search_space(codec.params_type)
    default = codec.defaults()
    grid = [
        dataclasses.replace(default, **dict(zip(space, values, strict=True)))
        for values in itertools.product(*space.values())
    ]
    return [default, *(params for params in grid if params != default)]


def tune(
    codec: Codec[Any], images: list[tuple[Maps, Instances]], radius: float, workers: int, progress: bool = True
) -> tuple[Params, list[dict[str, Any]]]:
    """Return the best of all candidate parameters, and the score of every candidate.

    The score is the mean over images. The first of equal candidates wins, so the paper's parameters are kept unless
    others are better.

    Args:
        codec: Codec that decodes the maps.
        images: Maps and annotation of each validation image.
        radius: Largest distance of a matched detection in pixels.
        workers: Decoding processes.
        progress: Show a progress bar.
    """
    grid = candidates(codec)
    jobs = [(params, maps, truth) for params in grid for maps, truth in images]
    with decoders(workers if workers > 1 else 0) as pool:  # one worker next to an idle process is no faster
        if pool is None:
            values = [_score(codec, *job, radius) for job in track(jobs, "tuning post-processing", progress)]
        else:
            futures = [pool.submit(_score, codec, *job, radius) for job in jobs]
            values = [future.result() for future in track(futures, "tuning post-processing", progress)]
    scores = np.array(values).reshape(len(grid), len(images))
    means = np.nan_to_num(np.nanmean(scores, axis=1), nan=-1.0) if scores.size else np.zeros(len(grid))
    best = int(np.argmax(means))
    trials = [{**dataclasses.asdict(params), "score": float(mean)} for params, mean in zip(grid, means, strict=True)]
    return grid[best], trials


def _score(codec: Codec[Any], params: Params, maps: Maps, truth: Instances, radius: float) -> float:
    """Return the score to maximise: AJI (DIST paper, section VI-C), or the F1 of detection without outlines."""
    found = decode(codec, maps, params, truth.shape)
    if truth.labels is not None and found.labels is not None:
        return aji(contingency(truth.labels, found.labels))
    return score_image(truth, found, radius=radius)["f1"]


def write_parameters(store: RunStore, chosen: dict[str, Params], trials: dict[str, Any]) -> None:
    """Write the parameters of each variant, and the score of every candidate."""
    write_json(
        store.params_file,
        {
            variant: {"params": dataclasses.asdict(params), "trials": trials.get(variant, [])}
            for variant, params in chosen.items()
        },
    )
