"""Which options make another method of a run, and what its row is called: ``published/options.csv``."""

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
"""What an option does to the rows of its method.

``row``: another method, which has a row of its own and never stands beside the published figures. ``size``,
``weights``, ``training`` (numbers and settings of the recipe): the same method; the settings stand below the table.
``types``: types of nuclei are learnt or not, which each table treats in its own way (`leaderboards.papers.typed`)."""

EVERY = "*"
"""Stands for every method (a setting of the recipe), or for every value but the default."""


@dataclass(frozen=True)
class Change:
    """One line of ``options.csv``.

    Attributes:
        method: Registry name, or `EVERY`.
        option: Option of the method, or setting of the recipe.
        effect: One of `EFFECTS`.
        default: Of effect ``row``: value of the published method, as `describe` writes it; empty = not stated.
        value: Of effect ``row``: value that makes another row; `EVERY` = each but the default.
        label: Of effect ``row``: what is added to the name of the row; ``{}`` stands for the value.
    """

    method: str
    option: str
    effect: str
    default: str
    value: str
    label: str


class Changes:
    """What each option of each method does to its row.

    Args:
        lines: The declarations.
        origin: Where they come from, for messages.

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
                raise DataError(f"{name}: a value and a label belong to the effect 'row', and to no other.")
            if any((o.effect, o.default) != (line.effect, line.default) or o.value == line.value for o in known):
                raise DataError(f"{name} is declared twice. Keep one line, or one for each value.")
            known.append(line)

    def of(self, method: str, option: str) -> tuple[Change, ...]:
        """Return what is declared of an option; nothing where it is unknown."""
        return tuple(self._of.get((method, option)) or self._of.get((EVERY, option)) or ())

    def labels(self, method: str, options: str, leave_out: Collection[str] = ()) -> list[str]:
        """Return what the options of a run add to the name of its row.

        An option that nobody has declared counts as another method: a row must not claim more than is known of it.

        Args:
            method: Registry name.
            options: As `leaderboards.records.describe` writes them.
            leave_out: Options that the caller names in its own way.
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
        """Return the name of a row: the method's, with what its options change of the method in brackets.

        Args:
            title: Name of the method's row.
            method: As for `labels`.
            options: As for `labels`.
            leave_out: As for `labels`.
        """
        labels = self.labels(method, options, leave_out)
        return in_brackets(title, ", ".join(labels)) if labels else title


def in_brackets(title: str, text: str) -> str:
    """Add a text to a name in brackets: in those that it ends with, if it does, ``HoVer-Net (Sobel; fast mode)``."""
    return f"{title[:-1]}; {text})" if title.endswith(")") else f"{title} ({text})"


def load_changes(path: Path = PUBLISHED / "options.csv") -> Changes:
    """Read the declarations.

    Raises:
        DataError: If the file is missing or unreadable, or a line of it is wrong.
    """
    frame = read_table(path, COLUMNS, text=True)
    return Changes((Change(*map(str, line)) for line in frame[list(COLUMNS)].itertuples(index=False)), str(path))


@cache
def changes() -> Changes:
    """Return the committed declarations."""
    return load_changes()


def row_titles(titles: Iterable[str], scores: pd.DataFrame, leave_out: Collection[str] = ()) -> pd.Series:
    """Return the name of the row of each line of the scores, for a table with names of its own.

    Args:
        titles: Name of each line in the table.
        scores: Per-image scores as of `leaderboards.records.load_scores`.
        leave_out: Options that the table's names already tell.
    """
    facts = zip(titles, scores["method"], scores["options"], strict=True)
    named: dict[tuple[str, str, str], str] = {}
    rows = [named.setdefault(fact, changes().title(*fact, leave_out)) for fact in facts]
    return pd.Series(rows, index=scores.index, dtype=object)


__all__ = ["EFFECTS", "EVERY", "Change", "Changes", "changes", "in_brackets", "load_changes", "row_titles"]
