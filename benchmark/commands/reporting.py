"""Commands that show stored results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from benchmark.commands.common import filled
from benchmark.host.machine import Mirror


def leaderboard(
    tables: list[str] | None = None,
    *,
    runs: Path | None = None,
    store: Path = Path("leaderboards/scores"),
    out: Path = Path("leaderboards/tables"),
    wandb: Mirror = "off",
) -> int:
    """Rebuild the tables of our and the published scores from stored scores, as CSV and Markdown.

    Nothing is trained and torch is not needed. Cells without a run stay empty. Scores on images that the model was
    trained on, also as part of another dataset, are left out and named. Broken stored files are reported and skipped;
    the exit status is then 1.

    Args:
        tables: Tables to build; default: all.
        runs: Folder of runs to include, if it exists; default: NUCBENCH_RUNS or runs.
        store: Folder of published scores (`nucbench publish`).
        out: Output folder.
        wandb: Also log the tables to Weights & Biases, as an artifact and as W&B tables; offline files are written to
            the folder leaderboard in the runs folder.
    """
    from benchmark.mirrors.tables import show_tables
    from leaderboards.broken import name_problems
    from leaderboards.build import build_tables

    roots = _stored(store, filled(runs))
    problems: list[str] = []
    refused: list[str] = []
    files = build_tables(tables or (), roots, out, problems, refused)
    for path in files:
        print(path)
    show_tables(files, wandb, filled(runs) / "leaderboard")
    _tell_if_empty(store, filled(runs))
    for line in dict.fromkeys(refused):
        print(f"left out: {line}")
    return name_problems(problems)


def plot(
    plots: list[str] | None = None,
    *,
    run: list[Path] | None = None,
    images: list[str] | None = None,
    variant: str | None = None,
    side: int = 250,
    data: Path | None = None,
    runs: Path | None = None,
    store: Path = Path("leaderboards/scores"),
    out: Path = Path("plots"),
) -> int:
    """Draw plots of stored scores as PNG and SVG: box plots, bars per image, nucleus sizes, overlays.

    Overlays and sizes need the predictions of the runs and the datasets; missing ones are reported.
    `nucbench plot maps --run RUN` runs the network of a finished run and shows its output before decoding
    (probabilities, distances, HV maps, attention, proximity) next to image, annotation and result.

    Args:
        plots: Plots to draw: boxes, confusion, images, overlays, sizes; ki67-labels, ki67-stages, ki67-gamma,
            ki67-lambda (the sweeps of those names); maps (needs --run). Default: all except maps.
        run: For maps: run directories.
        images: For maps: images, each DATASET/IMAGE, for example kumar/TCGA-B0-5711-01Z-00-DX1. Default: the image with
            the median score of each run.
        variant: For maps: post-processing variant of the result; default: the first of the run.
        side: For maps: side of the shown crop in pixels.
        data: Folder with one folder per dataset; default: NUCBENCH_DATA or data.
        runs: Folder of runs to include, if it exists; default: NUCBENCH_RUNS or runs.
        store: Folder of published scores (`nucbench publish`).
        out: Output folder.
    """
    from leaderboards.plots.draw import print_plots
    from postproc.errors import ConfigError

    chosen = plots or (["maps"] if run else [])
    if "maps" in chosen and not run:
        raise ConfigError("maps need a run: nucbench plot maps --run RUN")
    if "maps" not in chosen and (run or images or variant):
        raise ConfigError("--run, --images and --variant are options of the plot maps: nucbench plot maps --run RUN")
    others = [name for name in chosen if name != "maps"]
    status = 0
    if others or not chosen:
        status = print_plots(others, _stored(store, filled(runs)), filled(runs), filled(data), out)
        _tell_if_empty(store, filled(runs))
    if run and "maps" in chosen:
        from benchmark.commands.maps import print_maps

        print_maps(run, images or [], filled(data), out, variant=variant, side=side)
    return status


def report(
    *,
    data: Path | None = None,
    runs: Path | None = None,
    store: Path = Path("leaderboards/scores"),
    out: Path = Path("report"),
) -> int:
    """Write stored results as a folder of HTML pages: tables, runs, scores per image, plots, overlays.

    Nothing is trained. The folder is self-contained and can be sent to others. Overlays need the predictions of the
    runs and the datasets; missing ones are reported. Broken stored files are reported and skipped; the exit status is
    then 1.

    Args:
        data: Folder with one folder per dataset; default: NUCBENCH_DATA or data.
        runs: Folder of runs to include, if it exists; default: NUCBENCH_RUNS or runs.
        store: Folder of published scores (`nucbench publish`).
        out: Output folder; an older report in it is replaced, other files never are.
    """
    from leaderboards.report.build import print_report

    status = print_report(_stored(store, filled(runs)), filled(runs), filled(data), out)
    _tell_if_empty(store, filled(runs))
    return status


def publish(
    run: list[Path],
    *,
    store: Path = Path("leaderboards/scores"),
) -> None:
    """Copy the records and per-image scores of finished runs (no images, no weights) to the store of the tables.

    Args:
        run: Run directories, or results of searches (search/NAME.json in the runs folder).
        store: Folder of published scores.
    """
    from leaderboards.publish import publish_run

    for path in run:
        print(publish_run(path, store))


def list_(
    what: Literal["methods", "datasets", "tables", "runs"],
    names: list[str] | None = None,
    *,
    verbose: bool = False,
    data: Path | None = None,
    runs: Path | None = None,
) -> int:
    """List methods, datasets, tables or runs; `nucbench list methods dist` shows one method in full.

    Args:
        what: What to list.
        names: Methods, datasets or tables to show in full; default: all, one line each.
        verbose: Show full cards: recipe, options, deviations, layouts.
        data: Folder with one folder per dataset; default: NUCBENCH_DATA or data.
        runs: Folder of all runs; default: NUCBENCH_RUNS or runs.
    """
    from benchmark.commands.listing import print_list

    return print_list(what, names or [], verbose=verbose, data=filled(data), runs=filled(runs))


def _stored(*folders: Path) -> list[Path]:
    """Return the folders of stored results that exist."""
    return [folder for folder in folders if folder.is_dir()]


def _tell_if_empty(*folders: Path) -> None:
    """Say so if no folder of stored results holds a run."""
    from leaderboards.found import run_folders

    if not any(run_folders(folder) for folder in _stored(*folders)):
        places = " or ".join(map(str, folders))
        print(f"no runs in {places} (set them with --runs and --store): published figures only", file=sys.stderr)
