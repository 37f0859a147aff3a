"""Copy what tables need of a run: its record and per-image scores, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmark.host.files import held, read_json, write_json
from benchmark.host.outputs import check_outputs
from benchmark.results.store import RunStore
from leaderboards.records import load_scores
from leaderboards.searches import read_search
from leaderboards.stored import stored_run
from postproc.errors import ConfigError, DataError

WORK = ".publishing"
"""Folder below the published scores in which new ones are put together."""


def publish_run(path: Path, root: Path) -> Path:
    """Copy the record and scores of a finished run below `root`; images, weights and predictions stay.

    Everything is written beside the target and read as tables read it before it takes the place of what was published
    before. Evaluations that were published before and are not here any more are kept.

    Args:
        path: Run directory; or what a search selected, ``search/<name>.json``.
        root: Folder of published scores.

    Returns:
        The folder written.

    Raises:
        ConfigError: If the run is not finished, was not evaluated, or was trained or scored on synthetic stand-ins.
        DataError: If a file of it is broken; what was published before is then as it was.
    """
    if path.suffix == ".json":
        return _publish_search(path, root)
    store = RunStore.open(path)
    files = sorted(store.path.glob("evaluations/*/*/evaluation.json"))
    if not store.record_file.exists() or not files:
        raise ConfigError(f"{store.path} has no scores yet; `nucbench run` the same settings to finish it")
    if reason := store.unpublishable(read_json(store.record_file)):
        raise ConfigError(reason)
    target = root / store.run_id
    published = [target / file.relative_to(store.path) for file in files]
    check_outputs([target / "record.json", *published], [store.record_file, *files], remedy="give another --store")
    with _replaced(root, store.run_id) as fresh:
        shutil.copyfile(store.record_file, fresh / "record.json")
        for file in files:
            folder = fresh / file.parent.relative_to(store.path)
            folder.mkdir(parents=True, exist_ok=True)
            for name in ("scores.csv", "evaluation.json"):
                shutil.copyfile(file.parent / name, folder / name)
    return target


@contextmanager
def _replaced(root: Path, run_id: str) -> Iterator[Path]:
    """Give a copy of a published run, empty where there is none, that takes its place once it is complete.

    Copies lie in `WORK` below the root, where no table looks. What a killed command left there is cleared by the next
    one; a run that it had already moved away is put back.

    Raises:
        BusyError: If another process is publishing there.
        DataError: If tables could not read the new one.
    """
    work = root / WORK
    with held(work, "publishing in"):
        fresh, old = work / "new", work / "old"
        for moved in old.glob("*/*/*"):
            if not (root / moved.relative_to(old)).exists():
                moved.rename(root / moved.relative_to(old))
        for left in (fresh, old):
            shutil.rmtree(left, ignore_errors=True)
        target, folder, away = root / run_id, fresh / run_id, old / run_id
        try:
            if target.exists():
                shutil.copytree(target, folder)
            folder.mkdir(parents=True, exist_ok=True)
            yield folder
            _check(fresh, run_id)
            for parent in (away.parent, target.parent):
                parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                target.rename(away)
            folder.rename(target)
        finally:
            if away.exists() and not target.exists():
                away.rename(target)
            shutil.rmtree(fresh, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


def _check(fresh: Path, run_id: str) -> None:
    """Write what is to be published to the disk, and read it as tables do.

    Raises:
        DataError: If a file of it is broken, or the record is that of another run.
    """
    for path in fresh.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    record = stored_run(read_json(fresh / run_id / "record.json"), fresh / run_id / "record.json")
    load_scores([fresh])
    if record.run_id != run_id:
        raise DataError(f"the record of {run_id} is that of {record.run_id}; store the run again")


def _publish_search(path: Path, root: Path) -> Path:
    """Copy what a search selected to ``search`` below `root`."""
    content = read_search(path)
    check_outputs([root / "search" / path.name], [path], remedy="give another --store")
    write_json(root / "search" / path.name, content)
    return root / "search" / path.name
