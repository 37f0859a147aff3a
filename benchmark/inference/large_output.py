"""Write the results of a large image by bands: label map, table, outlines, overlay."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from benchmark.forward.scaling import nearest
from benchmark.host.files import atomic
from benchmark.inference.disk import DiskArray
from benchmark.inference.large_decoding import NAME, Found
from benchmark.results.pictures import PALETTE, write_png
from datamodules.reading.files import replacing
from datamodules.reading.rasters import Raster
from postproc.cells import shown
from postproc.pixels.clusters import extents
from postproc.pixels.labels import LabelMap

TILE = 512
"""Side of the tiles of label maps in pixels; also the number of rows in memory at once."""
OVERLAY = 4096
"""Maximum side of the overlay in pixels."""

Ints = NDArray[np.int64]


class LabelView:
    """A label map on disk, resized to the original image when read.

    Args:
        labels: int32 (1, h, w), at the size of the maps.
        shape: (H, W) of the original image.
    """

    def __init__(self, labels: DiskArray, shape: tuple[int, int]) -> None:
        self._labels = labels
        self.shape = shape

    def rows(self, top: int, bottom: int) -> LabelMap:
        """Return rows of the map, int32 (bottom - top, W); nearest pixels if the sizes differ."""
        _, height, width = self._labels.shape
        if (height, width) == self.shape:
            return np.asarray(self._labels.read((top, 0, bottom, width))[0], np.int32)
        y = nearest(height, self.shape[0])[top:bottom]
        x = nearest(width, self.shape[1])
        part = self._labels.read((int(y[0]), 0, int(y[-1]) + 1, width))[0]
        return np.asarray(part[y - y[0]][:, x], np.int32)

    def bands(self) -> Iterator[tuple[int, LabelMap]]:
        """Yield the first row and the rows of each band of `TILE` rows."""
        for top in range(0, self.shape[0], TILE):
            yield top, self.rows(top, min(top + TILE, self.shape[0]))


@dataclass(frozen=True)
class Numbers:
    """Final numbers of the nuclei, in raster order of their first pixel.

    Attributes:
        new: int32 (N + 1,), final number of each provisional number; 0 = without pixels.
        order: int64 (M,), provisional number - 1 of each nucleus.
        area: int64 (M,), pixels of each nucleus.
        centres: float64 (M, 2), centroids, (x, y) in pixels; the centre of the first pixel is (0, 0).
    """

    new: NDArray[np.int32]
    order: Ints
    area: Ints
    centres: NDArray[np.float64]

    @property
    def count(self) -> int:
        """Number of nuclei."""
        return len(self.order)

    @classmethod
    def of(cls, view: LabelView, count: int) -> Numbers:
        """Number the nuclei of a map with provisional numbers 1..count."""
        from postproc.pixels.spans import coordinate_sums

        first = np.full(count, -1, np.int64)
        sums = np.zeros((count + 1, 3), np.int64)
        for top, band in view.bands():
            _, here = extents(band, count, top, 0, view.shape[1])
            first = np.where(first < 0, here, first)
            part = coordinate_sums(band)
            sums[: len(part)] += part
            sums[: len(part), 2] += top * part[:, 0]
        found = np.flatnonzero(first >= 0)
        order = found[np.argsort(first[found])]
        new = np.zeros(count + 1, np.int32)
        new[order + 1] = np.arange(1, len(order) + 1)
        area = sums[order + 1, 0]
        return cls(new, order, area, sums[order + 1, 1:] / np.maximum(area, 1)[:, None])


class Outlines:
    """GeoJSON and types of the nuclei in the order of their provisional numbers; texts are stored in a file.

    Args:
        path: The file, created here.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b")
        self._starts = [0]
        self._types: list[NDArray[np.int64]] = []

    @property
    def count(self) -> int:
        """Number of nuclei so far."""
        return len(self._starts) - 1

    @property
    def types(self) -> Ints | None:
        """Type of each nucleus, int64 (N,); None without types."""
        return np.concatenate(self._types) if self._types else None

    def add(self, found: Found) -> None:
        """Append the nuclei of a region."""
        if found.types is not None:
            self._types.append(found.types)
        for feature in found.features:
            text = feature.encode()
            self._file.write(text)
            self._starts.append(self._starts[-1] + len(text))

    def text(self, k: int, name: int) -> str:
        """Return the GeoJSON of provisional nucleus k, from 0, under its final name; empty without outline."""
        self._file.seek(self._starts[k])
        return self._file.read(self._starts[k + 1] - self._starts[k]).decode().replace(NAME, f'"name": "{name}"', 1)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def write_tiff(path: Path, view: LabelView, numbers: Numbers) -> None:
    """Write the label map as a tiled, compressed TIFF of int32, atomically."""

    def tiles() -> Iterator[LabelMap]:
        for _, band in view.bands():
            named = numbers.new[band]
            for left in range(0, view.shape[1], TILE):
                part = named[:, left : left + TILE]
                yield np.pad(part, ((0, TILE - part.shape[0]), (0, TILE - part.shape[1])))

    big = view.shape[0] * view.shape[1] * 4 > 2**31
    with replacing(path) as temporary:
        tifffile.imwrite(
            temporary,
            tiles(),
            shape=view.shape,
            dtype=np.int32,
            tile=(TILE, TILE),
            compression="zlib",
            photometric="minisblack",
            bigtiff=big,
            maxworkers=1,
        )


