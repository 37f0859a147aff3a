"""Images of any size: read by region, mapped to disk, decoded by region beside the network, written in tiles.

Of an image that is not small, nothing is ever in memory as a whole: not its px, which are read from the tiles of a
TIFF; not what the network says, which goes to temporary files; not the label map. The nuclei are those that decoding
everything at once would give, none cut at a border of a tile or region (see `postproc.pixels.clusters`), numbered in
raster order of their first px. With `WORKERS` processes an image of 20,000 x 20,000 px takes less than 6 GiB of memory
in all processes together, and while it is worked on, 4 bytes of disk per px and channel of the maps and 4 for the
labels.
"""

from __future__ import annotations

import tempfile
import warnings
from collections import deque
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.forward.maps import InferenceSettings, run_windows
from benchmark.forward.scaling import ScaledRaster
from benchmark.inference.decoding import decoders, submit
from benchmark.inference.disk import DiskArray, DiskStitcher
from benchmark.inference.large_decoding import Found, Job, Work, analyse, decode_job, outline, plan
from benchmark.inference.large_output import (
    LabelView,
    Numbers,
    Outlines,
    write_csv,
    write_geojson,
    write_overlay,
    write_tiff,
)
from benchmark.results.prediction_folder import OVERLAY, TEMPORARY
from benchmark.results.summary import ImageSummary
from datamodules.reading.rasters import Raster
from postproc.codec import Codec, Params, Survey, merge_surveys
from postproc.errors import ConfigError
from postproc.pixels.clusters import ClusterMap, Clusters

if TYPE_CHECKING:
    from models.base.method import NucleiMethod

LARGE = 20_000_000
"""Px from which an image is worked on by region. Below, everything at once takes less than 3 GiB."""
WORKERS = 3
"""Most processes that decode regions: each may take a GiB."""


def predict_large(
    method: NucleiMethod,
    variant: str,
    params: Params,
    image: Raster,
    settings: InferenceSettings,
    out: Path,
    stem: str,
    *,
    factor: float = 1.0,
    workers: int = WORKERS,
    name: str = "",
) -> ImageSummary:
    """Find the nuclei of an image by region and write STEM.tif, STEM.csv, STEM.geojson and STEM_overlay.png.

    Args:
        method: In eval mode, on its device.
        variant: Key of the codec.
        params: Its parameters.
        image: RGB.
        settings: Precision and tiles.
        out: Folder to write; temporary files go there too.
        stem: Name of the results.
        factor: Px of the network's image per px of `image`.
        workers: Processes that decode, at most `WORKERS`; 0 = decode in this one.
        name: Of the image in the summary.

    Returns:
        How many nuclei were found, and of which types.

    Raises:
        ConfigError: If the method's codec decodes whole images only.
        DataError: If the image is damaged or the disk too small.
    """
    codec = method.codecs[variant]
    if codec.surroundings is None:
        raise ConfigError(
            f"{stem}: {image.shape[0]} x {image.shape[1]} px are too many for {variant}, whose post-processing takes "
            "whole images; cut the image into smaller ones"
        )
    out.mkdir(parents=True, exist_ok=True)
    scaled = image if factor == 1.0 else ScaledRaster(image, factor)
    with tempfile.TemporaryDirectory(dir=out, prefix=TEMPORARY) as temporary, decoders(min(workers, WORKERS)) as pool:
        folder = Path(temporary)
        analysis = _network(method, codec, params, scaled, image.shape, settings, folder, pool)
        labels, outlines = decode_by_region(analysis, folder, pool, min(workers, WORKERS) + 1)
        for array in analysis.work.maps.values():
            array.close()
            array.path.unlink()
        view = LabelView(labels, image.shape)
        numbers = Numbers.of(view, outlines.count)
        write_tiff(out / f"{stem}.tif", view, numbers)
        write_csv(out / f"{stem}.csv", numbers, outlines.types, method.task.types)
        write_geojson(out / f"{stem}.geojson", numbers, outlines)
        write_overlay(out / f"{stem}{OVERLAY}", image, view, outlines.types)
        kinds = None if outlines.types is None else outlines.types[numbers.order]
        labels.close()
        outlines.close()
    return ImageSummary.of(name, numbers.count, kinds, method.task.types)


