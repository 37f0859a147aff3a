"""The page "Reproducing the papers", from the tables of `nucbench leaderboard` and the records of stored runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from benchmark.commands.docs_cards import GENERATED
from benchmark.commands.readme_results import TABLES
from benchmark.host.files import read_json
from benchmark.registry import TABLES as REGISTRY
from benchmark.registry import table_class
from leaderboards.build import SCORES

SWEEPS = Path(__file__).parents[1] / "sweeps"
PER_IMAGE = ("kumar_images",)
"""Tables whose rows are single images; their means are in others."""
LEAD = """\
# Reproducing the papers

Each section is a table of a paper. It lists, for each row that has been run, our figures next to the published ones
(ours / published, and the difference), and the command that gives the row. Rows without a published figure are in the
tables themselves. Most trainings here were shorter or narrower than in the papers: [Results](results.md) says which,
and what follows from it.

Published figures come from the papers and are never computed here. Before a command, prepare its datasets with
`nucbench prepare`.
"""


class Group(NamedTuple):
    """Figures of one row of a table."""

    method: str
    runs: str
    cells: list[str]


def reproducing_page() -> str:
    """Return the Markdown page."""
    sections = [_section(name) for name in REGISTRY if name not in PER_IMAGE]
    return f"{GENERATED}\n{LEAD}\n" + "\n\n".join(section for section in sections if section) + "\n"


def run_command(run: str) -> str:
    """Return the command line that repeats a stored run.

    Args:
        run: Folder in `SCORES`: method / training set / run.
    """
    folder = SCORES / run
    record = read_json(folder / "record.json")
    train = record["train"] or {"dataset": run.split("/")[1], "split": "train"}
    words = ["nucbench run", record["method"], train["dataset"]]
    words += [f"--protocol {record['protocol']}"] if record["protocol"] != "paper" else []
    words += [f"--seed {record['seed']}"] if record["seed"] else []
    words += [f"--train-split {train['split']}"] if train["split"] != "train" else []
    words += [f"--also {' '.join(train['also'])}"] if train.get("also") else []
    words += [f"--options.{key} {_value(value)}" for key, value in record["options"].items()]
    words += [_override(key, value) for key, value in record["overrides"].items()]
    sets = sorted(path.name for path in (folder / "evaluations").iterdir())
    return " ".join([*words, "--evaluate", *sets])


def _section(name: str) -> str:
    table = pd.read_csv(TABLES / f"{name}.csv", keep_default_na=False, dtype=str)
    if not {"published", "ours", "runs", "metric"} <= set(table.columns):
        return ""
    kind = table_class(name)
    sweep = f"{name.replace('_', '-')}.yaml"
    way = f"`nucbench sweep {sweep}` runs them all; " if (SWEEPS / sweep).exists() else ""
    text = [f"## {kind.title}", kind.caption, f"Rows: {way}`nucbench leaderboard {name}` rebuilds the table."]
    groups = list(_groups(table))
    if groups:
        runs = {run: f"[{number}]" for number, run in enumerate(dict.fromkeys(each.runs for each in groups), start=1)}
        rows = ["| row | run | ours / published (difference) |", "|---|---|---|"]
        rows += [f"| {each.method} | {runs[each.runs]} | {'<br>'.join(each.cells)} |" for each in groups]
        commands = [f"# {number}\n{run_command(run)}" for runs_, number in runs.items() for run in runs_.split("; ")]
        text += ["\n".join(rows), "```\n" + "\n".join(commands) + "\n```"]
    missing = table[(table["published"] != "") & (table["ours"] == "")]
    absent = [each for each in dict.fromkeys(missing["method"]) if each not in {group.method for group in groups}]
    text += [f"Not run yet: {', '.join(absent)}."] if absent else []
    return "\n\n".join(text)


def _groups(table: pd.DataFrame) -> Iterator[Group]:
    both = table[(table["published"] != "") & (table["ours"] != "") & (table["source"] == "run")]
    for (method, runs), rows in both.groupby(["method", "runs"], sort=False):
        cells = []
        for dataset, block in rows.groupby("dataset", sort=False):
            figures = [_figures(row) for _, row in block.iterrows()]
            cells.append(f"{dataset}: {', '.join(figures)}")
        yield Group(str(method), str(runs), cells)


def _figures(row: pd.Series[str]) -> str:
    ours, published = float(row["ours"]), float(row["published"])
    difference = round(ours - published, 3) + 0.0  # no negative zero
    return f"{row['metric']} {ours:.3f} / {published:.3f} ({difference:+.3f})"


def _value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _override(key: str, value: Any) -> str:
    flag = f"--{key.replace('_', '-')}"
    return flag if value is True else f"{flag} {value}"


__all__ = ["reproducing_page", "run_command"]
