"""`Loading`: settings for drawing and batching training items."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from benchmark.host.threads import use_one_thread
from datamodules.drawing.crops import Drawer
from datamodules.drawing.items import EpochSampler, Items
from datamodules.reading.sample import Sample
from postproc.codec import Targets

VALIDATION_CROPS = 8
"""Number of fixed items drawn from each validation image."""


@dataclass(frozen=True)
class Loading:
    """Settings for drawing and batching items in a training phase.

    Attributes:
        train: Drawer of training items.
        validation: Drawer of validation items (no augmentation).
        collate: Function that combines items into a batch.
        batch_size: Items per batch.
        crops_per_image: Items drawn from each image in an epoch.
        seed: Seed of crops and augmentation.
        workers: Processes that draw items; 0 draws in the training process.
        rank: Rank of this process in distributed training.
        world: Number of training processes.
        choose: Selects training images and their labels; None = all, unchanged.
        window: Side, in pixels, of the windows from which training items are drawn, each around a nucleus of a
            uniformly chosen type (`ItemDataset`); None = items are drawn from whole images, equally often from each.
    """

    train: Drawer
    validation: Drawer
    collate: Callable[[list[Targets]], dict[str, Any]]
    batch_size: int
    crops_per_image: int
    seed: int = 0
    workers: int = 0
    rank: int = 0
    world: int = 1
    choose: Callable[[list[Sample]], list[Sample]] | None = None
    window: int | None = None


def item_loader(
    items: Items, loading: Loading, sampler: EpochSampler | None, *, drop_last: bool
) -> DataLoader[Targets]:
    """Return the loader of items, in the order of `sampler`, or in dataset order."""
    return DataLoader(
        items,
        batch_size=loading.batch_size,
        sampler=sampler,
        collate_fn=loading.collate,
        num_workers=loading.workers,
        persistent_workers=loading.workers > 0,
        pin_memory=torch.cuda.is_available(),
        drop_last=drop_last and len(items) >= loading.batch_size,
        worker_init_fn=start_loader,
    )


def validation_loader(crops: Items, images: list[Sample], loading: Loading) -> DataLoader[Any]:
    """Return the loader of batches of crops, followed by whole images, one at a time and unchanged."""
    size, count = loading.batch_size, len(crops)
    batches = [list(range(start, min(start + size, count))) for start in range(0, count, size)]
    return DataLoader(
        _CropsAndImages(crops, images),
        batch_sampler=[*batches, *([count + number] for number in range(len(images)))],
        collate_fn=partial(_crops_or_image, loading.collate),
        num_workers=loading.workers,
        persistent_workers=loading.workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=start_loader,
    )


class _CropsAndImages(Dataset[Any]):
    """Validation crops, followed by whole images."""

    def __init__(self, crops: Items, images: list[Sample]) -> None:
        self._crops, self._images = crops, images

    def __len__(self) -> int:
        return len(self._crops) + len(self._images)

    def __getitem__(self, index: int) -> Targets | Sample:
        return self._crops[index] if index < len(self._crops) else self._images[index - len(self._crops)]


def _crops_or_image(collate: Callable[[list[Targets]], dict[str, Any]], items: list[Any]) -> dict[str, Any] | Sample:
    return items[0] if isinstance(items[0], Sample) else collate(items)


def sample_loader(samples: Sequence[Sample]) -> DataLoader[Sample]:
    """Return the loader of whole images, one at a time and unchanged."""
    return DataLoader(samples, batch_size=1, collate_fn=_only)  # type: ignore[arg-type]  # any sequence is a dataset


def _only(samples: list[Sample]) -> Sample:
    return samples[0]


def start_loader(worker: int) -> None:
    """Prepare a worker: one thread, and no end when its job is signalled to stop.

    The main process still writes a checkpoint then, and waits for its workers.
    """
    use_one_thread()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
