"""CSV cells that spreadsheets display but never execute, and names without terminal control characters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from postproc.errors import DataError, short

if TYPE_CHECKING:
    import pandas as pd

STARTS = ("=", "+", "-", "@", "\t", "\r")
"""Characters with which a spreadsheet formula can begin."""


def shown(cell: object) -> object:
    """Prefix text that a spreadsheet would run as a formula with an apostrophe; numbers are returned unchanged."""
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
    """Return a copy of a frame with `shown` applied to every text column."""
    import pandas as pd

    texts = [name for name in frame.columns if not pd.api.types.is_numeric_dtype(frame[name])]
    return frame.assign(**{name: frame[name].map(shown) for name in texts})


def unshown_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with `unshown` applied to the cells of its text columns; itself if none is marked."""
    import pandas as pd

    texts = [name for name in frame.columns if not pd.api.types.is_numeric_dtype(frame[name])]
    marked = [name for name in texts if frame[name].astype(str).str.startswith("'").any()]
    cells = {name: frame[name].map(lambda cell: unshown(cell) if isinstance(cell, str) else cell) for name in marked}
    return frame.assign(**cells) if cells else frame


def check_name(name: str, place: object) -> None:
    """Reject a name with line breaks or other control characters.

    Args:
        name: The name as given.
        place: File or option, for the message.

    Raises:
        DataError: If the name contains such a character.
    """
    if not name.isprintable():
        raise DataError(f"the name {short(name)} in {place} has a line break or control character; rename it")


__all__ = ["check_name", "shown", "shown_frame", "unshown", "unshown_frame"]
