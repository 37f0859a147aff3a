"""What commands print at their end."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from benchmark.run import Result

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
"""Scores that a run prints, in this order, where it has them."""


def wide_console() -> Console:
    """Return a console that cuts no table short where the output is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, 200))


def print_result(result: Result) -> None:
    """Print where a run lies and its scores, a row per evaluated set and post-processing."""
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
        cells = [_cell(scores.get(name)) for name in (*shown, *types)]
        table.add_row(target, title, str(int(scores["images"])), *cells)
    if rows:
        console.print(table)
    console.print(f"run:     {result.store.path}", soft_wrap=True, highlight=False)
    console.print(f"scores:  {result.store.path / 'evaluations'}", soft_wrap=True, highlight=False)
    console.print(
        f"next:    nucbench predict {result.store.path} IMAGE...   nucbench publish {result.store.path}",
        soft_wrap=True,
        highlight=False,
    )


def print_frame(frame: pd.DataFrame) -> None:
    """Print a table of scores with three decimals."""
    table = Table()
    for i, name in enumerate(frame.columns):
        table.add_column(str(name), justify="left" if i == 0 else "right")
    for row in frame.itertuples(index=False):
        table.add_row(*(value if isinstance(value, str) else _cell(value) for value in row))
    wide_console().print(table)


def _cell(value: float | None) -> str:
    if value is None or math.isnan(value):
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
