"""Write the results of a large image by bands: label map, table, outlines, overlay."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, cast

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from benchmark.forward.scaling import nearest
from benchmark.host.files import atomic
from benchmark.inference.disk import DiskArray
from benchmark.inference.nuclei import Nuclei
from benchmark.inference.sizes import AREA, PERIMETER, X, Y
from benchmark.results.pictures import PALETTE, write_png
from datamodules.reading.files import replacing
from datamodules.reading.rasters import Raster
from postproc.cells import shown
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


def write_tiff(path: Path, view: LabelView, nuclei: Nuclei) -> None:
    """Write the label map as a tiled, compressed TIFF of int32, atomically."""
    new = nuclei.numbers()

    def tiles() -> Iterator[LabelMap]:
        for _, band in view.bands():
            named = new[band]
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


def write_csv(path: Path, nuclei: Nuclei, names: tuple[str, ...], mpp: float | None = None) -> None:
    """Write a row per nucleus: number, centroid, area, perimeter and, if known, type and confidence.

    The centre of the first pixel is (0, 0), as in label maps and tables of points; in GeoJSON and QuPath it is
    (0.5, 0.5).

    Args:
        path: The file.
        nuclei: Nuclei of the image.
        names: Names of the types.
        mpp: Microns per pixel; None = sizes in pixels only.
    """
    heads = ["id", "x", "y", "area", "perimeter"]
    heads += ["area_um2", "perimeter_um"] if mpp is not None else []
    heads += ["type", "name"] if nuclei.types is not None else []
    heads += ["confidence"] if nuclei.scores is not None else []
    cells = ["", *(shown(name) for name in names)]
    with atomic(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(heads)
        for row, k in enumerate(nuclei.order.tolist(), 1):
            area, perimeter, x, y = nuclei.sizes[k, [AREA, PERIMETER, X, Y]].tolist()
            values: list[object] = [row, f"{x:.2f}", f"{y:.2f}", round(area), f"{perimeter:.2f}"]
            if mpp is not None:
                values += [f"{area * mpp**2:.3f}", f"{perimeter * mpp:.3f}"]
            if nuclei.types is not None:
                kind = int(nuclei.types[k])
                values += [kind, cells[kind] if 0 < kind < len(cells) else ""]
            if nuclei.scores is not None:
                values.append(f"{nuclei.scores[k]:.4f}")
            writer.writerow(values)


def write_geojson(path: Path, nuclei: Nuclei) -> None:
    """Write the outlines as a GeoJSON feature collection for QuPath, one nucleus per line.

    Args:
        path: The file; compressed by gzip if it ends in .gz.
        nuclei: Nuclei of the image.
    """
    with atomic(path) as target, _compressed(target, path.suffix == ".gz") as file:
        file.write(b'{"type": "FeatureCollection", "features": [')
        separator = b"\n"
        for text in nuclei.texts():
            file.write(separator + text.encode())
            separator = b",\n"
        file.write(b"\n]}\n")


def _compressed(target: IO[bytes], wanted: bool) -> AbstractContextManager[IO[bytes]]:
    """Return a file that writes to `target`, by gzip if wanted, without name and time in its header."""
    if not wanted:
        return nullcontext(target)
    return cast("AbstractContextManager[IO[bytes]]", gzip.GzipFile("", "wb", 6, target, mtime=0))


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
