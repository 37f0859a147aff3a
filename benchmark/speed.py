"""`nucbench speed`: what metrics, targets, post-processing, loading and networks cost on this machine."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch

from benchmark.environment import hardware
from benchmark.inference import InferenceSettings, predict_maps
from benchmark.metrics.centroids import label_centroids
from benchmark.metrics.contingency import contingency
from benchmark.metrics.image import object_scores, score_image
from benchmark.options import check_options
from benchmark.precision import autocast_dtype, resolve
from benchmark.registry import method_class
from benchmark.report import print_frame
from benchmark.store import write_scores
from datamodules.augment import POLICIES
from datamodules.drawing import CropDrawer
from datamodules.sample import Sample
from datamodules.synthetic import generate
from models.base import NucleiMethod, Task
from postproc.codec import Codec
from postproc.distance import DistanceCodec, chessboard
from postproc.hover import HoverCodec
from postproc.instances import Instances

TYPES = ("miscellaneous", "inflammatory", "epithelial", "spindle")
DENSITY = 7e-4
"""Nuclei per px: 700 in an image of 1000 x 1000."""
CROP = 256


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds that one job took over several runs after one that is not counted."""

    job: str
    size: str
    nuclei: int
    median: float
    fastest: float
    slowest: float
    runs: int


def measure(job: str, size: str, nuclei: int, call: Callable[[], Any], repeats: int) -> Timing:
    """Time a call; the first one, which compiles and fills caches, is not counted."""
    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return Timing(job, size, nuclei, float(np.median(seconds)), min(seconds), max(seconds), repeats)


def perturbed(truth: Instances, rng: np.random.Generator) -> Instances:
    """Return a prediction-like copy: moved by two px, one nucleus in ten missing."""
    assert truth.labels is not None
    assert truth.types is not None
    labels = np.roll(truth.labels, (2, 1), axis=(0, 1))
    keep = np.concatenate([[True], rng.random(truth.count) > 0.1])
    numbers = np.where(keep, np.cumsum(keep) - 1, 0)
    return Instances(truth.shape, labels=numbers[labels].astype(np.int32), types=truth.types[keep[1:]])


def component_timings(side: int, repeats: int, seed: int = 0) -> list[Timing]:
    """Time metrics, targets and post-processing on a synthetic label map, in one thread.

    Args:
        side: Side of the image in px; it holds 700 nuclei per 1000 x 1000 px.
        repeats: Counted runs of each job.
        seed: Of the label map.
    """
    rng = np.random.default_rng(seed)
    _, truth = generate((side, side), rng, density=DENSITY)
    assert truth.labels is not None
    found = perturbed(truth, rng)
    labels, predicted = truth.labels, found.labels
    assert predicted is not None
    plain, typed, distance = HoverCodec(0), HoverCodec(len(TYPES)), DistanceCodec()
    noisy = {"distance": _blurred(distance.perfect(distance.encode(truth))["distance"])}
    jobs: dict[str, Callable[[], Any]] = {
        "DICE, AJI, AJI+, DICE2, DQ, SQ, PQ": lambda: object_scores(contingency(labels, predicted)),
        "all scores of an image, with types": lambda: score_image(truth, found, radius=12.0, types=len(TYPES)),
        "centroids": lambda: label_centroids(labels),
        "HoVer targets": lambda: plain.encode(truth),
        "chessboard distance": lambda: chessboard(labels),
        "HoVer post-processing": _decoding(plain, truth),
        "HoVer post-processing with types": _decoding(typed, truth),
        "DIST post-processing": lambda: distance.decode(noisy, distance.defaults()),
    }
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return [measure(job, f"{side} px", truth.count, call, repeats) for job, call in jobs.items()]
    finally:
        cv2.setNumThreads(threads)


