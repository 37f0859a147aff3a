"""Tables that commands print."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd


def wide_console() -> Console:
    """Return a console that does not truncate tables if the output is not a terminal.

    Markup is disabled, since names given by users may contain brackets.
    """
    console = Console(markup=False, highlight=False)
    return console if console.is_terminal else Console(width=max(console.width, 200), markup=False, highlight=False)


def print_frame(frame: pd.DataFrame) -> None:
    """Print a table of scores with three decimals."""
    table = Table()
    for i, name in enumerate(frame.columns):
        table.add_column(str(name), justify="left" if i == 0 else "right")
    for row in frame.itertuples(index=False):
        table.add_row(*(value if isinstance(value, str) else cell(value) for value in row))
    wide_console().print(table)


def cell(value: float | None) -> str:
    """Format a score with three decimals, or a dash if it is missing."""
    if value is None or math.isnan(value):
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
