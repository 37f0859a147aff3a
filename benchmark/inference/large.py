"""Predict images of any size by region.

Neither pixels, maps nor labels of a large image are ever in memory as a whole: pixels are read from the tiles of a
TIFF or slide, maps are written to files, and nuclei are decoded by region in parallel to the network. The result is
that of decoding the whole image at once: no nucleus is cut at the border of a tile or region (see
`postproc.pixels.clusters`), and nuclei are numbered in raster order of their first pixel. With `WORKERS` processes, an
image of 20,000 x 20,000 px takes less than 6 GiB of memory in all processes together, and temporary disk space of 4
bytes per pixel and channel of the maps and 4 bytes per pixel of the labels. Of a slide, only tiles with tissue are
computed and take space.

All intermediate results are kept in a folder (`benchmark.inference.workplace`), from which an interrupted command
resumes.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmark.forward.maps import InferenceSettings, run_windows
from benchmark.forward.scaling import ScaledRaster
from benchmark.host.progress import countdown
from benchmark.host.stages import stage
from benchmark.inference.decoding import decoders, submit
from benchmark.inference.disk import DiskArray
from benchmark.inference.disk_stitcher import DiskStitcher, Wanted, everywhere
from benchmark.inference.large_decoding import (
    Drawn,
    Found,
    Job,
    Work,
    analyse,
    decode_job,
    outline,
    plan,
    without_pixels,
)
from benchmark.inference.large_output import LabelView, write_csv, write_geojson, write_overlay, write_tiff
from benchmark.inference.nuclei import Nuclei
from benchmark.inference.workplace import Workplace
from benchmark.results.prediction_folder import OVERLAY, WORK
from benchmark.results.summary import ImageSummary
from datamodules.reading.rasters import Raster
from postproc.codec import Params, Survey, merge_surveys
from postproc.errors import ConfigError
from postproc.pixels.clusters import ClusterMap, Clusters

if TYPE_CHECKING:
    from models.base.method import NucleiMethod

LARGE = 20_000_000
"""Pixels above which an image is processed by region. Smaller images take less than 3 GiB as a whole."""
WORKERS = 3
"""Maximum number of processes that decode regions; each can take 1 GiB."""


@dataclass(frozen=True)
class LargeImage:
    """An image that is processed by region.

    Attributes:
        name: Name for messages and the summary.
        pixels: Image at the magnification of the model.
        shape: (H, W) of the original image in pixels, in which nuclei are returned.
        mpp: Microns per pixel of the original image, for measurements in GeoJSON; None = without them.
        wanted: Tells which boxes of `pixels` may have nuclei.
        about: Properties that determine the results, as JSON types; an interrupted command with others starts afresh.
    """

    name: str
    pixels: Raster
    shape: tuple[int, int]
    mpp: float | None = None
    wanted: Wanted = everywhere
    about: Mapping[str, Any] = field(default_factory=dict)


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
    about: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> ImageSummary:
    """Predict the nuclei of an image by region and write STEM.tif, STEM.csv, STEM.geojson and STEM_overlay.png.

    Args:
        method: Method in eval mode, on its device.
        variant: Key of the codec.
        params: Parameters of the codec.
        image: RGB image.
        settings: Precision and tiles.
        out: Output folder, also used for intermediate results.
        stem: Name of the results.
        factor: Pixels of the rescaled image per pixel of `image`.
        workers: Number of decoding processes, at most `WORKERS`; 0 = decode in this process.
        name: Name of the image in the summary.
        about: Properties of image and model that determine the results, for resuming.
        progress: Show tiles and regions with the time left.

    Returns:
        Number of nuclei in total and per type.

    Raises:
        ConfigError: If the codec can decode only whole images.
        DataError: If the image is damaged or there is not enough disk space.
    """
    scaled = image if factor == 1.0 else ScaledRaster(image, factor)
    large = LargeImage(name or stem, scaled, image.shape, about={**(about or {}), "factor": factor})
    work = method, variant, params, large, settings, out / f"{WORK}{stem}"
    with found_nuclei(*work, workers=workers, progress=progress) as (nuclei, labels):
        view = LabelView(labels, image.shape)
        write_tiff(out / f"{stem}.tif", view, nuclei)
        write_csv(out / f"{stem}.csv", nuclei, method.task.types)
        write_geojson(out / f"{stem}.geojson", nuclei)
        write_overlay(out / f"{stem}{OVERLAY}", image, view, nuclei.types)
        return nuclei.summary(name, method.task.types)


@contextmanager
def found_nuclei(
    method: NucleiMethod,
    variant: str,
    params: Params,
    image: LargeImage,
    settings: InferenceSettings,
    folder: Path,
    *,
    workers: int = WORKERS,
    progress: bool = False,
) -> Iterator[tuple[Nuclei, DiskArray]]:
    """Find the nuclei of an image by region, resuming an earlier call that was interrupted.

    Args:
        method: Method in eval mode, on its device.
        variant: Key of the codec.
        params: Parameters of the codec.
        image: The image.
        settings: Precision and tiles.
        folder: Folder of intermediate results, deleted at the end unless the process is interrupted.
        workers: Number of decoding processes, at most `WORKERS`; 0 = decode in this process.
        progress: Show tiles and regions with the time left.

    Yields:
        The nuclei, and their label map at the size of `image.pixels` with provisional numbers.

    Raises:
        ConfigError: If the codec can decode only whole images.
        DataError: If the image is damaged or there is not enough disk space.
    """
    codec = method.codecs[variant]
    if codec.surroundings is None:
        raise ConfigError(
            f"{image.name}: {image.shape[0]} x {image.shape[1]} px are too many for {variant}, whose post-processing "
            "needs whole images; cut the image into smaller images"
        )
    workers = min(workers, WORKERS)
    about = {**image.about, "shape": image.pixels.shape, "original": image.shape, "params": repr(params)}
    work = Work(codec, params, {}, image.pixels.shape, method.task.types, image.shape, image.mpp)
    with Workplace.hold(folder, about) as place, decoders(workers) as pool:
        with countdown(f"{image.name}, tiles", progress) as moved, stage("network"):
            analysis = _network(method, work, image, settings, place, pool, moved)
        with countdown(f"{image.name}, decoding", progress) as moved, stage("decoding by region"):
            labels, nuclei = decode_by_region(analysis, folder, pool, workers + 1, moved)
        for array in analysis.work.maps.values():
            array.close()
        try:
            with stage("writing"):
                yield nuclei, labels
        finally:
            labels.close()
            nuclei.close()


def _network(
    method: NucleiMethod,
    work: Work,
    image: LargeImage,
    settings: InferenceSettings,
    place: Workplace,
    pool: Executor | None,
    moved: Callable[[int, int], None],
) -> Analysis:
    """Run the network, and analyse completed rows in parallel."""
    current: list[Analysis] = []

    def begin() -> DiskStitcher:
        analysis = Analysis(pool, replace(work, maps={}))
        stitcher = DiskStitcher(place, work.shape, analysis.advance, image.wanted, moved)
        analysis.computed = stitcher.covers
        current.append(analysis)
        return stitcher

    run_windows(method, image.pixels, settings, begin)
    return current[-1]


class Analysis:
    """Surveys the blocks of an image and numbers their parts as soon as their rows are complete.

    Args:
        pool: Worker processes; None = this process.
        work: Inputs of the workers; its maps are added when they exist.

    Attributes:
        computed: Tells whether a box has pixels that were computed; other blocks have no nuclei.
    """

    def __init__(self, pool: Executor | None, work: Work) -> None:
        self.work = work
        self.computed: Wanted = everywhere
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
                pool, call = (self._pool, analyse) if self.computed(box) else (None, without_pixels)
                self._pending[self._next, column] = submit(pool, call, self.work, box)
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
    analysis: Analysis,
    folder: Path,
    pool: Executor | None,
    ahead: int = 1,
    moved: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[DiskArray, Nuclei]:
    """Decode an image whose maps are complete on disk, except for regions that an earlier call has decoded.

    Args:
        analysis: Analysis of all its blocks.
        folder: Folder of the results.
        pool: Worker processes; None = this process.
        ahead: Maximum number of submitted regions.
        moved: Called with the number of decoded and of all regions.

    Returns:
        Label map with provisional numbers, and the nuclei in the same order.
    """
    survey, clusters = analysis.result()
    labels = DiskArray(folder / "labels.raw", (1, *analysis.work.shape), np.int32)
    nuclei = Nuclei(folder)
    jobs = plan(clusters, analysis.work)
    _warn_of_large_clusters(jobs)
    pending: deque[Future[Found]] = deque()
    for job in [*jobs[nuclei.regions :], None]:
        if job is not None:
            pending.append(submit(pool, decode_job, analysis.work, survey, job))
        while pending and (job is None or len(pending) >= ahead):
            nuclei.add(paint(labels, pending.popleft().result(), nuclei.count, analysis.work))
            moved(nuclei.regions, len(jobs))
    nuclei.finish()
    return labels, nuclei


def paint(labels: DiskArray, found: Found, base: int, work: Work) -> Found:
    """Write the nuclei of a region to the free pixels of the label map, numbered from base + 1.

    Args:
        labels: int32 (1, H, W), modified in place. Numbers above `base` are those of the same region, which were
            written before an interruption, and are free.
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
    free = mine & ((canvas[0] == 0) | (canvas[0] > base))
    cut = np.unique(found.labels[mine & ~free])
    canvas[0, free] = found.labels[free] + base
    labels.write(found.top, found.left, canvas)
    if not cut.size:
        return found
    features, sizes = list(found.drawn.features), found.drawn.sizes.copy()
    rest = np.where(free & np.isin(found.labels, cut), found.labels, 0)
    drawn = outline(work, rest, len(features), (found.top, found.left), found.types, found.scores)
    for k in cut.tolist():
        features[k - 1], sizes[k - 1] = drawn.features[k - 1], drawn.sizes[k - 1]
    return replace(found, drawn=Drawn(features, sizes))


def _warn_of_large_clusters(jobs: list[Job]) -> None:
    blocks = sum(job.block is not None for job in jobs)
    if blocks:
        warnings.warn(
            "some groups of nuclei that touch each other are too large to be decoded at once; in "
            f"{blocks} regions, a few nuclei may differ from those of a single pass",
            stacklevel=3,
        )
