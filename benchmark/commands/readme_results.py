"""The table of results in README.md, from the tables of `nucbench leaderboard`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

TABLES = Path(__file__).parents[2] / "leaderboards" / "tables"
RESULTS = (
    ("segmentation", "Kumar", "Kumar test", ("DICE", "AJI", "PQ")),
    ("generalisation", "TNBC", "TNBC, all", ("AJI", "PQ")),
    ("generalisation", "All CoNSeP", "CoNSeP, all", ("AJI", "PQ")),
)
"""Columns: table, set in the table, set in the README, metrics."""
LEARNT = 0.3
"""Minimum AJI on Kumar's test images; networks below it were trained for minutes and only show that they run."""


def results_table() -> str:
    """Return the Markdown table of the runs of protocol ``paper`` on Kumar, ours / published, best AJI first."""
    figures = {name: _figures(name) for name in dict.fromkeys(name for name, *_ in RESULTS)}
    columns = [(name, block, metric) for name, block, _, metrics in RESULTS for metric in metrics]
    heads = [metric if i else f"{title}: {metric}" for *_, title, each in RESULTS for i, metric in enumerate(each)]
    lines = [f"| row | training | {' | '.join(heads)} |", "|---" * (len(columns) + 2) + "|"]
    rows = [(key, row) for key, row in figures["segmentation"].items() if key[2:] == ("Kumar", "AJI")]
    for (method, options, *_), row in sorted(rows, key=lambda each: -float(each[1]["ours"])):
        if float(row["ours"]) >= LEARNT and row["trained_on"] in ("kumar.train", ""):
            cells = [_cell(figures[name].get((method, options, block, metric))) for name, block, metric in columns]
            lines.append(f"| {' | '.join([method, _training(row), *cells])} |")
    return "\n".join(lines)


Figures = dict[tuple[str, str, str, str], "pd.Series[str]"]


def _figures(name: str) -> Figures:
    """Read our results of protocol ``paper`` in a table, by method, options, set and metric."""
    table = pd.read_csv(TABLES / f"{name}.csv", keep_default_na=False)
    table = table[(table["protocol"] == "paper") & (table["ours"] != "")]
    return {(row["method"], row["options"], row["dataset"], row["metric"]): row for _, row in table.iterrows()}


def _cell(row: pd.Series[str] | None) -> str:
    """Return our figure, its deviation over seeds and the published figure, if there are."""
    if row is None:
        return ""
    deviation = f" ± {float(row['deviation']):.3f}" if row["deviation"] else ""
    published = f" / {float(row['published']):.3f}" if row["published"] else ""
    return f"{float(row['ours']):.3f}{deviation}{published}"


def _training(row: pd.Series[str]) -> str:
    """Return width if reduced, schedule, steps, time, precision, initial weights and seeds of a training."""
    if not row["trained_on"]:
        return "nothing to train"
    options = dict(each.split("=", 1) for each in row["options"].split(", ") if "=" in each)
    parts = [f"{options['features']} features"] if "features" in options else []
    parts += [f"{name} {options[name]}" for name in ("schedule", "ema") if name in options]
    parts += [f"{float(row['steps']):,.0f} steps, {float(row['minutes']):.0f} min", row["precision"]]
    parts += [row["weights"]] if row["weights"] != "none" else []
    parts += [f"{row['seeds']} seeds"] if int(row["seeds"]) > 1 else []
    return ", ".join(parts)


__all__ = ["results_table"]
