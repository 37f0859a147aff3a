"""What all pictures share: style, colours, and files whose bytes depend on nothing but the results."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.host.files import atomic
from leaderboards.statistics.entries import PUBLISHED, Entry, Field

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

WIDTH = 7.2
"""Width of a picture over two columns of a paper, inches."""

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#666666")
"""Colours that people with any colour vision tell apart (Okabe and Ito 2008)."""

STYLE: Any = {
    "font.size": 8,
    "figure.titlesize": 9.5,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "savefig.dpi": 300,
    "svg.hashsalt": "nucbench",  # ids of an SVG are random otherwise
}


@dataclass(frozen=True)
class Stored:
    """What pictures are drawn from.

    Attributes:
        fields: Methods beside each other, per dataset and protocol.
        published: Published figures as of `leaderboards.literature.load_facts`.
        runs: Folder of all runs, for their predictions.
        data: Folder with one folder per dataset, for images and annotations.
        typed: Methods that predict types beside each other, per dataset and protocol.
        scores: Per-image scores as of `leaderboards.records.load_scores`; None = none are stored.
    """

    fields: tuple[Field, ...]
    published: pd.DataFrame
    runs: Path
    data: Path
    typed: tuple[Field, ...] = ()
    scores: pd.DataFrame | None = None


@dataclass(frozen=True)
class Drawn:
    """One picture, or the reason why there is none.

    Attributes:
        name: File name without extension.
        figure: The picture; None where it cannot be drawn.
        note: What is left out, and why; empty where nothing is.
    """

    name: str
    figure: Figure | None
    note: str = ""


@contextmanager
def style() -> Iterator[None]:
    """Draw and save in the style of all pictures, whatever the user's own settings are."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """Return an empty picture of a size in inches; it belongs to no window."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(drawn: Drawn, folder: Path) -> list[Path]:
    """Write a picture as PNG and SVG, atomically and without dates, and return the files."""
    files = []
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        buffer = io.BytesIO()
        if drawn.figure is not None:
            drawn.figure.savefig(buffer, format=kind, metadata=metadata)
            path = folder / f"{drawn.name}.{kind}"
            with atomic(path) as file:
                file.write(buffer.getvalue())
            files.append(path)
    return files


def picture_name(plot: str, field: Field) -> str:
    """Return the file name of a picture without extension: plot, dataset, protocol."""
    dataset = re.sub(r"[^a-z0-9]+", "-", field.dataset.lower()).strip("-")
    return f"{plot}-{dataset}-{field.protocol}"


def heading(field: Field) -> str:
    """Return the title of a picture."""
    if field.protocol == PUBLISHED:
        return f"{field.dataset}: scores printed by Naylor 2018"
    return f"{field.dataset}, protocol {field.protocol}"


def full_label(field: Field, entry: Entry) -> str:
    """Return the name of an entry, with its images where they are not the whole set."""
    images = len(entry.values)
    return entry.label if images == field.expected else f"{entry.label} [{images} of {field.expected} images]"


def by_mean(entries: tuple[Entry, ...], column: str) -> list[Entry]:
    """Return the entries that have a score, best mean first; equal ones by name."""
    found = [entry for entry in entries if column in entry.values and entry.values[column].notna().any()]
    return sorted(found, key=lambda entry: (-round(float(entry.values[column].mean()), 9), entry.label))


def wrap(label: str, width: int = 30) -> str:
    """Break a long name into lines."""
    import textwrap

    return "\n".join(textwrap.wrap(label, width, break_long_words=False)) or label
