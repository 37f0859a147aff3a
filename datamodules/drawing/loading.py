"""`Loading`: how training items are drawn and batched."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader

from datamodules.drawing.crops import Drawer
from datamodules.drawing.items import EpochSampler, Items
from datamodules.reading.sample import Sample
from postproc.codec import Targets

VALIDATION_CROPS = 8
"""Items drawn from each validation image, always the same ones."""


@dataclass(frozen=True)
class Loading:
    """How training items are drawn and batched; set by the runner for each phase.

    Attributes:
        train: Drawer of training items.
        validation: Drawer of validation items (no augmentation).
        collate: Puts items together.
        batch_size: Items per batch.
        crops_per_image: Items drawn from each image in an epoch.
        strict: Protocol ``strict``: train without the validation images.
        split: Split to train on.
        seed: Seed of the run.
        workers: Processes that draw items; 0 draws in the training process.
        rank: This process among those that train together.
        world: Number of processes that train together.
        annotated: Read the annotation of training images; False for methods that learn without any.
        choose: Which of the training images are drawn from, and with which labels; None = all as they are.
        window: Side in px of the windows that training items are drawn from, each around a nucleus of a type that is
            chosen uniformly (`ItemDataset`); None = items are drawn from whole images, each as often as the others.
    """

    train: Drawer
    validation: Drawer
    collate: Callable[[list[Targets]], dict[str, Any]]
    batch_size: int
    crops_per_image: int
    strict: bool
    split: str = "train"
    seed: int = 0
    workers: int = 0
    rank: int = 0
    world: int = 1
    annotated: bool = True
    choose: Callable[[list[Sample]], list[Sample]] | None = None
    window: int | None = None


def loader(items: Items, loading: Loading, sampler: EpochSampler | None, *, drop_last: bool) -> DataLoader[Targets]:
    """Return the loader of items, in the order of `sampler`, or in their own."""
    return DataLoader(
        items,
        batch_size=loading.batch_size,
        sampler=sampler,
        collate_fn=loading.collate,
        num_workers=loading.workers,
        persistent_workers=loading.workers > 0,
        pin_memory=torch.cuda.is_available(),
        drop_last=drop_last and len(items) >= loading.batch_size,
        worker_init_fn=_leave_signals_to_the_first_process,
    )


def _leave_signals_to_the_first_process(worker: int) -> None:
    """Keep a worker alive when all processes of a job are told to stop: the first one still writes a checkpoint."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
