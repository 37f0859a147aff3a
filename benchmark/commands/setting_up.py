"""Commands about data and this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmark.commands.common import Precision, filled


def prepare(
    dataset: str | None = None,
    *,
    all: bool = False,
    from_: list[Path] | None = None,
    mirror: str | None = None,
    synthetic: bool = False,
    images: int | None = None,
    size: int | None = None,
    seed: int = 0,
    source: str | None = None,
    data: Path | None = None,
    progress: bool = True,
) -> int:
    """Get a dataset and check that it is complete and readable, or write a synthetic stand-in in its layout.

    What is not there is downloaded where that needs no form or sign-in; a download that broke off goes on. Otherwise
    the steps are printed, with exit status 1. Archives that you have fetched are unpacked from DATA/NAME/downloads, or
    from wherever --from says. Nothing that is there is overwritten. With --all, a table at the end says how each went;
    the exit status is 1 if one failed, and datasets that are to be fetched by hand have not failed.

    Args:
        dataset: Dataset to prepare.
        all: Prepare every dataset, whatever becomes of the others.
        from_: Archives (.zip, .tar, .tar.gz, .tar.xz, .tar.bz2) that hold the dataset or a part of it.
        mirror: Address that serves the downloads as MIRROR/DATASET/FILE, in place of those of the cards.
        synthetic: Write synthetic images in the dataset's own layout; never over existing files.
        images: Number of synthetic images over all splits; default: the least that fills every split.
        size: Side of the synthetic images, px; default: 256, or that of the annotation they are simulated from.
        seed: Seed of the synthetic images.
        source: Whose outlines the images of synthetic-dist are simulated from: tnbc, the paper's, or generated.
            Default: tnbc where all of it is in the folder of datasets, else generated.
        data: Folder with one folder per dataset; default: NUCBENCH_DATA or data.
        progress: Hide progress bars.
    """
    from benchmark.data.prepare import StandIn
    from benchmark.data.prepare import prepare as run
    from postproc.errors import ConfigError

    if source is not None and not synthetic:
        raise ConfigError(f"--source {source} belongs to synthetic images; give --synthetic too")
    stand_in = StandIn(images, size, seed, source) if synthetic else None
    root = filled(data)
    return run(dataset, root, every=all, archives=from_ or [], mirror=mirror, stand_in=stand_in, progress=progress)


def speed(
    methods: list[str] | None = None,
    *,
    options: dict[str, Any] | None = None,
    sizes: list[int] | None = None,
    repeats: int = 5,
    precision: Precision = "auto",
    train: bool = False,
    workers: int | None = None,
    out: Path = Path("leaderboards/speed"),
) -> None:
    """Time metrics, targets, post-processing and loading in one thread, or methods, on synthetic images.

    Of a method, the network on a whole image, its post-processing and (with --train) a training step are timed apart.
    The CSV is named by hardware, precision and versions.

    Args:
        methods: Methods to time; none = the components.
        options: Options of the methods, for example --options.mode fast.
        sizes: Sides of the square images, px; default: 1000.
        repeats: Counted runs of each job, after one that is not counted; fewer of jobs that take seconds.
        precision: Floating-point precision of networks.
        train: Time training steps too, at the recipe's batch and crop size.
        workers: Processes that draw training samples, beside a measurement in one; 0 = none. Default: one per core.
        out: Folder to write.
    """
    from benchmark.speed.report import run_speed

    run_speed(methods or [], options or {}, sizes or [1000], repeats, precision, out, train=train, workers=workers)


def demo(*, out: Path = Path("demo"), steps: int = 60, progress: bool = True) -> int:
    """Try everything in a few minutes without a download: three methods on two synthetic datasets.

    Args:
        out: Folder to write: data, runs, tables and pictures.
        steps: Optimiser steps of each training.
        progress: Hide progress bars.
    """
    from benchmark.commands.demo import run_demo

    return run_demo(out, steps, progress=progress)
