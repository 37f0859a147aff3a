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
) -> None:
    """Rebuild the tables from stored scores, our figures beside the published ones, as CSV and Markdown.

    Nothing is trained and torch is not needed. Cells nobody has run stay empty.

    Args:
        tables: Tables to build; default: all.
        runs: Folder of runs to include; default: NUCBENCH_RUNS or runs, where it exists.
        store: Folder of published scores (`nucbench publish`).
        out: Folder to write.
        wandb: Log the tables to Weights & Biases too, as an artifact and to look at; what is to be uploaded later lies
            in the folder leaderboard of the runs folder.
    """
    from benchmark.mirrors.tables import show_tables
    from leaderboards.build import build_tables

    roots = _stored(store, filled(runs))
    files = build_tables(tables or (), roots, out)
    for path in files:
        print(path)
    show_tables(files, wandb, filled(runs) / "leaderboard")


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
        plots: Plots to draw: boxes, confusion, images, overlays, sizes; ki67-labels, ki67-stages, ki67-gamma,
            ki67-lambda, which show the sweeps of those names; default: all.
        data: Folder with one folder per dataset; default: NUCBENCH_DATA or data.
        runs: Folder of runs to include; default: NUCBENCH_RUNS or runs, where it exists.
        store: Folder of published scores (`nucbench publish`).
        out: Folder to write.
    """
    from leaderboards.plot import print_plots

    roots = _stored(store, filled(runs))
    print_plots(plots or [], roots, filled(runs), filled(data), out)


def report(
    *,
    data: Path | None = None,
    runs: Path | None = None,
    store: Path = Path("leaderboards/scores"),
    out: Path = Path("report"),
) -> None:
    """Make a folder of HTML pages from stored results: tables, runs, scores of each image, plots, overlays.

    Nothing is trained. The folder needs nothing outside itself and can be sent to others. Overlays show nuclei: they
    need the predictions of the runs and the datasets; what is missing is said.

    Args:
        data: Folder with one folder per dataset; default: NUCBENCH_DATA or data.
        runs: Folder of runs to include; default: NUCBENCH_RUNS or runs, where it exists.
        store: Folder of published scores (`nucbench publish`).
        out: Folder to write; an older report in it is replaced, anything else is not.
    """
    from leaderboards.report.build import print_report

    roots = _stored(store, filled(runs))
    print_report(roots, filled(runs), filled(data), out)


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

    print_list(what, verbose=verbose, data=filled(data), runs=filled(runs))


def _stored(*folders: Path) -> list[Path]:
    """Return the folders of stored results that exist."""
    return [folder for folder in folders if folder.is_dir()]