def write_csv(path: Path, numbers: Numbers, types: Ints | None, names: tuple[str, ...]) -> None:
    """Write a row per nucleus: id, x, y, area in pixels and, with types, number and name of its type.

    The centre of the first pixel is (0, 0), as in label maps and tables of points; in GeoJSON and QuPath it is
    (0.5, 0.5).
    """
    with atomic(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "x", "y", "area", *(["type", "name"] if types is not None else [])])
        cells = [shown(name) for name in names]
        for row, k in enumerate(numbers.order.tolist()):
            x, y = numbers.centres[row].tolist()
            kind = [] if types is None else [int(types[k]), cells[types[k] - 1] if 0 < types[k] <= len(cells) else ""]
            writer.writerow([row + 1, f"{x:.2f}", f"{y:.2f}", int(numbers.area[row]), *kind])


def write_geojson(path: Path, numbers: Numbers, outlines: Outlines) -> None:
    """Write the outlines as a GeoJSON feature collection for QuPath, one nucleus per line."""
    with atomic(path, "w") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        separator = "\n"
        for row, k in enumerate(numbers.order.tolist()):
            text = outlines.text(k, row + 1)
            if text:
                file.write(separator + text)
                separator = ",\n"
        file.write("\n]}\n")


def write_overlay(path: Path, image: Raster, view: LabelView, types: Ints | None) -> None:
    """Write the image with the outlines of the nuclei as PNG, shrunk by an integer to at most `OVERLAY` px."""
    height, width = image.shape
    step = -(-max(height, width) // OVERLAY)
    kinds = np.zeros(1, np.int64) if types is None else np.concatenate([[0], types])
    rows = max(TILE // step, 1) * step
    parts = []
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        labels = view.rows(top, min(bottom + 1, height))
        pixels = image.read(top, 0, bottom, width)
        size = (-(-width // step), -(-(bottom - top) // step))
        small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)) if step > 1 else pixels.copy()
        drawn = _shrunk(_outline(labels, bottom - top, kinds), step)
        small[drawn > 0] = PALETTE[(drawn[drawn > 0] - 1) % len(PALETTE)]
        parts.append(small)
    write_png(path, np.concatenate(parts))


def _outline(labels: LabelMap, height: int, kinds: Ints) -> NDArray[np.uint8]:
    """Return type + 1 of nuclei at pixels with another label to the right or below, otherwise 0."""
    edge = np.zeros((height, labels.shape[1]), np.bool_)
    edge[:, :-1] = labels[:height, 1:] != labels[:height, :-1]
    below = labels[1 : height + 1]
    edge[: len(below)] |= below != labels[: len(below)]
    own = kinds[np.minimum(labels[:height], len(kinds) - 1)]
    other = labels[:height] == 0
    if edge.shape[1] > 1:  # an edge towards a nucleus on the right has the type of that nucleus
        own[:, :-1] = np.where(other[:, :-1], kinds[np.minimum(labels[:height, 1:], len(kinds) - 1)], own[:, :-1])
    return np.where(edge, own % len(PALETTE) + 1, 0).astype(np.uint8)


def _shrunk(drawn: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Return the maximum of each block of step x step px."""
    height, width = drawn.shape
    padded = np.pad(drawn, ((0, -height % step), (0, -width % step)))
    return np.asarray(padded.reshape(padded.shape[0] // step, step, -1, step).max(axis=(1, 3)), np.uint8)
