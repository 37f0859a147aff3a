"""What commands print at their end."""

from __future__ import annotations

import math

import pandas as pd
from rich.console import Console
from rich.table import Table


def wide_console() -> Console:
    """Return a console that cuts no table short where the output is not a terminal.

    It prints what it is given: names of users may hold brackets, which are not markup.
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
    """Return a score with three decimals, a dash where there is none."""
    if value is None or math.isnan(value):
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
