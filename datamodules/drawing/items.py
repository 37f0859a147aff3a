"""Training items: what is drawn from the images, and in which order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import numpy as np
from torch.utils.data import Dataset, Sampler

from datamodules.drawing.crops import Drawer, area_around, nuclei_by_type
from datamodules.reading.sample import Sample
from postproc.codec import Targets


class Items(Dataset[Targets], ABC):
    """Training items that are made when they are asked for."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of items in an epoch."""


class EpochSampler(Sampler[int]):
    """Gives ``epoch * length + item`` in a fixed order, so that workers need no state to know the epoch.

    Args:
        length: Items in an epoch.
        epoch: Tells the number of the epoch when an iteration begins.
        rank: This process among those that train together.
        world: Number of processes that train together; each takes every `world`-th item.
        done: Tells how many items of the epoch this process has had, when an iteration begins: a resumed run leaves
            them out. The length stays that of the whole epoch.
    """

    def __init__(
        self,
        length: int,
        epoch: Callable[[], int],
        rank: int = 0,
        world: int = 1,
        done: Callable[[], int] = lambda: 0,
    ) -> None:
        self._length = length
        self._epoch = epoch
        self._rank = rank
        self._world = world
        self._done = done

    def __iter__(self) -> Iterator[int]:
        start = self._epoch() * self._length
        first = start + self._rank + self._done() * self._world
        return iter(range(first, start + len(self) * self._world, self._world))

    def __len__(self) -> int:
        return self._length // self._world


class ItemDataset(Items):
    """Items drawn from samples in memory; item k depends on (seed, k) alone.

    In each epoch every image is drawn from `per_image` times, in an order shuffled anew. With a `window`, an epoch is
    as long, but each item comes from around a nucleus: first a type is drawn, all those of the images being equally
    likely, then one of its nuclei, from whatever image.

    Args:
        samples: The images.
        draw: Draws an item from a sample.
        per_image: Items per image in an epoch.
        seed: Seed of the run.
        window: Side in px of the area around the nucleus that `draw` draws from; None = whole images.

    Raises:
        DataError: If there is a `window`, but no nucleus with a type.
    """

    def __init__(
        self, samples: list[Sample], draw: Drawer, per_image: int, seed: int, window: int | None = None
    ) -> None:
        self._samples = samples
        self._draw = draw
        self._per_image = per_image
        self._seed = seed
        self._window = window
        self._by_type = [] if window is None else nuclei_by_type(samples)

    def __len__(self) -> int:
        return len(self._samples) * self._per_image

    def __getitem__(self, key: int) -> Targets:
        epoch, item = divmod(key, len(self))
        if self._window is not None:
            return self._draw_balanced(np.random.default_rng((self._seed, epoch, item)), self._window)
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self))
        sample = self._samples[order[item] % len(self._samples)]
        return self._draw(sample, np.random.default_rng((self._seed, epoch, item)))

    def _draw_balanced(self, rng: np.random.Generator, window: int) -> Targets:
        nuclei = self._by_type[int(rng.integers(len(self._by_type)))]
        image, x, y = nuclei[int(rng.integers(len(nuclei)))]
        sample = self._samples[int(image)]
        return self._draw(sample, rng, area_around((float(x), float(y)), window, sample.truth.shape))


__all__ = ["EpochSampler", "ItemDataset", "Items"]
