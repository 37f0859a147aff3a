"""Commands that show what is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from benchmark.commands.common import Mirror, filled


def leaderboard(
    tables: list[str] | None = None,
    *,
    runs: Path | None = None,
    store: Path = Path("leaderboards/scores"),
    out: Path = Path("leaderboards/tables"),
    wandb: Mirror = "off",
) -> int:
    """Rebuild the tables from stored scores, our figures beside the published ones, as CSV and Markdown.

    Nothing is trained and torch is not needed. Cells nobody has run stay empty. Stored files that are broken are named
    and left out; the exit status is then 1.

    Args:
        tables: Tables to build; default: all.
        runs: Folder of runs to include; default: NUCBENCH_RUNS or runs, where it exists.
        store: Folder of published scores (`nucbench publish`).
        out: Folder to write.
        wandb: Log the tables to Weights & Biases too, as an artifact and to look at; what is to be uploaded later lies
            in the folder leaderboard of the runs folder.
    """
    from benchmark.mirrors.tables import show_tables
    from leaderboards.broken import name_problems
    from leaderboards.build import build_tables

    roots = _stored(store, filled(runs))
    problems: list[str] = []
    files = build_tables(tables or (), roots, out, problems)
    for path in files:
        print(path)
    show_tables(files, wandb, filled(runs) / "leaderboard")
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
    """Draw pictures of stored scores as PNG and SVG: box plots, bars of each image, sizes of nuclei, overlays.

    Overlays and sizes show nuclei: they need the predictions of the runs and the datasets, and say what is missing.
    `nucbench plot maps --run RUN` runs the network of a finished run and shows what it says before decoding
    (probabilities, distances, HV maps, attention, proximity), beside image, annotation and result.

    Args:
        plots: Plots to draw: boxes, confusion, images, overlays, sizes; ki67-labels, ki67-stages, ki67-gamma,
            ki67-lambda, which show the sweeps of those names; maps, with --run; default: all but maps.
        run: Of maps: directories of the runs.
        images: Of maps: images, each DATASET/IMAGE, for example kumar/TCGA-B0-5711-01Z-00-DX1. Default: the image on
            which each run scored neither well nor badly.
        variant: Of maps: post-processing of the result. Default: the run's first.
        side: Of maps: side of the part of the image that is shown, px.
        data: Folder with one folder per dataset; default: NUCBENCH_DATA or data.
        runs: Folder of runs to include; default: NUCBENCH_RUNS or runs, where it exists.
        store: Folder of published scores (`nucbench publish`).
        out: Folder to write.
    """
    from leaderboards.plots.draw import print_plots
    from postproc.errors import ConfigError

    chosen = plots or (["maps"] if run else [])
    if "maps" in chosen and not run:
        raise ConfigError("maps are drawn of a run: nucbench plot maps --run RUN")
    if "maps" not in chosen and (run or images or variant):
        raise ConfigError("--run, --images and --variant belong to the plot maps: nucbench plot maps --run RUN")
    others = [name for name in chosen if name != "maps"]
    status = 0
    if others or not chosen:
        status = print_plots(others, _stored(store, filled(runs)), filled(runs), filled(data), out)
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
    """Make a folder of HTML pages from stored results: tables, runs, scores of each image, plots, overlays.

    Nothing is trained. The folder needs nothing outside itself and can be sent to others. Overlays show nuclei: they
    need the predictions of the runs and the datasets; what is missing is said. Stored files that are broken are named
    and left out; the exit status is then 1.

    Args:
        data: Folder with one folder per dataset; default: NUCBENCH_DATA or data.
        runs: Folder of runs to include; default: NUCBENCH_RUNS or runs, where it exists.
        store: Folder of published scores (`nucbench publish`).
        out: Folder to write; an older report in it is replaced, anything else is not.
    """
    from leaderboards.report.build import print_report

    roots = _stored(store, filled(runs))
    return print_report(roots, filled(runs), filled(data), out)


def publish(
    run: list[Path],
    *,
    store: Path = Path("leaderboards/scores"),
) -> None:
    """Copy the record and the per-image scores of finished runs (no images, no weights) to where tables keep them.

    Args:
        run: Directories of runs; also what searches selected, search/NAME.json below the runs folder.
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
    """List methods, datasets, tables or runs; `nucbench list methods dist` shows all that is known of one.

    Args:
        what: What to list.
        names: Methods, datasets or tables whose whole cards are shown; default: all, a line each.
        verbose: Show the whole cards: recipe, options, deviations, layouts.
        data: Folder with one folder per dataset; default: NUCBENCH_DATA or data.
        runs: Folder of all runs; default: NUCBENCH_RUNS or runs.
    """
    from benchmark.commands.listing import print_list

    return print_list(what, names or [], verbose=verbose, data=filled(data), runs=filled(runs))


def _stored(*folders: Path) -> list[Path]:
    """Return the folders of stored results that exist."""
    return [folder for folder in folders if folder.is_dir()]
