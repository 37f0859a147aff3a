"""Training items and their order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import numpy as np
from torch.utils.data import Dataset, Sampler

from datamodules.drawing.crops import Drawer, area_around, nuclei_by_type
from datamodules.reading.sample import Sample
from postproc.codec import Targets


class Items(Dataset[Targets], ABC):
    """Training items that are made on access."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of items in an epoch."""


class EpochSampler(Sampler[int]):
    """Sampler of ``epoch * length + item`` in a fixed order, so that workers need no state to know the epoch.

    Args:
        length: Items in an epoch.
        epoch: Returns the number of the epoch when an iteration begins.
        rank: Rank of this process in distributed training.
        world: Number of training processes; each takes every `world`-th item.
        done: Returns, when an iteration begins, how many items of the epoch this process has already drawn: a resumed
            run skips them. The length remains that of the whole epoch.
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
    """Items drawn from samples in memory; item k depends only on (seed, k).

    In each epoch every image is drawn from `per_image` times, in a newly shuffled order. With a `window`, an epoch has
    the same length, but each item shows the surroundings of a nucleus: a type is drawn uniformly from the types in the
    images, then one of its nuclei from any image.

    Args:
        samples: The images.
        draw: Drawer of an item from a sample.
        per_image: Items per image in an epoch.
        seed: Seed of the run.
        window: Side, in pixels, of the area around the nucleus for `draw`; None = whole images.

    Raises:
        DataError: If `window` is given, but no nucleus has a type.
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
