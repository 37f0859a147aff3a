"""Tables as Markdown."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from leaderboards.stored import SOURCES

Columns = Sequence[tuple[str, str, bool]]
"""Metrics of a dataset: (name in the frame, header, more is better)."""

Cell = Mapping[Hashable, Any]
"""One line of a comparison."""

NOTHING = "Nothing has been run here yet, and no figures are published."
"""Shown instead of a table without rows."""

_ROW = ("protocol", "source", "weights", "options")

_SPECIAL = re.compile(r"([\\`*_\[\]|~^$])")


def escape(text: str) -> str:
    """Escape a text so that Markdown and HTML show it literally, on one line, also inside a table."""
    text = " ".join(str(text).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", text)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table: first column left-aligned, the others right-aligned; cells must be escaped."""
    lines = [header, [":--", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def comparison_markdown(
    title: str,
    caption: str,
    blocks: Sequence[tuple[str, Columns]],
    frame: pd.DataFrame,
    listed: Collection[str] = (),
) -> str:
    """Return a comparison as Markdown.

    Args:
        title: Heading.
        caption: Paragraph below it (Markdown).
        blocks: Datasets in order, each with its columns.
        frame: What `leaderboards.base.Comparison.build` returned.
        listed: Methods that have a row even without figures.
    """
    notes: dict[str, int] = {}
    parts = [
        f"# {escape(title)}",
        caption,
        "Ours is the mean over images, then over runs with different seeds (± sample standard deviation); an "
        "empty cell has not been run. Bold: best of a column, excluding partial image sets.",
    ]
    cells = frame.to_dict("records")
    for protocol in sorted({cell["protocol"] for cell in cells} - {""}) or [""]:
        parts.append(_heading(protocol, cells))
        under = _under(protocol, cells)
        for dataset, columns in blocks:
            here = [cell for cell in under if cell["dataset"] == dataset]
            parts += [f"### {escape(dataset)}", _dataset(here, columns, notes, listed)]
    parts.append("\n".join(f"[^{number}]: {text}" for text, number in notes.items()))
    return "\n\n".join(part for part in parts if part) + "\n"


def grid_markdown(title: str, caption: str, metrics: Sequence[str], columns: Sequence[str], frame: pd.DataFrame) -> str:
    """Return a comparison on many small sets as Markdown: one table per protocol and metric.

    Args:
        title: Heading.
        caption: Paragraph below it (Markdown).
        metrics: Metrics in order.
        columns: Datasets in order, one column each.
        frame: What `leaderboards.base.Comparison.build` returned.
    """
    notes: dict[str, int] = {}
    parts = [f"# {escape(title)}", caption, "Bold: best published figure and best figure of ours in a column."]
    cells = frame.to_dict("records")
    for protocol in sorted({cell["protocol"] for cell in cells} - {""}) or [""]:
        parts.append(_heading(protocol, cells))
        under = _under(protocol, cells)
        for metric in metrics:
            parts += [f"### {escape(metric)}", _grid([c for c in under if c["metric"] == metric], columns, notes)]
    parts.append("\n".join(f"[^{number}]: {text}" for text, number in notes.items()))
    return "\n\n".join(part for part in parts if part) + "\n"


def _heading(protocol: str, cells: Sequence[Cell]) -> str:
    if protocol:
        return f"## Protocol {escape(protocol)}"
    printed = any(not _missing(cell["published"]) for cell in cells)
    return f"## {'Published figures: nothing run yet' if printed else 'Nothing run yet'}"


def _grid(cells: Sequence[Cell], columns: Sequence[str], notes: dict[str, int]) -> str:
    """Return one table with a line per method and source of figures and a column per dataset."""
    best = {name: _best([cell for cell in cells if cell["dataset"] == name], True) for name in columns}
    grouped: dict[tuple[str, ...], dict[str, Cell]] = {}
    for cell in cells:
        grouped.setdefault(tuple(cell[key] for key in ("method", *_ROW)), {})[cell["dataset"]] = cell
    ran = [key for key, line in grouped.items() if any(not _missing(cell["ours"]) for cell in line.values())]
    rivals = Counter(method for method, *_ in ran)
    rows, printed = [], set()
    for key, line in grouped.items():
        method = key[0]
        if method not in printed and any(not _missing(cell["published"]) for cell in line.values()):
            printed.add(method)
            figures = [_figure(line[name]["published"], best[name][0]) for name in columns]
            rows.append([escape(method), "published", *figures])
        if key in ran:
            shown = [cell for cell in line.values() if not _missing(cell["ours"])]
            label = _label(shown[0], options=rivals[method] > 1) + _mark(shown[0], notes)
            rows.append([label, "ours", *(_ours(line[name], best[name][1]) for name in columns)])
    return table(["Method", "figures", *map(escape, columns)], rows) if rows else NOTHING


def _under(protocol: str, cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells of one protocol; a method not run under it keeps only its published figures."""
    run = {cell["method"] for cell in cells if cell["protocol"] == protocol}
    absent: dict[Hashable, Any] = {"ours": math.nan, **dict.fromkeys(_ROW, "")}
    chosen: dict[tuple[str, ...], Cell] = {}
    for cell in cells:
        shown = cell if cell["method"] in run else {**cell, **absent}
        if shown["protocol"] in ("", protocol):
            chosen.setdefault(tuple(shown[key] for key in ("method", *_ROW, "dataset", "metric")), shown)
    return list(chosen.values())


def _dataset(cells: Sequence[Cell], columns: Columns, notes: dict[str, int], listed: Collection[str]) -> str:
    """Return the table of one dataset; training facts go to the notes."""
    best = {name: _best([c for c in cells if c["metric"] == name], higher) for name, _, higher in columns}
    known = {cell["metric"] for cell in cells if not _missing(cell["published"])}
    header = ["Method"]
    for name, label, _ in columns:
        header += [f"{escape(label)} published"] * (name in known) + [f"{escape(label)} ours"]
    grouped: dict[tuple[str, ...], dict[str, Cell]] = {}
    for cell in cells:
        grouped.setdefault(tuple(cell[key] for key in ("method", *_ROW)), {})[cell["metric"]] = cell
    with_ours = {key for key, line in grouped.items() if any(not _missing(cell["ours"]) for cell in line.values())}
    rivals = Counter(method for method, *_ in with_ours)
    done = set(rivals)
    rows = []
    for (method, *_), line in grouped.items():
        ran = [cell for cell in line.values() if not _missing(cell["ours"])]
        printed = any(not _missing(cell["published"]) for cell in line.values())
        # Published figures appear once, next to the row that was run on this dataset if there is one.
        if ran or ((printed or method in listed) and method not in done):
            done.add(method)
            label = _label(next(iter(line.values())), options=rivals[method] > 1)
            row = [label + (_mark(ran[0], notes) if ran else "")]
            for name, _, _ in columns:
                row += [_figure(line[name]["published"], best[name][0])] * (name in known)
                row.append(_ours(line[name], best[name][1]))
            rows.append([*row, *_counts(ran)])
    return table([*header, "images", "runs"], rows) if rows else NOTHING


def _best(cells: Sequence[Cell], higher: bool) -> tuple[float, float]:
    """Return the best published and our best figure; NaN if fewer than two compete."""
    published = {cell["method"]: cell["published"] for cell in cells if not _missing(cell["published"])}
    ours = [cell["ours"] for cell in cells if not _missing(cell["ours"]) and _whole(cell)]
    choose = max if higher else min
    best = [choose(c) if len(c) > 1 else math.nan for c in (list(published.values()), ours)]
    return best[0], best[1]


def _missing(value: Any) -> bool:
    return bool(pd.isna(value))


def _whole(cell: Cell) -> bool:
    return bool(cell["images"] == cell["expected"])


def _figure(value: float, best: float) -> str:
    if _missing(value):
        return ""
    text = f"{value:.3f}"
    return f"**{text}**" if text == f"{best:.3f}" else text


def _ours(cell: Cell, best: float) -> str:
    if _missing(cell["ours"]):
        return ""
    text = _figure(cell["ours"], best if _whole(cell) else math.nan)
    return text if _missing(cell["deviation"]) else f"{text} ± {cell['deviation']:.3f}"


def _counts(cells: Sequence[Cell]) -> list[str]:
    """Return images and runs; images without a value are counted for the metric with the most of them."""
    if not cells:
        return ["", ""]
    images = f"{cells[0]['images']}" if _whole(cells[0]) else f"{cells[0]['images']} of {cells[0]['expected']}"
    undefined = max(cell["undefined"] for cell in cells)
    return [f"{images} ({undefined} undefined)" if undefined else images, f"{cells[0]['seeds']}"]


def _label(cell: Cell, *, options: bool = True) -> str:
    """Return the name of a row, with its options if they distinguish it from another row of the method."""
    details = [str(cell["options"])] if cell["options"] and options else []
    details += [SOURCES[cell["source"]]] if cell["source"] in SOURCES else []
    return escape(f"{cell['method']} ({'; '.join(details)})" if details else str(cell["method"]))


def _mark(cell: Cell, notes: dict[str, int]) -> str:
    """Return the mark of the footnote on how a row was trained; add the footnote if it is new."""
    text = f"{_label(cell)}, protocol {escape(str(cell['protocol']))}: "
    if not cell["trained_on"]:
        text += "nothing trained here"
    elif cell["steps"] == 0:
        text += "nothing to train"
        text += f", parameters chosen on {escape(str(cell['trained_on']))}" * (cell["protocol"] == "strict")
    else:
        text += f"trained{' elsewhere' * (cell['source'] == 'adopted')} on {escape(str(cell['trained_on']))}"
        text += "" if _missing(cell["steps"]) else f", {cell['steps']:,.0f} steps"
        text += "" if _missing(cell["minutes"]) else f" in {cell['minutes']:,.1f} min"
        text += "".join(f", {escape(str(cell[key]))}" for key in ("hardware", "precision") if cell[key])
        text += f", {'pretrained ' * (cell['source'] != 'adopted')}weights: {escape(str(cell['weights']))}"
    text += f"; {escape(str(cell['note']))}" if cell["note"] else ""
    return f"[^{notes.setdefault(text + '.', len(notes) + 1)}]"


__all__ = ["NOTHING", "comparison_markdown", "escape", "grid_markdown", "table"]
