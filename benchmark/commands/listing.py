"""`nucbench list`: print the available methods, datasets, tables and runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmark.host.console import wide_console
from benchmark.host.files import read_json
from benchmark.registry import DATASETS, IGNORED, INSTALLED, METHODS, TABLES, dataset_class, method_class, table_class
from datamodules.reading.card import DatasetCard, Download
from postproc.errors import ConfigError, unknown_name

if TYPE_CHECKING:
    from models.base.card import MethodCard

CARDS = Path(__file__).parents[2] / "models" / "cards.json"
"""Summaries of the methods, as `benchmark.commands.readme` writes them; methods need seconds to import."""


class Summary(NamedTuple):
    """Parts of a method's card that the list of methods shows.

    Attributes:
        titles: Rows in tables.
        tasks: Tasks.
        summary: One sentence.
    """

    titles: list[str]
    tasks: list[str]
    summary: str

    @classmethod
    def of(cls, card: MethodCard) -> Summary:
        """Return the parts of a card."""
        return cls([variant.title for variant in card.variants], list(card.tasks), card.summary)


def print_list(what: str, names: list[str], *, verbose: bool, data: Path, runs: Path) -> int:
    """Print all methods, datasets, tables or runs, or the cards of the named ones.

    Returns:
        Exit status: 1 if a stored file or an installed package is broken, 0 otherwise.

    Raises:
        ConfigError: If a name is unknown, or runs are named.
    """
    console = wide_console()
    if what == "runs":
        if names:
            raise ConfigError(f"runs cannot be listed by name, such as {names[0]!r}; set their folder with --runs")
        return _runs(console, verbose, runs)
    registry = {"methods": METHODS, "datasets": DATASETS, "tables": TABLES}[what]
    load = {"methods": method_class, "datasets": dataset_class, "tables": table_class}[what]
    for name in names:
        if name not in registry and f"{what}.{name}" not in IGNORED:
            raise unknown_name(what.removesuffix("s"), name, registry)
    chosen, whole, broken = [], verbose or bool(names), []
    for name in names or list(registry):
        try:
            if names or f"{what}.{name}" in INSTALLED:
                load(name)
            chosen.append(name)
        except ConfigError as error:
            if names:
                raise
            broken.append(str(error))
    if what == "methods":
        _methods(console, chosen, whole)
    elif what == "datasets":
        _datasets(console, chosen, whole, data)
    else:
        _tables(console, chosen)
    for reason in (*broken, *(text for entry, text in IGNORED.items() if entry.startswith(f"{what}."))):
        print(f"nucbench: left out: {reason}", file=sys.stderr)
    return 1 if broken else 0


def _methods(console: Console, names: list[str], verbose: bool) -> None:
    if not verbose:
        known = {name: Summary(**each) for name, each in json.loads(CARDS.read_text(encoding="utf-8")).items()}
        table = Table("method", "rows in tables", "tasks", "summary")
        for name in names:
            about = known.get(name) or Summary.of(method_class(name).card)
            table.add_row(name, "\n".join(about.titles), "\n".join(about.tasks), about.summary)
        console.print(table)
        return
    from benchmark.options import option_defaults, option_texts
    from models.base.recipe import describe

    for name in names:
        kind = method_class(name)
        card = kind.card
        console.print(Text.assemble((name, "bold"), f"  {card.summary}"))
        lines = [f"paper: {card.paper}", card.url, f"recipe: {card.recipe}"]
        lines += [f"training: {describe(kind.recipe)}"] if card.trained else []
        lines += [f"deviates: {text}" for text in card.deviations]
        texts = option_texts(kind)
        lines += [
            f"option {key} = {value!r}: {texts[key]}".rstrip(": ") for key, value in option_defaults(kind).items()
        ]
        lines += [f"row {variant.key}: {variant.title}" for variant in card.variants]
        for line in lines:
            console.print(f"  {line}")


def _datasets(console: Console, names: list[str], verbose: bool, data: Path) -> None:
    from benchmark.data.obtain import steps
    from benchmark.data.presence import presence

    table = Table("dataset", "images", "nuclei", "types", "magnification", "present", "get it", "summary")
    for name in names:
        kind = dataset_class(name)
        card = kind.card
        present = presence(kind, data / name).text(card)
        images = ", ".join(f"{count} {split}" for split, count in card.images.items())
        magnification = f"{card.magnification:g}x" if card.magnification else "mixed"
        nuclei = "" if card.nuclei is None else str(card.nuclei)
        types = str(len(card.types) or "-")
        table.add_row(name, images, nuclei, types, magnification, present, _way(card), card.summary)
    console.print(table)
    console.print("nucbench prepare NAME downloads a dataset, or prints the manual steps.")
    if verbose:
        for name in names:
            kind = dataset_class(name)
            card = kind.card
            console.print(Text.assemble((name, "bold"), f"  {card.title}: {card.citation}"))
            lines = [card.url, f"licence: {card.licence}", *card.notes, *card.layout.splitlines()]
            lines += [f"download {each.file}: {each.url} ({_trust(each)})" for each in card.downloads]
            lines += [f"by hand: {step}" for step in steps(card, data / name)]
            problem = presence(kind, data / name).problem
            lines += [f"problem: {problem.splitlines()[0]}"] if problem else []
            for line in lines:
                console.print(f"  {line}")


def _way(card: DatasetCard) -> str:
    if card.downloads:
        return "download"
    return "--synthetic" if card.generated else "by hand" if card.steps else "own"


def _trust(download: Download) -> str:
    size = "" if download.size is None else f"{download.size} bytes, "
    return size + (download.checksum or "no published checksum")


def _tables(console: Console, names: list[str]) -> None:
    table = Table("table", "summary")
    for name in names:
        table.add_row(name, (table_class(name).__doc__ or "").strip().splitlines()[0])
    console.print(table)


def _runs(console: Console, verbose: bool, runs: Path) -> int:
    from leaderboards.broken import kept_going, name_problems
    from leaderboards.found import RECORD, SPEC, run_folders
    from leaderboards.stored import Training, stored_run

    found = [folder / SPEC for folder in run_folders(runs) if (folder / SPEC).is_file()]
    if not found:
        console.print(f"no runs in {runs.resolve()}; set another folder with --runs or NUCBENCH_RUNS", soft_wrap=True)
        return 0
    problems: list[str] = []
    table = Table("run", "state", "steps", "minutes", "evaluated on")
    for file in found:
        folder = file.parent
        record = folder / RECORD
        training, state = Training(), "failed" if (folder / "failure.txt").exists() else "unfinished"
        if record.exists():
            state = "unreadable"
            with kept_going(problems):
                training, state = stored_run(read_json(record), record).training or training, "trained"
        targets = sorted({p.parent.parent.name for p in folder.glob("evaluations/*/*/evaluation.json")})
        table.add_row(
            str(folder.relative_to(runs) if folder != runs else folder),
            state,
            "" if training.steps is None else str(training.steps),
            "" if training.minutes is None else str(training.minutes),
            ", ".join(targets),
        )
        if verbose:
            with kept_going(problems):
                table.add_row(json.dumps(read_json(file), indent=1), "", "", "", "")
    console.print(table)
    return name_problems(problems)
