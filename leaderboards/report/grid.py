"""Tables of a page: grouped columns, filterable rows and sortable cells."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: Displayed text.
        value: Sort key of a numeric column; None = empty, sorted last.
        kind: CSS class.
        href: Linked page, from the root of the report; empty = none.
        links: (text, page) of several links, shown instead of `text`.
        sub: Small line below.
        hint: Tooltip.
        trend: ``better``, ``worse`` or empty: shown as a sign and a colour.
        share: Length of a bar behind the figure, in [0, 1]; None = no bar.
    """

    text: str = ""
    value: float | None = None
    kind: str = ""
    href: str = ""
    links: tuple[tuple[str, str], ...] = ()
    sub: str = ""
    hint: str = ""
    trend: str = ""
    share: float | None = None

    @property
    def sort(self) -> str:
        """The value as written to the page, empty if there is none."""
        return "" if self.value is None else f"{self.value:.9g}"


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        label: Header.
        numeric: Sorted by value and right-aligned; otherwise sorted by text.
        descending: True if the first click sorts the largest values to the top.
        hint: Explanation of the header.
    """

    label: str
    numeric: bool = True
    descending: bool = True
    hint: str = ""


@dataclass(frozen=True)
class Group:
    """Columns under one header.

    Attributes:
        label: Header; empty for columns without a group.
        columns: The columns.
        higher: Whether larger values are better, shown next to the header; None = neither.
    """

    label: str
    columns: tuple[Column, ...]
    higher: bool | None = None


@dataclass(frozen=True)
class Row:
    """One row; its first cell is its header.

    Attributes:
        cells: As many as the grid has columns.
        protocol: Protocol for the filter; empty = shown under all protocols.
        only: The only protocol under which the row is shown; empty = no restriction.
    """

    cells: tuple[Cell, ...]
    protocol: str = ""
    only: str = ""


@dataclass(frozen=True)
class Grid:
    """One table.

    Attributes:
        name: Identifier, unique on its page: lower-case words and ``-``.
        title: Caption.
        groups: Columns.
        rows: Rows in their initial order.
        footer: Rows at the bottom that are never sorted.
        note: Paragraph below the table.
    """

    name: str
    title: str
    groups: tuple[Group, ...]
    rows: tuple[Row, ...]
    footer: tuple[Row, ...] = field(default=())
    note: str = ""

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns in order."""
        return tuple(column for group in self.groups for column in group.columns)

    @property
    def two_headers(self) -> bool:
        """Whether groups have their own headers."""
        return any(group.label for group in self.groups)

    @property
    def protocols(self) -> list[str]:
        """Protocols by which rows can be filtered; empty if there is only one."""
        found = sorted({row.protocol for row in self.rows} - {""})
        return found if len(found) > 1 else []

    @property
    def some_not_run(self) -> bool:
        """Whether some rows have been run under a protocol and others have not."""
        return len({row.protocol == "" for row in self.rows}) > 1


def missing(value: Any) -> bool:
    """Return whether a figure is missing."""
    return value is None or bool(pd.isna(value))


def number(value: Any, decimals: int = 3, **more: Any) -> Cell:
    """Return the cell of a figure, empty if it is missing; infinite values are shown and sorted as such."""
    if missing(value):
        return Cell(**more)
    return Cell(signless(float(value), decimals), float(value), **more)


def signless(value: float, decimals: int = 3) -> str:
    """Return a number with thousands separators and a true minus sign."""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:,.{decimals}f}".replace("-", "−")


def difference(ours: Any, published: Any, higher: bool) -> Cell:
    """Return the cell of ours - published: with its sign and whether it is better or worse."""
    if missing(ours) or missing(published):
        return Cell(kind="diff")
    value = float(ours) - float(published)
    text = f"{value:+,.3f}".replace("-", "−")
    if text[1:] == "0.000":
        return Cell("±0.000", value, kind="diff")
    return Cell(text, value, kind="diff", trend="better" if (value > 0) == higher else "worse")


def from_frame(name: str, title: str, frame: pd.DataFrame) -> Grid:
    """Return any frame as a table, column by column."""
    columns, cells = [], []
    for key in frame.columns:
        numeric = pd.api.types.is_numeric_dtype(frame[key]) and not pd.api.types.is_bool_dtype(frame[key])
        whole = numeric and pd.api.types.is_integer_dtype(frame[key])
        columns.append(Column(str(key).replace("_", " "), numeric=numeric, descending=numeric))
        values: Iterable[Any] = frame[key].tolist()
        cells.append([number(v, 0 if whole else 3) if numeric else Cell("" if missing(v) else str(v)) for v in values])
    rows = tuple(Row(tuple(line)) for line in zip(*cells, strict=True))
    return Grid(name, title, (Group("", tuple(columns)),), rows)


def unique_names(names: Sequence[str]) -> list[str]:
    """Return identifiers derived from texts, numbered if two texts give the same one."""
    found: list[str] = []
    for name in names:
        base = "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower()).strip("-") or "table"
        count, candidate = 1, base
        while candidate in found:
            count += 1
            candidate = f"{base}-{count}"
        found.append(candidate)
    return found


__all__ = [
    "Cell", "Column", "Grid", "Group", "Row", "difference", "from_frame", "missing", "number", "signless",
    "unique_names",
]  # fmt: skip
