"""Shared style and colours of all pictures, and reproducible files."""

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
"""Colours suitable for all kinds of colour vision (Okabe and Ito 2008)."""

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
    "svg.hashsalt": "nucbench",  # otherwise the ids in an SVG are random
}


@dataclass(frozen=True)
class Stored:
    """Data from which pictures are drawn.

    Attributes:
        fields: Methods to compare, per dataset and protocol.
        published: Published figures as returned by `leaderboards.literature.load_facts`.
        runs: Folder of all runs, for predictions.
        data: Folder with one folder per dataset, for images and annotations.
        typed: Methods that predict types, to compare per dataset and protocol.
        scores: Per-image scores as returned by `leaderboards.records.load_scores`; None = no stored scores.
    """

    fields: tuple[Field, ...]
    published: pd.DataFrame
    runs: Path
    data: Path
    typed: tuple[Field, ...] = ()
    scores: pd.DataFrame | None = None


@dataclass(frozen=True)
class Drawn:
    """One picture, or the reason why it cannot be drawn.

    Attributes:
        name: File name without extension.
        figure: The picture; None if it cannot be drawn.
        note: What is left out and why; empty if nothing is.
    """

    name: str
    figure: Figure | None
    note: str = ""


@contextmanager
def style() -> Iterator[None]:
    """Draw and save in the shared style, independent of the user's settings."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        yield


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """Return an empty picture of a size in inches, without a window."""
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
    """Return the name of an entry, with its number of images if the set is incomplete."""
    images = len(entry.values)
    return entry.label if images == field.expected else f"{entry.label} [{images} of {field.expected} images]"


def by_mean(entries: tuple[Entry, ...], column: str) -> list[Entry]:
    """Return the entries that have a score, best mean first; ties by name."""
    found = [entry for entry in entries if column in entry.values and entry.values[column].notna().any()]
    return sorted(found, key=lambda entry: (-round(float(entry.values[column].mean()), 9), entry.label))


def wrap(label: str, width: int = 30) -> str:
    """Break a long name into lines."""
    import textwrap

    return "\n".join(textwrap.wrap(label, width, break_long_words=False)) or label
