"""The subcommands of `nucbench`. Signatures and docstrings make the help; heavy imports stay inside the functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

Protocol = Literal["strict", "paper"]
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
Mirror = Literal["off", "offline", "online"]


def run(
    method: str,
    dataset: str,
    *,
    protocol: Protocol = "paper",
    seed: int = 0,
    train_split: str = "train",
    also: list[str] | None = None,
    evaluate: list[str] | None = None,
    options: dict[str, Any] | None = None,
    precision: Precision = "auto",
    max_minutes: float | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    crop: int | None = None,
    lr: float | None = None,
    schedule: Literal["constant", "cosine"] | None = None,
    augment: str | None = None,
    crops_per_image: int | None = None,
    devices: int = 1,
    workers: int | None = None,
    compile: bool = False,
    wandb: Mirror = "off",
    data: Path | None = None,
    runs: Path | None = None,
    progress: bool = True,
) -> None:
    """Train a method on a dataset, tune it, predict and score whole images, and store the run.

    Whatever is already stored is not done again: the same command, started after it was killed, goes on; with other
    sets under --evaluate it scores the trained run on those too. Settings left out are those of the method's paper.

    Args:
        method: Method to train (see `nucbench list methods`).
        dataset: Dataset to train on (see `nucbench list datasets`).
        protocol: strict: keep validation images out of training and choose checkpoint and post-processing parameters
            on them. paper: train on all training images, last checkpoint, the paper's parameters.
        seed: Seed of initialisation, crops and augmentation.
        train_split: Split to train on: a split of the dataset, all, group:A,B or except-group:A,B.
        also: Further training sets, each DATASET.SPLIT or DATASET, whose images are trained on too.
        evaluate: Sets to score, each DATASET.SPLIT, or DATASET: its test split, or all its images where it has
            none. Default: the training dataset.
        options: Options of the method, for example --options.features 16 (see `nucbench list methods --verbose`).
        precision: Floating-point precision; auto: bf16 where the hardware has it, else 16-bit on GPUs, 32 on CPUs.
        max_minutes: Stop training after that many minutes; a cosine schedule is stretched over them.
        steps: Optimiser steps in place of the recipe's length.
        epochs: Epochs in place of the recipe's length.
        batch_size: Crops per step and GPU.
        crop: Side of the training crops, px.
        lr: Learning rate at the start.
        schedule: Learning-rate schedule in place of the recipe's.
        augment: Augmentation policy in place of the recipe's.
        crops_per_image: Crops drawn from each image in an epoch.
        devices: GPUs that train together.
        workers: Processes that draw training items and decode predictions; default: from the number of cores.
        compile: Compile the network for inference with torch.compile; pays for many images of one size.
        wandb: Mirror the run to Weights & Biases.
        data: Folder with one folder per dataset; default: NUCBENCH_DATA or data.
        runs: Folder of all runs; default: NUCBENCH_RUNS or runs.
        progress: Hide progress bars.
    """
    from benchmark.report import print_result
    from benchmark.run import Machine, execute
    from benchmark.spec import Overrides, RunSpec, Target

    overrides = Overrides(crop, batch_size, lr, epochs, steps, schedule, augment, crops_per_image, max_minutes)
    spec = RunSpec(method, dataset, train_split, protocol, seed, precision, options or {}, overrides, tuple(also or ()))
    targets = [Target.parse(text) for text in evaluate or [dataset]]
    machine = Machine(_folder(data), _folder(runs), devices, workers, progress, compile)
    with _loggers(wandb, spec, machine.runs) as loggers:
        print_result(execute(spec, targets, machine, loggers))


def sweep(
    file: Path,
    *,
    dry_run: bool = False,
    data: Path | None = None,
    runs: Path | None = None,
    progress: bool = True,
) -> int:
    """Run every combination that a sweep file lists; what is done is skipped, a failure does not stop the others.

    A sweep file is YAML: lists of methods, datasets and seeds, the protocol, what to evaluate on, settings as in
    `nucbench run`, `folds: true` to leave out one patient after the other, and `cases`, each a set of changes with
    which the sweep is repeated. Files that come with nucbench are named without a folder (demo.yaml).

    Args:
        file: Sweep file.
        dry_run: Only print the runs, which of them are done, and how long the others may take.
        data: Folder with one folder per dataset; default: NUCBENCH_DATA or data.
        runs: Folder of all runs; default: NUCBENCH_RUNS or runs.
        progress: Hide progress bars.
    """
    from benchmark.run import Machine
    from benchmark.sweep import run_sweep

    return run_sweep(file, Machine(_folder(data), _folder(runs), progress=progress), dry_run=dry_run)


def search(
    file: Path,
    *,
    dry_run: bool = False,
    data: Path | None = None,
    runs: Path | None = None,
    progress: bool = True,
) -> int:
    """Search hyper-parameters with Optuna; every trial is a run under protocol strict, judged on validation images.

    A search file is YAML: method, dataset, space (setting -> values), number of trials, and settings as in `nucbench
    run`. Given again, also after a kill, it goes on where it was. Files that come with nucbench are named without a
    folder (dist-search.yaml).

    Args:
        file: Search file.
        dry_run: Only print what would be searched.
        data: Folder with one folder per dataset; default: NUCBENCH_DATA or data.
        runs: Folder of all runs; default: NUCBENCH_RUNS or runs.
        progress: Hide progress bars.
    """
    from benchmark.run import Machine
    from benchmark.search import run_search

    return run_search(file, Machine(_folder(data), _folder(runs), progress=progress), dry_run=dry_run)


def predict(
    run: Path,
    images: list[Path],
    *,
    out: Path = Path("predictions"),
    variant: str | None = None,
    magnification: float | None = None,
    compile: bool = False,
    progress: bool = True,
) -> None:
    """Find the nuclei in images with a finished run: label map, overlay and GeoJSON for QuPath.

    Each image NAME.EXT gives NAME.mat (inst_map, inst_type), NAME.png (overlay) and NAME.geojson in --out. Images of
    more than 20 million px are worked on by region, a tiled TIFF of 20,000 x 20,000 px in less than 6 GiB of memory;
    they give NAME.tif (tiled label map, int32), NAME.csv (a row per nucleus), NAME.geojson and a shrunk NAME.png.

    Args:
        run: Directory of the run, for example runs/dist/kumar/paper-s0-1234abcd.
        images: Image files (PNG, TIFF, JPEG, BMP).
        out: Folder to write.
        variant: Post-processing of the run to use; default: its first.
        magnification: Objective magnification of the images; they are rescaled to that of the training images and
            the nuclei mapped back. Default: that of the training images.
        compile: Compile the network with torch.compile; pays for many images of one size.
        progress: Hide progress bars.
    """
    from benchmark.predict_images import predict_images

    predict_images(run, images, out, variant=variant, magnification=magnification, progress=progress, compile=compile)


def score(
    *,
    truth: Path,
    predictions: Path,
    out: Path | None = None,
    radius: float = 12.0,
) -> None:
    """Score a folder of predicted label maps against a folder of annotated ones.

    Files are matched by name without extension: .mat (inst_map, optional inst_type and inst_id), .npy, .png or .tif.
    The last row, all, holds means over images; classification columns come from counts pooled over the images.

    Args:
        truth: Folder of annotated label maps.
        predictions: Folder of predicted label maps.
        out: CSV to write; default: print a table only.
        radius: Distance within which a detection counts for F_d and F_c, px (12 at 40x, 6 at 20x).
    """
    from benchmark.report import print_frame
    from benchmark.scoring import score_folders
    from benchmark.store import write_scores

    scores = score_folders(truth, predictions, radius=radius)
    if out is not None:
        write_scores(out, scores)
        print(f"{len(scores) - 1} images scored; written to {out}")
    print_frame(scores)


def evaluate(
    *,
    predictions: Path,
    dataset: str,
    method: str,
    split: str = "test",
    trained_on: str | None = None,
    note: str = "",
    data: Path | None = None,
    runs: Path | None = None,
    progress: bool = True,
) -> None:
    """Score somebody else's label maps on a dataset, so that they become a row of the tables.

    Args:
        predictions: Folder of label maps, one per image, named as the dataset's images.
        dataset: Dataset the predictions belong to.
        method: Row name, for example CellProfiler.
        split: Split of the dataset.
        trained_on: Dataset the method was trained on; default: the same dataset.
        note: Where the predictions come from; shown below tables.
        data: Folder with one folder per dataset; default: NUCBENCH_DATA or data.
        runs: Folder of all runs; default: NUCBENCH_RUNS or runs.
        progress: Hide progress bars.
    """
    from benchmark.foreign import evaluate_foreign
    from benchmark.report import print_result
    from benchmark.run import Machine

    machine = Machine(_folder(data), _folder(runs), progress=progress)
    print_result(evaluate_foreign(predictions, dataset, split, method, trained_on or dataset, note, machine))


def leaderboard(
    tables: list[str] | None = None,
    *,
    runs: Path | None = None,
    store: Path = Path("leaderboards/scores"),
    out: Path = Path("leaderboards/tables"),
) -> None:
    """Rebuild the tables from stored scores, our figures beside the published ones, as CSV and Markdown.

    Nothing is trained and torch is not needed. Cells nobody has run stay empty.

    Args:
        tables: Tables to build; default: all.
        runs: Folder of runs to include; default: NUCBENCH_RUNS or runs, where it exists.
        store: Folder of published scores (`nucbench publish`).
        out: Folder to write.
    """
    from leaderboards.build import build_tables

    roots = [folder for folder in (store, _folder(runs)) if folder.is_dir()]
    for path in build_tables(tables or (), roots, out):
        print(path)


def plot(
    plots: list[str] | None = None,
    *,
    data: Path | None = None,
    runs: Path | None = None,
    store: Path = Path("leaderboards/scores"),
    out: Path = Path("plots"),
) -> None:
    """Draw pictures of stored scores as PNG and SVG: box plots, bars of each image, sizes of nuclei, overlays.

    Overlays and sizes show nuclei: they need the predictions of the runs and the datasets, and say what is missing.

    Args:
        plots: Plots to draw: boxes, images, overlays, sizes; default: all.
        data: Folder with one folder per dataset; default: NUCBENCH_DATA or data.
        runs: Folder of runs to include; default: NUCBENCH_RUNS or runs, where it exists.
        store: Folder of published scores (`nucbench publish`).
        out: Folder to write.
    """
    from leaderboards.plot import print_plots

    roots = [folder for folder in (store, _folder(runs)) if folder.is_dir()]
    print_plots(plots or [], roots, _folder(runs), _folder(data), out)


def publish(
    run: list[Path],
    *,
    store: Path = Path("leaderboards/scores"),
) -> None:
    """Copy the record and the per-image scores of finished runs (no images, no weights) to where tables keep them.

    Args:
        run: Directories of runs.
        store: Folder of published scores.
    """
    from benchmark.publish import publish_run

    for path in run:
        print(publish_run(path, store))


def list_(
    what: Literal["methods", "datasets", "tables", "runs"],
    *,
    verbose: bool = False,
    data: Path | None = None,
    runs: Path | None = None,
) -> None:
    """List methods, datasets, tables or runs.

    Args:
        what: What to list.
        verbose: Show the whole cards: recipe, options, deviations, layouts.
        data: Folder with one folder per dataset; default: NUCBENCH_DATA or data.
        runs: Folder of all runs; default: NUCBENCH_RUNS or runs.
    """
    from benchmark.listing import print_list

    print_list(what, verbose=verbose, data=_folder(data), runs=_folder(runs))


def prepare(
    dataset: str,
    *,
    synthetic: bool = False,
    images: int | None = None,
    size: int = 256,
    seed: int = 0,
    data: Path | None = None,
) -> None:
    """Check that a dataset is complete and readable, or write a synthetic stand-in in its layout.

    Args:
        dataset: Dataset to prepare.
        synthetic: Write synthetic images in the dataset's own layout; never over existing files.
        images: Number of synthetic images over all splits; default: the least that fills every split.
        size: Side of the synthetic images, px.
        seed: Seed of the synthetic images.
        data: Folder with one folder per dataset; default: NUCBENCH_DATA or data.
    """
    from benchmark.prepare import prepare_dataset

    prepare_dataset(dataset, _folder(data), synthetic=synthetic, images=images, size=size, seed=seed)


def speed(
    methods: list[str] | None = None,
    *,
    options: dict[str, Any] | None = None,
    sizes: list[int] | None = None,
    repeats: int = 5,
    precision: Precision = "auto",
    train: bool = False,
    tiling: bool = False,
    tiles: int | None = None,
    peers: bool = True,
    workers: int | None = None,
    out: Path = Path("leaderboards/speed"),
) -> None:
    """Time metrics, targets, post-processing and loading in one thread, or methods, on synthetic images.

    Components are timed beside what other packages take for the same jobs; those that are not installed are left out
    (pip install 'nucbench[peers]'). Of a method, the network on a whole image, its post-processing and (with --train)
    a training step are timed apart. `nucbench speed hovernet --tiling` compares HoVer-Net's published tiling of an
    image with large tiles. The CSV is named by hardware, precision and versions.

    Args:
        methods: Methods to time; none = the components.
        options: Options of the methods, for example --options.mode fast.
        sizes: Sides of the square images, px; default: 1000.
        repeats: Counted runs of each job, after one that is not counted; fewer of jobs that take seconds.
        precision: Floating-point precision of networks.
        train: Time training steps too, at the recipe's batch and crop size.
        tiling: Compare tilings of hovernet, with the weights of --options.weights or weights trained for a minute.
        tiles: With --tiling, small tiles to time, at most a row of them; the rest is reckoned from these. Default: all.
        peers: Leave out other packages.
        workers: Processes that draw training samples, beside a measurement in one; 0 = none. Default: one per core.
        out: Folder to write.
    """
    from benchmark.speed.report import run_speed

    run_speed(
        methods or [],
        options or {},
        sizes or [1000],
        repeats,
        precision,
        out,
        train=train,
        tiling=tiling,
        tiles=tiles,
        compare=peers,
        workers=workers,
    )


def demo(*, out: Path = Path("demo"), steps: int = 60, progress: bool = True) -> int:
    """Try everything in a few minutes without a download: three methods on two synthetic datasets.

    Args:
        out: Folder to write: data, runs, tables and pictures.
        steps: Optimiser steps of each training.
        progress: Hide progress bars.
    """
    from benchmark.demo import run_demo

    return run_demo(out, steps, progress=progress)


def _folder(path: Path | None) -> Path:
    """Return a folder that the command line has filled in."""
    if path is None:
        raise ValueError("the command line fills in the folders of datasets and runs")
    return path


def _loggers(mirror: Mirror, spec: Any, runs: Path) -> Any:
    """Return a context that gives the loggers of a run beside its own CSV file."""
    from benchmark.mirror import loggers

    return loggers(mirror, spec, runs)
