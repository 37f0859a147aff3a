"""Record, spec, parameters and logs of each run, collected from several folders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.host.files import read_json
from leaderboards.broken import kept_going
from leaderboards.changes import changes
from leaderboards.found import RECORD, run_folders
from leaderboards.literature import Names
from leaderboards.records import run_facts
from leaderboards.report.slugs import slug


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes:
        run_id: Its id.
        record: Content of ``record.json``.
        facts: Its columns in the tables (`leaderboards.records.run_facts`).
        spec: Content of ``spec.json``; None if it was published without one.
        params: Content of ``params.json``, post-processing parameters per variant; None as above.
        titles: Names of its variants in the tables.
        folders: Its folders, in the order of the roots.
    """

    run_id: str
    record: Mapping[str, Any]
    facts: Mapping[str, Any]
    spec: Mapping[str, Any] | None
    params: Mapping[str, Any] | None
    titles: tuple[str, ...]
    folders: tuple[Path, ...]

    @property
    def page(self) -> str:
        """Its page, from the root of the report."""
        return f"runs/{slug(self.run_id)}.html"

    @property
    def title(self) -> str:
        """The names of its variants, or of the method."""
        return " / ".join(self.titles[:2]) + (" / …" if len(self.titles) > 2 else "") or str(self.facts["method"])

    @property
    def logs(self) -> list[Path]:
        """``metrics.csv`` of each training phase in order; empty if it was published without logs."""
        for folder in self.folders:
            found = list(folder.glob("logs/*/metrics.csv"))
            if found:
                return sorted(found, key=lambda path: (len(path.parent.name), path.parent.name))
        return []

    def about(self, target: str, variant: str) -> Mapping[str, Any]:
        """Return the description of an evaluation (``evaluation.json``); empty if it is missing."""
        for folder in self.folders:
            path = folder / "evaluations" / target / variant / "evaluation.json"
            if path.is_file():
                return read_json(path)
        return {}


def read_runs(
    roots: Iterable[Path], names: Names, problems: list[str] | None = None
) -> tuple[dict[str, Run], list[str]]:
    """Read every finished run in some folders, as `leaderboards.records.load_scores` finds them.

    Args:
        roots: Run directories and folders of collected scores; the first one with a run gives its record.
        names: The name table.
        problems: As for `leaderboards.records.load_scores`.

    Returns:
        The runs by id, in the order of their ids; ids (folders) of unfinished runs.

    Raises:
        DataError: If a file is broken; the message names it.
    """
    folders: dict[str, list[Path]] = {}
    records: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    begun: set[str] = set()
    for root in roots:
        for folder in run_folders(Path(root)):
            path = folder / RECORD
            if not path.is_file():
                begun.add(folder.relative_to(root).as_posix() if folder != Path(root) else folder.name)
                continue
            with kept_going(problems):
                record = read_json(path)
                facts = run_facts(record, path)
                records.setdefault(facts["run_id"], (record, facts))
                folders.setdefault(facts["run_id"], []).append(folder)
    runs = {}
    for run_id in sorted(records):
        record, facts = records[run_id]
        variants = record.get("variants") or {}
        named = [names.title(str(title), facts["method"], key) for key, title in variants.items()]
        titles = dict.fromkeys(changes().title(title, facts["method"], facts["options"]) for title in named)
        spec, params = (_first(folders[run_id], name, problems) for name in ("spec.json", "params.json"))
        runs[run_id] = Run(run_id, record, facts, spec, params, tuple(titles), tuple(folders[run_id]))
    return runs, sorted(begun - set(records))


def _first(folders: Iterable[Path], name: str, problems: list[str] | None) -> dict[str, Any] | None:
    for folder in folders:
        if (folder / name).is_file():
            with kept_going(problems):
                return read_json(folder / name)
    return None


__all__ = ["Run", "read_runs"]