def _network(
    method: NucleiMethod,
    codec: Codec[Any],
    params: Params,
    image: Raster,
    original: tuple[int, int],
    settings: InferenceSettings,
    folder: Path,
    pool: Executor | None,
) -> Analysis:
    """Run the network; what rows it completes is analysed beside it."""
    current: list[Analysis] = []

    def begin() -> DiskStitcher:
        analysis = Analysis(pool, Work(codec, params, {}, image.shape, method.task.types, original))
        current.append(analysis)
        return DiskStitcher(folder, image.shape, analysis.advance)

    run_windows(method, image, settings, begin)
    return current[-1]


class Analysis:
    """Surveys the blocks of an image and numbers their parts, as soon as their rows are complete.

    Args:
        pool: Of workers; None = in this process.
        work: What they are told; its maps are filled in once they exist.
    """

    def __init__(self, pool: Executor | None, work: Work) -> None:
        self.work = work
        self._pool = pool
        self._pending: dict[tuple[int, int], Future[Any]] = {}
        self._next = 0

    def advance(self, maps: dict[str, DiskArray], complete: int) -> None:
        """Hand out the blocks that need no more than the rows that are complete."""
        self.work.maps.update(maps)
        rows, columns = self.work.grid
        while self._next < rows:
            boxes = [self.work.block(self._next, column) for column in range(columns)]
            if self.work.around(boxes[0], self.work.surroundings)[2] > complete:
                return
            for column, box in enumerate(boxes):
                self._pending[self._next, column] = submit(self._pool, analyse, self.work, box)
            self._next += 1

    def result(self) -> tuple[Survey, Clusters]:
        """Return what holds for the whole image."""
        clusters = ClusterMap(*self.work.grid)
        surveys = []
        for place, future in self._pending.items():
            survey, block = future.result()
            surveys.append(survey)
            clusters.add(*place, block)
        return merge_surveys(surveys), clusters.finish()


def decode_by_region(
    analysis: Analysis, folder: Path, pool: Executor | None, ahead: int = 1
) -> tuple[DiskArray, Outlines]:
    """Decode an image whose maps are on disk and complete.

    Args:
        analysis: Of all its blocks.
        folder: Where the results go.
        pool: Of workers; None = in this process.
        ahead: Regions that may be waiting or done.

    Returns:
        The label map, in provisional numbers, and the outlines in their order.
    """
    survey, clusters = analysis.result()
    labels = DiskArray(folder / "labels.raw", (1, *analysis.work.shape), np.int32)
    outlines = Outlines(folder / "outlines.json")
    jobs = plan(clusters, analysis.work)
    _warn_of_large_clusters(jobs)
    pending: deque[Future[Found]] = deque()
    for job in [*jobs, None]:
        if job is not None:
            pending.append(submit(pool, decode_job, analysis.work, survey, job))
        while pending and (job is None or len(pending) >= ahead):
            found = pending.popleft().result()
            outlines.add(paint(labels, found, outlines.count, analysis.work))
    return labels, outlines


def paint(labels: DiskArray, found: Found, base: int, work: Work) -> Found:
    """Write the nuclei of a region into the label map, where it is free; they are numbered from base + 1.

    Args:
        labels: int32 (1, H, W), which is changed.
        found: The nuclei.
        base: Number of nuclei before them.
        work: Of the image.

    Returns:
        The nuclei, and the outlines of what was written: parts of a large cluster may find px taken by another's.
    """
    height, width = found.labels.shape
    box = found.top, found.left, found.top + height, found.left + width
    canvas = labels.read(box)
    mine = found.labels > 0
    free = mine & (canvas[0] == 0)
    cut = np.unique(found.labels[mine & ~free])
    canvas[0, free] = found.labels[free] + base
    labels.write(found.top, found.left, canvas)
    if not cut.size:
        return found
    features = list(found.features)
    rest = np.where(free & np.isin(found.labels, cut), found.labels, 0)
    texts = outline(work, rest, found.types, len(features), (found.top, found.left))
    for k in cut.tolist():
        features[k - 1] = texts[k - 1]
    return replace(found, features=features)


def _warn_of_large_clusters(jobs: list[Job]) -> None:
    blocks = sum(job.block is not None for job in jobs)
    if blocks:
        warnings.warn(
            "nuclei touch each other over so long a distance that their group cannot be decoded at once; in "
            f"{blocks} regions a few may differ from those of a single pass",
            stacklevel=3,
        )
