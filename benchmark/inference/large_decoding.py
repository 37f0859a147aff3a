"""Decode an image by region: the work of a worker process, and its distribution. Does not import torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.forward.scaling import nearest
from benchmark.inference.disk import DiskArray, read_maps
from benchmark.inference.sizes import SIZES, Sizes, measurements, polygon_sizes
from benchmark.results.pictures import geojson
from postproc.codec import Codec, Params, Survey
from postproc.instances import Instances
from postproc.pixels.clusters import Block, Box, Clusters, empty_block, extents, keep_clusters, label_block
from postproc.pixels.components import connected_components
from postproc.pixels.labels import LabelMap, relabel

BLOCK = 2048
"""Side in pixels of the blocks that are surveyed, and whose nuclei are decoded by one worker."""
BEYOND = 512
"""Pixels by which a cluster may extend beyond its block and still be decoded with the others."""
LARGEST = (BLOCK + 2 * BEYOND) ** 2
"""Maximum pixels of a region that is decoded at once. A larger cluster is decoded block by block."""
HALO = 256
"""Pixels around a block, so that nuclei of such a cluster are complete."""
ALIGNMENT = 64
"""Regions start at multiples of this many pixels, to keep the raster order and vector instructions of the image."""
NAME = '"name": "@"'
"""Placeholder for the name of a nucleus until all are numbered."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Work:
    """Common inputs of all workers of one image.

    Attributes:
        codec: Codec.
        params: Parameters of the codec.
        maps: Maps of the network.
        shape: (H, W) of the maps in pixels.
        types: Names of the types.
        original: (H, W) of the original image, for outlines; None = `shape`.
        mpp: Microns per pixel of the original image, for measurements in GeoJSON; None = without measurements.
        side: Side of the blocks in pixels.
        beyond: Pixels by which a cluster may extend beyond its block and still be decoded with the others.
        largest: Maximum pixels of a region that is decoded at once.
    """

    codec: Codec[Any]
    params: Params
    maps: dict[str, DiskArray]
    shape: tuple[int, int]
    types: tuple[str, ...] = ()
    original: tuple[int, int] | None = None
    mpp: float | None = None
    side: int = BLOCK
    beyond: int = BEYOND
    largest: int = LARGEST

    @property
    def grid(self) -> tuple[int, int]:
        """Number of rows and columns of blocks."""
        return -(-self.shape[0] // self.side), -(-self.shape[1] // self.side)

    @property
    def surroundings(self) -> int:
        """Pixels around a cluster that its decoding needs."""
        return self.codec.surroundings or 0

    def block(self, row: int, column: int) -> Box:
        """Return the box of a block."""
        top, left = row * self.side, column * self.side
        return top, left, min(top + self.side, self.shape[0]), min(left + self.side, self.shape[1])

    def around(self, box: Box, margin: int) -> Box:
        """Extend a box by at least `margin` px within the image, so that it starts at multiples of `ALIGNMENT`."""
        top, left = (max(0, start - margin) // ALIGNMENT * ALIGNMENT for start in box[:2])
        # one more alignment, because the last columns of a row are not computed by vector instructions
        bottom, right = (min(extent, end + margin + ALIGNMENT) for end, extent in zip(box[2:], self.shape, strict=True))
        return top, left, bottom, right


@dataclass(frozen=True)
class Job:
    """Nuclei to decode.

    Attributes:
        box: Region that contains them completely.
        owned: int64 (N,), names (`Clusters.first`) of the clusters to decode.
        block: Instead of `owned`: block whose nuclei in too large clusters are decoded.
        parts: int64, parts of such clusters in the block, from 0.
    """

    box: Box
    owned: Ints
    block: Box | None = None
    parts: Ints | None = None


@dataclass(frozen=True)
class Drawn:
    """Outlines of nuclei in pixels of the original image.

    Attributes:
        features: GeoJSON of each nucleus, named `NAME`; empty for nuclei without an outline.
        sizes: float64 (N, 6), see `benchmark.inference.sizes.polygon_sizes`; zeros for nuclei without an outline.
    """

    features: list[str]
    sizes: Sizes


@dataclass(frozen=True)
class Found:
    """Decoded nuclei.

    Attributes:
        top: First row of `labels` in the image.
        left: First column of `labels` in the image.
        labels: int32 (h, w), ids 1..N.
        drawn: Outlines and sizes of the nuclei.
        types: int64 (N,), or None.
        scores: float32 (N,), or None.
    """

    top: int
    left: int
    labels: LabelMap
    drawn: Drawn
    types: NDArray[np.int64] | None = None
    scores: NDArray[np.float32] | None = None


def analyse(work: Work, block: Box) -> tuple[Survey, Block]:
    """Survey a block and number its parts; runs in a worker process."""
    region = work.around(block, work.surroundings)
    maps = read_maps(work.maps, region)
    core = tuple(slice(block[k] - region[k], block[k + 2] - region[k]) for k in (0, 1))
    survey = work.codec.survey(maps, (core[0], core[1]), work.params)
    support = work.codec.support(maps, work.params)[core]
    return survey, label_block(np.ascontiguousarray(support), block[0], block[1], work.shape)


def without_pixels(work: Work, block: Box) -> tuple[Survey, Block]:
    """Return the analysis of a block that has no support."""
    return {}, empty_block(block, work.shape)


def plan(clusters: Clusters, work: Work) -> list[Job]:
    """Group the clusters to decode together, with their regions."""
    boxes, side = clusters.boxes, work.side
    home = boxes[:, 0] // side * work.grid[1] + boxes[:, 1] // side
    ends = (boxes[:, :2] // side + 1) * side + work.beyond
    together = (boxes[:, 2:] <= ends).all(axis=1)
    order = np.flatnonzero(together)[np.argsort(home[together], kind="stable")]
    groups = np.split(order, np.flatnonzero(np.diff(home[order])) + 1) if order.size else []
    jobs, too_large = [], np.zeros(len(boxes), np.bool_)
    for group in [*groups, *np.flatnonzero(~together)[:, None]]:
        box = work.around(_union(boxes[group]), work.surroundings)
        if len(group) == 1 and (box[2] - box[0]) * (box[3] - box[1]) > work.largest:
            too_large[group] = True
        else:
            jobs.append(Job(box, clusters.first[group]))
    for place, of_part in clusters.of_part.items():
        parts = np.flatnonzero(too_large[of_part])
        if parts.size:
            block = work.block(*place)
            region = work.around(block, HALO + work.surroundings)
            jobs.append(Job(region, np.zeros(0, np.int64), block, parts))
    return jobs


def _union(boxes: Ints) -> Box:
    top, left = boxes[:, :2].min(axis=0).tolist()
    bottom, right = boxes[:, 2:].max(axis=0).tolist()
    return top, left, bottom, right


def decode_job(work: Work, survey: Survey, job: Job) -> Found:
    """Decode the nuclei of a job; runs in a worker process."""
    maps = read_maps(work.maps, job.box)
    found = work.codec.rate(work.codec.decode_region(maps, work.params, survey), maps)
    if found.labels is None:
        raise TypeError(f"{type(work.codec).__name__} returns no outlines, so it cannot decode by region")
    support = work.codec.support(maps, work.params)
    del maps
    if job.block is None:
        chosen = keep_clusters(support, job.owned, job.box[0], job.box[1], work.shape[1])
        kept, _, ids = relabel(np.where(chosen, found.labels, 0))
    else:
        kept, _, ids = relabel(_of_block(found.labels, support, job, work))
    types = None if found.types is None else found.types[ids - 1]
    scores = None if found.scores is None else found.scores[ids - 1]
    drawn = outline(work, kept, len(ids), job.box[:2], types, scores)
    return Found(job.box[0], job.box[1], kept, drawn, types, scores)


def outline(
    work: Work,
    labels: LabelMap,
    count: int,
    corner: tuple[int, int],
    types: NDArray[np.int64] | None = None,
    scores: NDArray[np.float32] | None = None,
) -> Drawn:
    """Return outlines and sizes of the nuclei of a region in pixels of the original image.

    Args:
        work: Inputs of the image.
        labels: int32 (h, w), 0 = background; with complete nuclei.
        count: Number of nuclei N.
        corner: First row and column of `labels` in the maps.
        types: int64 (N,), or None.
        scores: float32 (N,), or None.

    Returns:
        N texts whose polygons cover exactly the pixels of the nuclei in the original image, and their sizes; empty for
        nuclei without pixels.
    """
    original = work.original or work.shape
    sources = [nearest(size, given) for size, given in zip(work.shape, original, strict=True)]
    y, x = (
        np.searchsorted(source, np.arange(start, start + size + 1))
        for source, start, size in zip(sources, corner, labels.shape, strict=True)
    )
    step = (original[0] / work.shape[0], original[1] / work.shape[1])
    if not (np.diff(y).all() and np.diff(x).all()):  # some pixels vanish in the original image, which can split nuclei
        rows, columns = (s[edge[0] : edge[-1]] - k for s, edge, k in zip(sources, (y, x), corner, strict=True))
        labels = np.ascontiguousarray(labels[rows][:, columns])
        y, x = np.arange(y[0], y[-1] + 1), np.arange(x[0], x[-1] + 1)
        step = (1.0, 1.0)
    last = labels.max(initial=0)
    known = None if types is None else types[:last]
    rated = None if scores is None else scores[:last]
    nuclei = Instances((labels.shape[0], labels.shape[1]), labels=labels, types=known, scores=rated)
    drawn = Drawn([""] * count, np.zeros((count, SIZES)))
    for feature in geojson(nuclei, work.types, (y, x))["features"]:
        number = int(feature["properties"]["name"])
        feature["properties"]["name"] = "@"
        found = polygon_sizes(feature["geometry"], step)
        if work.mpp is not None:
            feature["properties"].setdefault("measurements", {}).update(measurements(found, work.mpp))
        drawn.features[number - 1] = json.dumps(feature)
        drawn.sizes[number - 1] = found
    return drawn


def _of_block(labels: LabelMap, support: NDArray[np.bool_], job: Job, work: Work) -> LabelMap:
    """Keep the nuclei of too large clusters whose first pixel in raster order is in the block."""
    assert job.block is not None
    assert job.parts is not None
    top, left, bottom, right = job.block
    core = (slice(top - job.box[0], bottom - job.box[0]), slice(left - job.box[1], right - job.box[1]))
    parts, count = connected_components(np.ascontiguousarray(support[core]), 8)
    chosen = np.zeros(count + 1, np.bool_)
    chosen[job.parts + 1] = True
    _, first = extents(labels, int(labels.max(initial=0)), job.box[0], job.box[1], work.shape[1])
    y, x = np.divmod(first, work.shape[1])
    inside = (first >= 0) & (y >= top) & (y < bottom) & (x >= left) & (x < right)
    inside[inside] = chosen[parts[y[inside] - top, x[inside] - left]]
    return np.where(np.concatenate([[False], inside])[labels], labels, 0).astype(np.int32)
