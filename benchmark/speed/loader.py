"""Time training samples (crop, augmentation, targets) in one process and in several."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from benchmark.speed.components import DENSITY, TYPES
from benchmark.speed.timing import Timing, measure
from datamodules.drawing.augment import POLICIES, augment, build_policy
from datamodules.drawing.crops import CropDrawer, random_window
from datamodules.drawing.items import EpochSampler, ItemDataset
from datamodules.drawing.loading import start_loader
from datamodules.reading.sample import Sample
from datamodules.synthetic.images import generate
from postproc.codec import Targets
from postproc.codecs.hover import HoverCodec

CROP = 256
"""Side of the crops in pixels."""
BATCH = 8
SAMPLES = 16
"""Samples per counted run and process."""
STEPS = ("crop", "augmentation", "targets", "batching")


def loader_timings(repeats: int, workers: int, policies: Iterable[str] = tuple(POLICIES)) -> list[Timing]:
    """Time training samples under augmentation policies, with the targets of HoVer-Net with types.

    Samples are cropped from an image of 1000 x 1000 px in memory, as in training, which reads each image once. The
    steps are timed in one process, and whole samples also in `workers` processes.

    Args:
        repeats: Counted runs of each policy.
        workers: Number of processes of the second measurement; 0 skips it.
        policies: Names of policies.

    Returns:
        For each policy: the whole sample in one process, its steps with their share of the time, and the whole sample
        in `workers` processes.
    """
    sample = Sample(*generate((1000, 1000), np.random.default_rng(0), density=DENSITY), "synthetic", "synthetic")
    found = []
    for policy in policies:
        found += step_timings(sample, policy, repeats)
        if workers:
            found.append(worker_timing(sample, policy, repeats, workers))
    return found


def step_timings(sample: Sample, policy: str, repeats: int) -> list[Timing]:
    """Time the steps of `datamodules.drawing.crops.CropDrawer` and the batching of items, in this process.

    Args:
        sample: Source of the crops.
        policy: Augmentation policy.
        repeats: Counted runs, after an uncounted one.

    Returns:
        The whole sample, then its steps in order; milliseconds per sample.
    """
    stepwise = Stepwise(policy)
    rounds = []
    for turn in range(repeats + 1):
        spent = np.zeros(len(STEPS))
        for first in range(0, SAMPLES, BATCH):
            generators = [np.random.default_rng((turn, first, k)) for k in range(BATCH)]
            spent += stepwise.batch(sample, generators)[1]
        rounds.append(1000 * spent / SAMPLES)
    counted = np.array(rounds[1:])
    shares = counted.sum(axis=0) / counted.sum()
    whole = _timing(f"training sample, {policy}", sample, counted.sum(axis=1))
    largest = np.argsort(-shares, kind="stable")
    note = ", ".join(f"{STEPS[k]} {shares[k]:.0%}" for k in largest)
    return [
        dataclasses.replace(whole, samples_per_second=1000 / whole.median_ms, note=note),
        *(
            dataclasses.replace(_timing(f"training sample, {policy}: {name}", sample, counted[:, k]), share=shares[k])
            for k, name in enumerate(STEPS)
        ),
    ]


class Stepwise:
    """Draws batches as in training, and times the steps.

    Args:
        policy: Augmentation policy.
    """

    def __init__(self, policy: str) -> None:
        self._policy = build_policy(policy)
        self._codec = HoverCodec(len(TYPES))

    def batch(
        self, sample: Sample, generators: list[np.random.Generator]
    ) -> tuple[dict[str, torch.Tensor], NDArray[np.float64]]:
        """Return a batch of one item per generator, and the seconds spent in each of `STEPS`."""
        clock = time.perf_counter
        spent = np.zeros(len(STEPS))
        items = []
        for rng in generators:
            times = [clock()]
            image, truth = random_window(sample, CROP, rng, self._policy.window(CROP))
            times.append(clock())
            image, truth = augment(self._policy, image, truth, rng, CROP)
            times.append(clock())
            items.append(self._codec.encode(truth) | {"image": np.ascontiguousarray(image.transpose(2, 0, 1))})
            times.append(clock())
            spent[:3] += np.diff(times)
        started = clock()
        batch = collate(items)
        spent[3] = clock() - started
        return batch, spent


def _timing(job: str, sample: Sample, milliseconds: NDArray[np.float64]) -> Timing:
    middle, fastest, slowest = (float(f(milliseconds)) for f in (np.median, np.min, np.max))
    threads = torch.get_num_threads()
    return Timing(job, f"{CROP} px", sample.truth.count, middle, fastest, slowest, len(milliseconds), threads)


def collate(items: list[Targets]) -> dict[str, torch.Tensor]:
    """Stack items to a batch, as for dense methods."""
    return {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}


def worker_timing(sample: Sample, policy: str, repeats: int, workers: int) -> Timing:
    """Time the loader of training with worker processes, per sample.

    Args:
        sample: Source of the crops.
        policy: Augmentation policy.
        repeats: Counted epochs of `SAMPLES` samples per worker.
        workers: Number of processes.
    """
    epoch = iter(range(repeats + 1))
    items = ItemDataset([sample], CropDrawer(CROP, HoverCodec(len(TYPES)), policy), SAMPLES * workers, seed=0)
    loader = DataLoader(
        items,
        batch_size=BATCH,
        sampler=EpochSampler(len(items), lambda: next(epoch)),
        num_workers=workers,
        collate_fn=collate,
        persistent_workers=True,
        worker_init_fn=start_loader,
    )
    timing = measure(
        f"training sample, {policy}: {workers} workers", f"{CROP} px", sample.truth.count, _drain(loader), repeats
    )
    total = 1000 * len(items) / timing.median_ms
    each = {name: getattr(timing, name) / len(items) for name in ("median_ms", "fastest_ms", "slowest_ms")}
    note = f"{total / workers:.0f} per worker and second"
    return dataclasses.replace(timing, **each, samples_per_second=total, note=note)


def _drain(loader: DataLoader[Any]) -> Callable[[], None]:
    def run() -> None:
        for _ in loader:
            pass

    return run
