"""Cells of CSV files that spreadsheets show and never run, and names that no terminal obeys."""

from __future__ import annotations

import pandas as pd

from postproc.errors import DataError, short

STARTS = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


def shown(cell: object) -> object:
    """Return a cell for people: an apostrophe goes before text that a spreadsheet would run; numbers stay numbers."""
    if not isinstance(cell, str) or not cell.lstrip("'").startswith(STARTS):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def unshown(cell: str) -> str:
    """Return the text of which `shown` made a cell: text that begins with an apostrophe and a formula gets one more."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'").startswith(STARTS) else cell


def shown_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose text is as of `shown`."""
    texts = [name for name in frame.columns if not pd.api.types.is_numeric_dtype(frame[name])]
    return frame.assign(**{name: frame[name].map(shown) for name in texts})


def check_name(name: str, place: object) -> None:
    """Refuse a name with line breaks or other control characters.

    Args:
        name: What the user gave.
        place: File or option, for the message.

    Raises:
        DataError: If it has one.
    """
    if not name.isprintable():
        raise DataError(f"the name {short(name)} in {place} has a line break or control character; rename it")


__all__ = ["check_name", "shown", "shown_frame", "unshown"]
