"""Predict images of any size by region.

Neither pixels, maps nor labels of a large image are ever in memory as a whole: pixels are read from the tiles of a
TIFF, maps are written to temporary files, and nuclei are decoded by region in parallel to the network. The result is
that of decoding the whole image at once: no nucleus is cut at the border of a tile or region (see
`postproc.pixels.clusters`), and nuclei are numbered in raster order of their first pixel. With `WORKERS` processes, an
image of 20,000 x 20,000 px takes less than 6 GiB of memory in all processes together, and temporary disk space of 4
bytes per pixel and channel of the maps and 4 bytes per pixel of the labels.
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
"""Pixels above which an image is processed by region. Smaller images take less than 3 GiB as a whole."""
WORKERS = 3
"""Maximum number of processes that decode regions; each can take 1 GiB."""


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
    """Predict the nuclei of an image by region and write STEM.tif, STEM.csv, STEM.geojson and STEM_overlay.png.

    Args:
        method: Method in eval mode, on its device.
        variant: Key of the codec.
        params: Parameters of the codec.
        image: RGB image.
        settings: Precision and tiles.
        out: Output folder, also used for temporary files.
        stem: Name of the results.
        factor: Pixels of the rescaled image per pixel of `image`.
        workers: Number of decoding processes, at most `WORKERS`; 0 = decode in this process.
        name: Name of the image in the summary.

    Returns:
        Number of nuclei in total and per type.

    Raises:
        ConfigError: If the codec can decode only whole images.
        DataError: If the image is damaged or there is not enough disk space.
    """
    codec = method.codecs[variant]
    if codec.surroundings is None:
        raise ConfigError(
            f"{stem}: {image.shape[0]} x {image.shape[1]} px are too many for {variant}, whose post-processing needs "
            "whole images; cut the image into smaller images"
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
    """Run the network, and analyse completed rows in parallel."""
    current: list[Analysis] = []

    def begin() -> DiskStitcher:
        analysis = Analysis(pool, Work(codec, params, {}, image.shape, method.task.types, original))
        current.append(analysis)
        return DiskStitcher(folder, image.shape, analysis.advance)

    run_windows(method, image, settings, begin)
    return current[-1]


class Analysis:
    """Surveys the blocks of an image and numbers their parts as soon as their rows are complete.

    Args:
        pool: Worker processes; None = this process.
        work: Inputs of the workers; its maps are added when they exist.
    """

    def __init__(self, pool: Executor | None, work: Work) -> None:
        self.work = work
        self._pool = pool
        self._pending: dict[tuple[int, int], Future[Any]] = {}
        self._next = 0

    def advance(self, maps: dict[str, DiskArray], complete: int) -> None:
        """Submit the blocks whose rows, including surroundings, are complete."""
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
        """Return survey and clusters of the whole image."""
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
    """Decode an image whose maps are complete on disk.

    Args:
        analysis: Analysis of all its blocks.
        folder: Folder of the results.
        pool: Worker processes; None = this process.
        ahead: Maximum number of submitted regions.

    Returns:
        Label map with provisional numbers, and outlines in the same order.
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
    """Write the nuclei of a region to the free pixels of the label map, numbered from base + 1.

    Args:
        labels: int32 (1, H, W), modified in place.
        found: The nuclei.
        base: Number of earlier nuclei.
        work: Inputs of the image.

    Returns:
        The nuclei with the outlines as written. In parts of a large cluster, pixels may already belong to another part.
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
            "some groups of nuclei that touch each other are too large to be decoded at once; in "
            f"{blocks} regions, a few nuclei may differ from those of a single pass",
            stacklevel=3,
        )
