"""The nuclei of an image that is decoded by region: a journal while they are found, and their final numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.inference.large_decoding import NAME, Found
from benchmark.inference.sizes import FIRST_X, FIRST_Y, SIZES, Sizes
from benchmark.inference.workplace import read_lines
from benchmark.results.summary import ImageSummary

Ints = NDArray[np.int64]


class Nuclei:
    """Nuclei in the order in which their regions are decoded; outlines are on disk.

    A region is recorded after its outlines are written. If a kill comes between, they are cut off when the journal is
    opened again, and the region is decoded again.

    Args:
        folder: Folder of the journal; nuclei of an interrupted command are kept.

    Attributes:
        regions: Number of regions.
        count: Number of nuclei so far, including those whose pixels belong to others.
    """

    def __init__(self, folder: Path) -> None:
        self.regions = 0
        self.count = 0
        self._sizes: list[Sizes] = [np.zeros((0, SIZES))]
        self._lengths: list[Ints] = [np.zeros(0, np.int64)]
        self._types: list[Ints] = []
        self._scores: list[NDArray[np.float32]] = []
        journal, outlines = folder / "regions.jsonl", folder / "outlines.jsonl"
        for lengths, sizes, types, scores in read_lines(journal):
            self._keep(
                np.array(lengths, np.int64),
                np.array(sizes, np.float64).reshape(-1, SIZES),
                None if types is None else np.array(types, np.int64),
                None if scores is None else np.array(scores, np.float32),
            )
        self._journal = journal.open("a", encoding="utf-8")
        self._outlines = outlines.open("r+b" if outlines.exists() else "w+b")
        self._outlines.truncate(int(sum(part.sum() for part in self._lengths)))
        self._outlines.seek(0, 2)

    def _keep(self, lengths: Ints, sizes: Sizes, types: Ints | None, scores: NDArray[np.float32] | None) -> None:
        self.regions += 1
        self.count += len(lengths)
        self._lengths.append(lengths)
        self._sizes.append(sizes)
        if types is not None:
            self._types.append(types)
        if scores is not None:
            self._scores.append(scores)

    def add(self, found: Found) -> None:
        """Append the nuclei of a region."""
        texts = [feature.encode() for feature in found.drawn.features]
        lengths = np.array([len(text) for text in texts], np.int64)
        self._outlines.write(b"".join(texts))
        self._outlines.flush()
        columns = lengths, found.drawn.sizes, found.types, found.scores
        self._journal.write(json.dumps([None if each is None else each.tolist() for each in columns]) + "\n")
        self._journal.flush()
        self._keep(*columns)

    def finish(self) -> None:
        """Number the nuclei in raster order of their first pixel.

        Sets `sizes`, float64 (N, 6), see `benchmark.inference.sizes`; `types`, int64 (N,), and `scores`, float32 (N,),
        both None if the method has none; and `order`, int64 (M,), the positions of the nuclei that have pixels.
        """
        lengths = np.concatenate(self._lengths)
        self._ends = np.cumsum(lengths)
        self._starts = self._ends - lengths
        self.sizes: Sizes = np.concatenate(self._sizes)
        self.types: Ints | None = np.concatenate(self._types) if self._types else None
        self.scores: NDArray[np.float32] | None = np.concatenate(self._scores) if self._scores else None
        found = np.flatnonzero(lengths)
        first = self.sizes[found]
        self.order: Ints = found[np.lexsort((first[:, FIRST_X], first[:, FIRST_Y]))]
        self._lengths, self._sizes, self._types, self._scores = [], [], [], []

    def numbers(self) -> NDArray[np.int32]:
        """Return the final number of each provisional one, int32 (count + 1,); 0 = without pixels."""
        new = np.zeros(self.count + 1, np.int32)
        new[self.order + 1] = np.arange(1, len(self.order) + 1)
        return new

    def texts(self) -> Iterator[str]:
        """Yield the GeoJSON of each nucleus under its final number, in this order."""
        for row, k in enumerate(self.order.tolist(), 1):
            start, end = int(self._starts[k]), int(self._ends[k])
            self._outlines.seek(start)
            yield self._outlines.read(end - start).decode().replace(NAME, f'"name": "{row}"', 1)

    def summary(self, name: str, names: tuple[str, ...]) -> ImageSummary:
        """Count the nuclei of each type.

        Args:
            name: Name of the image.
            names: Names of the types.
        """
        kinds = None if self.types is None else self.types[self.order]
        return ImageSummary.of(name, len(self.order), kinds, names)

    def close(self) -> None:
        """Close the files."""
        self._journal.close()
        self._outlines.close()


__all__ = ["Nuclei"]
