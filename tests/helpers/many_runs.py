"""Thousands of stored runs, copied from the committed ones under other seeds and ids."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

from leaderboards.build import SCORES


def copy_runs(store: Path, count: int, *, evaluations: int = 7, sources: Sequence[Path] = ()) -> Path:
    """Fill a store with copies of committed runs, each with a seed and an id of its own.

    Args:
        store: Folder of stored results to write.
        count: Runs to write.
        evaluations: Evaluations of each run: the first ones of its source.
        sources: Runs to copy in turns; none = the committed ones with so many evaluations.
    """
    known = sorted(path.parent for path in SCORES.glob("*/*/*/record.json"))
    chosen = list(sources) or [run for run in known if len(_evaluations(run)) >= evaluations]
    for number, source in enumerate(islice(cycle(chosen), count)):
        record = json.loads((source / "record.json").read_text())
        seed = 1000 + number
        run_id = "/".join([*record["run_id"].split("/")[:2], f"{record['protocol']}-s{seed}-{number:08x}"])
        target = store / run_id
        target.mkdir(parents=True)
        (target / "record.json").write_text(json.dumps(record | {"run_id": run_id, "seed": seed}))
        for folder in _evaluations(source)[:evaluations]:
            shutil.copytree(folder, target / folder.relative_to(source))
    return store


def _evaluations(run: Path) -> list[Path]:
    return sorted(path.parent for path in run.glob("evaluations/*/*/scores.csv"))
