"""Time networks, post-processing and training steps of methods separately."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmark.forward.maps import InferenceSettings, predict_maps
from benchmark.host.precision import autocast_dtype
from benchmark.options import check_options
from benchmark.registry import method_class
from benchmark.speed.components import DENSITY, TYPES
from benchmark.speed.timing import Timing, measure
from datamodules.reading.sample import Sample
from datamodules.synthetic.images import generate
from models.base.method import Batch, NucleiMethod, Task
from postproc.codec import Targets


def build(name: str, options: dict[str, Any], types: tuple[str, ...] = TYPES) -> NucleiMethod:
    """Build a method with options, on the device used for training.

    Raises:
        ConfigError: If the method or an option is unknown.
    """
    kind = method_class(name)
    method = kind(Task(types), **check_options(kind, options)).to(memory_format=torch.channels_last)
    return method.cuda() if torch.cuda.is_available() else method


def label_of(name: str, options: dict[str, Any]) -> str:
    """Return the name of a method with options in tables."""
    return ", ".join([name, *(f"{key}={value}" for key, value in options.items())])


def method_timings(
    name: str, options: dict[str, Any], side: int, repeats: int, precision: str, *, train: bool
) -> list[Timing]:
    """Time the network on a whole image, the decoding, and a training step of a method separately.

    Args:
        name: Registry name.
        options: Options of the method.
        side: Side of the image in pixels.
        repeats: Counted runs.
        precision: Lightning precision of inference and training.
        train: Also time training steps.
    """
    method = build(name, options).eval()
    image, truth = generate((side, side), np.random.default_rng(0), density=DENSITY)
    settings = InferenceSettings(precision=precision)
    label, size = label_of(name, options), f"{side} px"
    found = [measure(f"{label}: network", size, truth.count, lambda: predict_maps(method, image, settings), repeats)]
    perfect = method.codec.perfect(method.codec.encode(truth))
    maps = {key: value.astype(np.float32) if value.dtype == np.float64 else value for key, value in perfect.items()}
    decode = partial(method.codec.decode, maps, method.codec.defaults())
    found.append(measure(f"{label}: post-processing", size, truth.count, decode, repeats))
    if train:
        found.append(training_timing(method, label, Sample(image, truth, "a", "a", 40.0), repeats, precision))
    return found


def collate(method: NucleiMethod, items: list[Targets]) -> Batch:
    """Collate training items on the device of the method."""
    batch = method.collate(items)
    return {name: v.to(method.device) if isinstance(v, torch.Tensor) else v for name, v in batch.items()}


def training_timing(method: NucleiMethod, label: str, sample: Sample, repeats: int, precision: str) -> Timing:
    """Time optimiser steps of the last phase at the batch and crop size of the recipe, with data on the device."""
    method.train()
    method.begin(method.recipe.phases[-1])
    optimizer = method.configure_optimizers()
    draw = method.drawer(method.recipe, augment=False)
    size = method.phase.batch_size
    items = [draw(sample, np.random.default_rng(i)) for i in range(size)]
    batch = collate(method, items)
    dtype = autocast_dtype(precision)
    scaler = torch.amp.GradScaler(method.device.type, enabled=dtype is torch.float16)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(method.device.type, dtype=dtype, enabled=dtype is not None):
            loss = torch.stack(list(method.losses(batch).values())).sum()
        torch.autograd.backward(scaler.scale(loss))
        scaler.step(optimizer)
        scaler.update()

    timing = measure(f"{label}: training step", f"{size} x {method.recipe.crop} px", sample.truth.count, step, repeats)
    return dataclasses.replace(timing, samples_per_second=1000 * size / timing.median_ms)
