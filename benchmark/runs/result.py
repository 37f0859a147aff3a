"""`Result`: directory and scores of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rich.table import Table

from benchmark.host.console import cell, wide_console
from benchmark.host.files import read_json
from benchmark.results.store import RunStore


@dataclass(frozen=True)
class Result:
    """Directory and scores of a run.

    Attributes:
        store: Store of the run.
        scores: (target, row title) -> summary over images.
    """

    store: RunStore
    scores: dict[tuple[str, str], dict[str, float]]


SHOWN = (
    "dice",
    "aji",
    "aji_plus",
    "dice2",
    "dq",
    "sq",
    "pq",
    "pq_pooled",
    "F_d",
    "accuracy",
    "precision",
    "recall",
    "f1",
)
"""Scores printed after a run, in this order, if available."""


def _found_nothing(scores: dict[str, float]) -> bool:
    """Tell whether every score of nuclei is 0, as where none is found."""
    known = [scores[name] for name in ("aji", "pq", "F_d", "f1") if name in scores and not math.isnan(scores[name])]
    return bool(known) and not any(known)


def print_result(result: Result) -> None:
    """Print the directory of a run and its scores, one row per evaluated set and post-processing variant."""
    console = wide_console()
    rows = result.scores
    shown = [name for name in SHOWN if any(name in scores for scores in rows.values())]
    types = sorted(
        {name for scores in rows.values() for name in scores if name.startswith("F_c_") and name[4:].isdigit()}
    )
    table = Table(title=result.store.run_id)
    table.add_column("set")
    table.add_column("method")
    for name in ("images", *shown, *types):
        table.add_column(name, justify="right")
    for (target, title), scores in rows.items():
        cells = [cell(scores.get(name)) for name in (*shown, *types)]
        table.add_row(target, title, str(int(scores["images"])), *cells)
    if rows:
        console.print(table)
    empty = [target for (target, _), scores in rows.items() if _found_nothing(scores)]
    if empty:
        console.print(
            f"scores of zero on {', '.join(dict.fromkeys(empty))}: was the training long enough? have the images the "
            "magnification and the stain of the training images?",
            soft_wrap=True,
            markup=False,
        )
    console.print(f"run:     {result.store.path}", soft_wrap=True)
    if rows:
        console.print(f"scores:  {result.store.path / 'evaluations'}", soft_wrap=True)
    following = [f"nucbench {command} {result.store.path}{rest}" for command, rest in _next(result.store)]
    for label, command in zip(("next:", *[""] * len(following)), following, strict=False):
        console.print(f"{label:<9}{command}", soft_wrap=True, markup=False)


def _next(store: RunStore) -> list[tuple[str, str]]:
    """Return the commands that a run can be used with, each with what follows the path.

    Predictions made elsewhere have no model, and scores on synthetic images are not published.
    """
    record = read_json(store.record_file)
    commands = [] if record.get("source") == "predictions" else [("predict", " IMAGE...")]
    return commands if store.unpublishable(record) else [*commands, ("publish", "")]
