"""Draw the pictures of the papers from stored results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from leaderboards.broken import name_problems
from leaderboards.literature import load_facts, load_names
from leaderboards.papers.classification import Classification
from leaderboards.papers.typed import without_classify
from leaderboards.plots.boxes import draw_boxes
from leaderboards.plots.confusion import draw_confusion
from leaderboards.plots.images import draw_images
from leaderboards.plots.ki67 import DRAW as KI67
from leaderboards.plots.overlays import draw_overlays
from leaderboards.plots.sizes import draw_sizes
from leaderboards.plots.style import Drawn, Stored, save, style
from leaderboards.records import load_scores, of_one_kind
from leaderboards.statistics.entries import fields, published_field
from postproc.errors import unknown_name

PLOTS: dict[str, Callable[[Stored], Iterator[Drawn]]] = {
    "boxes": draw_boxes,
    "confusion": draw_confusion,
    "images": draw_images,
    **KI67,
    "overlays": draw_overlays,
    "sizes": draw_sizes,
}
"""Plot name -> function that yields its pictures, one per dataset and protocol."""


def draw_plots(
    names: Iterable[str],
    roots: Iterable[Path],
    runs: Path,
    data: Path,
    out: Path,
    problems: list[str] | None = None,
) -> Iterator[tuple[list[Path], str]]:
    """Write pictures as PNG and SVG; equal results give identical bytes.

    Args:
        names: Plots to draw; empty = all.
        roots: Folders of stored results.
        runs: Folder of all runs; pictures of nuclei need its predictions.
        data: Folder with one folder per dataset; pictures of nuclei need images and annotations.
        out: Output folder.
        problems: As for `leaderboards.records.load_scores`.

    Yields:
        The files of each picture, and a line about what was left out (empty if nothing was); no files if the whole
        picture was left out.

    Raises:
        ConfigError: If a plot name is unknown.
        DataError: If a stored or published file is missing or broken; the message names it.
    """
    chosen = list(dict.fromkeys(names)) or sorted(PLOTS)
    for name in chosen:
        if name not in PLOTS:
            raise unknown_name("plot", name, (*PLOTS, "maps"))
    known = load_names()
    published = load_facts(known)
    scores = load_scores(roots, known, problems)
    compared = of_one_kind(scores)
    found = (*fields(compared), *published_field(published))
    typed = tuple(fields(without_classify(compared), (Classification,)))
    stored = Stored(found, published, Path(runs), Path(data), typed, scores)
    with style():
        for name in chosen:
            for drawn in PLOTS[name](stored):
                yield save(drawn, Path(out)), f"{drawn.name}: {drawn.note}" if drawn.note else ""


def print_plots(names: Iterable[str], roots: Iterable[Path], runs: Path, data: Path, out: Path) -> int:
    """Draw pictures as `draw_plots` does; print each file, and what is left out, as it is produced.

    Returns:
        1 if a broken stored file was left out; 0 otherwise.
    """
    problems: list[str] = []
    for paths, note in draw_plots(names, roots, runs, data, out, problems):
        for path in paths:
            print(path)
        if note:
            print(f"{'left out of' if paths else 'not drawn:'} {note}", flush=True)
    return name_problems(problems)


__all__ = ["PLOTS", "draw_plots", "print_plots"]
