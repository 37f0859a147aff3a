"""Options that turn a run into a different method, and the name of its row: ``published/options.csv``."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

from leaderboards.literature import PUBLISHED, read_table
from leaderboards.options import split_options
from postproc.errors import DataError

COLUMNS = ("method", "option", "effect", "default", "value", "label")

EFFECTS = ("row", "size", "weights", "training", "types")
"""Effect of an option on the rows of its method.

``row``: a different method, which has its own row and is never compared with the published figures. ``size``,
``weights``, ``training`` (numbers and settings of the recipe): the same method; the settings are listed below the
table. ``types``: whether nucleus types are learnt, which each table treats in its own way
(`leaderboards.papers.typed`)."""

EVERY = "*"
"""Wildcard for every method (a setting of the recipe), or for every value except the default."""


@dataclass(frozen=True)
class Change:
    """One line of ``options.csv``.

    Attributes:
        method: Registry name, or `EVERY`.
        option: Option of the method, or setting of the recipe.
        effect: One of `EFFECTS`.
        default: For the effect ``row``: value of the published method, as `describe` writes it; empty = not stated.
        value: For the effect ``row``: value that gets another row; `EVERY` = every value except the default.
        label: For the effect ``row``: text added to the name of the row; ``{}`` is replaced by the value.
    """

    method: str
    option: str
    effect: str
    default: str
    value: str
    label: str


class Changes:
    """Effect of each option of each method on its row.

    Args:
        lines: The declarations.
        origin: Their source, for messages.

    Raises:
        DataError: If a line has an unknown effect, lacks its label, or contradicts another one.
    """

    def __init__(self, lines: Iterable[Change], origin: str = "the option table") -> None:
        self.lines = tuple(lines)
        self._of: dict[tuple[str, str], list[Change]] = {}
        for line in self.lines:
            known = self._of.setdefault((line.method, line.option), [])
            name = f"{origin}: {line.method}, {line.option}"
            if line.effect not in EFFECTS:
                raise DataError(f"{name} has the effect {line.effect!r}. Choices: {', '.join(EFFECTS)}.")
            if {bool(line.label), bool(line.value)} != {line.effect == "row"}:
                raise DataError(f"{name}: the effect 'row' needs a value and a label; other effects must have neither.")
            if any((o.effect, o.default) != (line.effect, line.default) or o.value == line.value for o in known):
                raise DataError(f"{name} is declared twice. Keep one line, or one line per value.")
            known.append(line)

    def of(self, method: str, option: str) -> tuple[Change, ...]:
        """Return the declarations of an option; empty if it is unknown."""
        return tuple(self._of.get((method, option)) or self._of.get((EVERY, option)) or ())

    def labels(self, method: str, options: str, leave_out: Collection[str] = ()) -> list[str]:
        """Return the labels that the options of a run add to the name of its row.

        An undeclared option counts as a different method, so that a row never claims more than is known about it.

        Args:
            method: Registry name.
            options: As `leaderboards.records.describe` writes them.
            leave_out: Options that the caller labels itself.
        """
        found = []
        for option, value in split_options(options).items():
            declared = self.of(method, option)
            if option in leave_out or (declared and (declared[0].effect != "row" or value == declared[0].default)):
                continue
            line = next((line for line in declared if line.value in (value, EVERY)), None)
            found.append(line.label.replace("{}", value) if line else f"{option}={value}")
        return found

    def title(self, title: str, method: str, options: str, leave_out: Collection[str] = ()) -> str:
        """Return the name of a row: the method's name, followed by the changes of its options in brackets.

        Args:
            title: Name of the method's row.
            method: As for `labels`.
            options: As for `labels`.
            leave_out: As for `labels`.
        """
        labels = self.labels(method, options, leave_out)
        return in_brackets(title, ", ".join(labels)) if labels else title


def in_brackets(title: str, text: str) -> str:
    """Append a text in brackets, inside the name's final brackets if any: ``HoVer-Net (Sobel; fast mode)``."""
    return f"{title[:-1]}; {text})" if title.endswith(")") else f"{title} ({text})"


def load_changes(path: Path = PUBLISHED / "options.csv") -> Changes:
    """Read the declarations.

    Raises:
        DataError: If the file is missing or unreadable, or one of its lines is invalid.
    """
    frame = read_table(path, COLUMNS, text=True)
    return Changes((Change(*map(str, line)) for line in frame[list(COLUMNS)].itertuples(index=False)), str(path))


@cache
def changes() -> Changes:
    """Return the committed declarations."""
    return load_changes()


def row_titles(titles: Iterable[str], scores: pd.DataFrame, leave_out: Collection[str] = ()) -> pd.Series:
    """Return the name of the row of each line of the scores, for a table with its own names.

    Args:
        titles: Name of each line in the table.
        scores: Per-image scores as returned by `leaderboards.records.load_scores`.
        leave_out: Options already covered by the table's names.
    """
    facts = zip(titles, scores["method"], scores["options"], strict=True)
    named: dict[tuple[str, str, str], str] = {}
    rows = [named.setdefault(fact, changes().title(*fact, leave_out)) for fact in facts]
    return pd.Series(rows, index=scores.index, dtype=object)


__all__ = ["EFFECTS", "EVERY", "Change", "Changes", "changes", "in_brackets", "load_changes", "row_titles"]
