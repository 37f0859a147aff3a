"""Commands that prepare data, measure speed and run the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmark.commands.common import Precision, filled
from postproc.errors import ConfigError


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
    """Obtain and check a dataset, or write a synthetic stand-in in the same layout.

    Missing files are downloaded if that needs no form or sign-in; interrupted downloads are resumed. Otherwise the
    manual steps are printed and the exit status is 1. Archives that you have downloaded are unpacked from
    DATA/NAME/downloads, or from the paths given by --from. Existing files are never overwritten. With --all, a table at
    the end shows the result for each dataset; the exit status is 1 if one failed (a manual download is not a failure).

    Args:
        dataset: Dataset to prepare.
        all: Prepare every dataset, even if some fail.
        from_: Archives (.zip, .tar, .tar.gz, .tar.xz, .tar.bz2) with the dataset or a part of it.
        mirror: Address that serves the downloads as MIRROR/DATASET/FILE, instead of the addresses on the cards.
        synthetic: Write synthetic images in the layout of the dataset; existing files are never overwritten.
        images: Number of synthetic images over all splits; default: the smallest number that fills every split.
        size: Side of the synthetic images in pixels; default: 256, or the size of the annotation they are
            simulated from.
        seed: Seed of the synthetic images.
        source: Outlines from which images of synthetic-dist are simulated: tnbc (as in the paper) or generated.
            Default: tnbc if the complete dataset is in the data folder, else generated.
        data: Folder with one folder per dataset; default: NUCBENCH_DATA or data.
        progress: Hide progress bars.
    """
    from benchmark.data.prepare import StandIn
    from benchmark.data.prepare import prepare as run
    from postproc.errors import ConfigError

    if source is not None and not synthetic:
        raise ConfigError(f"--source {source} applies to synthetic images only; add --synthetic")
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
    pipeline: bool = False,
    scale: bool = False,
    dataset: str | None = None,
    data: Path | None = None,
    out: Path = Path("leaderboards/speed"),
) -> None:
    """Time metrics, targets, post-processing and data loading in one thread, or methods, on synthetic images.

    For a method, the network on a whole image, its post-processing and (with --train) a training step are timed
    separately. The CSV is named after hardware, precision and versions.

    Args:
        methods: Methods to time; default: the components.
        options: Options of the methods, for example --options.mode fast.
        sizes: Sides of the square images in pixels; default: 1000.
        repeats: Timed repeats of each job after one warm-up; fewer for jobs that take seconds.
        precision: Floating-point precision of networks.
        train: Also time training steps, with the batch and crop size of the recipe.
        workers: Processes that draw training samples, in addition to a measurement in one process; 0 = none. Default:
            one per core.
        pipeline: Measure the stages of `nucbench predict` and `nucbench score` instead, from start-up to scores, with
            random weights.
        scale: Measure `nucbench predict` on synthetic images of growing size instead: seconds and peak memory of each
            stage. METHODS are then models: run directories, exported folders or names of shipped models. Sizes:
            default 2000, 4000 and 8000 px.
        dataset: Images for --pipeline: DATASET.SPLIT, or DATASET for its test split. Default: synthetic images.
        data: Folder with one folder per dataset; default: NUCBENCH_DATA or data.
        out: Output folder.
    """
    if pipeline:
        from benchmark.speed.pipeline import run_pipeline

        run_pipeline(methods or [], options or {}, dataset, filled(data), (sizes or [1000])[0], out)
        return
    if scale:
        from benchmark.speed.scale import SIDES, run_scale

        run_scale(methods or [], sizes or SIDES, out)
        return
    if dataset is not None:
        raise ConfigError("--dataset is an option of --pipeline; other timings use synthetic images")
    from benchmark.speed.report import run_speed

    run_speed(methods or [], options or {}, sizes or [1000], repeats, precision, out, train=train, workers=workers)


def demo(*, out: Path = Path("demo"), steps: int = 60, progress: bool = True) -> int:
    """Run a demo of a few minutes without downloads: a shipped model, then three methods on two synthetic datasets.

    Args:
        out: Output folder for data, runs, tables and pictures.
        steps: Optimiser steps of each training.
        progress: Hide progress bars.
    """
    from benchmark.commands.demo import run_demo

    return run_demo(out, steps, progress=progress)


def doctor(*, json_: bool = False, self_test: bool = True, data: Path | None = None, runs: Path | None = None) -> int:
    """Show what this installation can do, and what is broken in it; nothing is changed.

    Listed are versions, optional packages and what they enable, instruction sets, usable cores, GPUs, the precision
    that auto stands for, memory, folders, the state of W&B (without a connection), the datasets that are present and
    the included models. At the end, an included model finds the nuclei of a small synthetic image. If something is
    broken, its remedy is printed and the exit status is 1.

    Args:
        json_: Print one JSON object, for bug reports.
        self_test: Skip the prediction of a synthetic image.
        data: Folder with one folder per dataset; default: NUCBENCH_DATA or data.
        runs: Folder of all runs; default: NUCBENCH_RUNS or runs.
    """
    from benchmark.commands.doctor import run_doctor

    return run_doctor(filled(data), filled(runs), self_test=self_test, as_json=json_)