def _blurred(maps: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Smooth a perfect map as a network would."""
    return np.stack([cv2.GaussianBlur(channel, (0, 0), 1.0) for channel in maps])


def _decoding(codec: Codec[Any], truth: Instances) -> Callable[[], Any]:
    maps = {name: _blurred(value.astype(np.float32)) for name, value in codec.perfect(codec.encode(truth)).items()}
    params = codec.defaults()
    return lambda: codec.decode(maps, params)


def loader_timings(repeats: int) -> list[Timing]:
    """Time drawing one training crop (crop, augmentation, HoVer targets) under every policy, in one process."""
    image, truth = generate((1000, 1000), np.random.default_rng(0), density=DENSITY)
    sample = Sample(image, truth, "synthetic", "synthetic")
    drawers = {policy: CropDrawer(CROP, HoverCodec(len(TYPES)), policy) for policy in POLICIES}
    return [
        measure(f"10 training crops, {policy}", f"{CROP} px", truth.count, partial(_draw, draw, sample), repeats)
        for policy, draw in drawers.items()
    ]


def _draw(draw: CropDrawer, sample: Sample) -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        draw(sample, rng)


def method_timings(
    name: str, options: dict[str, Any], side: int, repeats: int, precision: str, *, train: bool
) -> list[Timing]:
    """Time a method's network on a whole image, its decoding, and a training step, apart from each other.

    Args:
        name: Registry name.
        options: Options of the method.
        side: Side of the image in px.
        repeats: Counted runs.
        precision: Lightning precision of inference and training.
        train: Time training steps too.
    """
    kind = method_class(name)
    method = kind(Task(TYPES), **check_options(kind, options)).to(memory_format=torch.channels_last)
    method = method.cuda() if torch.cuda.is_available() else method
    image, truth = generate((side, side), np.random.default_rng(0), density=DENSITY)
    settings = InferenceSettings(precision=precision)
    method.eval()
    label = ", ".join([name, *(f"{key}={value}" for key, value in options.items())])
    found = [
        measure(f"{label}: network", f"{side} px", truth.count, lambda: predict_maps(method, image, settings), repeats)
    ]
    perfect = method.codec.perfect(method.codec.encode(truth))
    maps = {key: value.astype(np.float32) if value.dtype == np.float64 else value for key, value in perfect.items()}
    decode = partial(method.codec.decode, maps, method.codec.defaults())
    found.append(measure(f"{label}: post-processing", f"{side} px", truth.count, decode, repeats))
    if train:
        found.append(_training(method, label, Sample(image, truth, "a", "a", 40.0), repeats, precision))
    return found


def _training(method: NucleiMethod, label: str, sample: Sample, repeats: int, precision: str) -> Timing:
    """Time optimiser steps of the last phase at the recipe's batch and crop size."""
    method.train()
    method.phase = method.recipe.phases[-1]
    optimizer = method.configure_optimizers()
    draw = method.drawer(method.recipe, augment=False)
    items = [draw(sample, np.random.default_rng(i)) for i in range(method.phase.batch_size)]
    batch = {
        key: value.to(method.device) if isinstance(value, torch.Tensor) else value
        for key, value in method.collate(items).items()
    }
    dtype = autocast_dtype(precision)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(method.device.type, dtype=dtype, enabled=dtype is not None):
            loss = torch.stack(list(method.losses(batch).values())).sum()
        torch.autograd.backward(loss)
        optimizer.step()

    size = f"{method.phase.batch_size} x {method.recipe.crop} px"
    return measure(f"{label}: training step", size, sample.truth.count, step, repeats)


def run_speed(
    methods: list[str],
    options: dict[str, Any],
    sides: list[int],
    repeats: int,
    precision: str,
    out: Path,
    *,
    train: bool,
) -> Path:
    """Time components (and methods, where some are named), print a table and write it as CSV.

    The file is named by hardware, precision and version of torch, so that measurements of several machines lie
    side by side.

    Args:
        methods: Methods to time; empty = the components alone.
        options: Options of the methods.
        sides: Sides of the images in px.
        repeats: Counted runs of each job.
        precision: Lightning precision.
        out: Folder to write.
        train: Time training steps too.

    Returns:
        The file written.
    """
    timings: list[Timing] = []
    if methods:
        for name in methods:
            for side in sides:
                timings += method_timings(name, options, side, repeats, precision, train=train and side == sides[0])
    else:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        for side in sides:
            timings += component_timings(side, repeats)
        timings += loader_timings(repeats)
        torch.set_num_threads(threads)
    frame = pd.DataFrame([dataclasses.asdict(timing) for timing in timings])
    kind = "-".join(methods) if methods else "components"
    slug = re.sub(r"[^a-z0-9]+", "-", f"{kind} {hardware()} {resolve(precision)} torch {version('torch')}".lower())
    path = out / f"{slug.strip('-')}.csv"
    write_scores(path, frame)
    shown = frame.assign(**{f"{name} ms": frame[name] * 1000 for name in ("median", "fastest", "slowest")})
    print_frame(shown[["job", "size", "nuclei", "median ms", "fastest ms", "slowest ms", "runs"]])
    print(f"written to {path}")
    return path
