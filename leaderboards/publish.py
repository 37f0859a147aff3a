"""Copy the record and per-image scores of a run for the tables, completely or not at all."""

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
from postproc.errors import ConfigError, DataError, short

WORK = ".publishing"
"""Folder in the published scores in which new results are assembled."""
ID_PARTS = 3
"""Parts of the id of a run: method, training set and run."""


def publish_run(path: Path, root: Path) -> Path:
    """Copy the record and scores of a finished run to `root`; images, weights and predictions are not copied.

    Everything is written to a work folder and read as tables read it; only then does it replace what was published
    before. Earlier published evaluations that are missing from this run are kept.

    Args:
        path: Run directory; or a search result, ``search/<name>.json``.
        root: Folder of published scores.

    Returns:
        The folder, or the file of a search, that was written.

    Raises:
        ConfigError: If the run is not finished, was not evaluated, or was trained or scored on synthetic stand-ins.
        DataError: If one of its files is broken; earlier published results stay unchanged.
    """
    if path.suffix == ".json":
        return _publish_search(path, root)
    store = RunStore.open(path)
    files = sorted(store.path.glob("evaluations/*/*/evaluation.json"))
    if not store.record_file.exists() or not files:
        raise ConfigError(f"{store.path} has no scores yet; finish it with `nucbench run` and the same settings")
    if reason := store.unpublishable(read_json(store.record_file)):
        raise ConfigError(reason)
    run_id = _run_id(store.record_file)
    target = root / run_id
    published = [target / file.relative_to(store.path) for file in files]
    check_outputs([target / "record.json", *published], [store.record_file, *files], remedy="give another --store")
    with _replaced(root, run_id) as fresh:
        shutil.copyfile(store.record_file, fresh / "record.json")
        for file in files:
            folder = fresh / file.parent.relative_to(store.path)
            folder.mkdir(parents=True, exist_ok=True)
            for name in ("scores.csv", "evaluation.json"):
                shutil.copyfile(file.parent / name, folder / name)
    return target


@contextmanager
def _replaced(root: Path, run_id: str) -> Iterator[Path]:
    """Yield a copy of a published run (an empty folder if there is none) that replaces it when the block ends.

    Copies are made in `WORK` in the root, which tables ignore. The next command removes the remains of an interrupted
    one and restores a run that was already moved away.

    Raises:
        BusyError: If another process is publishing there.
        DataError: If the new run cannot be read as tables read it.
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
            _check(fresh)
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


def _run_id(record: Path) -> str:
    """Return the id in a record, which is the run's place among the published scores wherever its directory is now.

    Raises:
        DataError: If the record is broken, or its id is no relative path of three parts.
    """
    run_id = stored_run(read_json(record), record).run_id
    parts = run_id.split("/")
    if len(parts) != ID_PARTS or any(not part or part.startswith(".") for part in parts) or "\\" in run_id:
        raise DataError(f"{record}: run_id is {short(run_id)}, expected METHOD/TRAINING SET/RUN; store the run again")
    return run_id


def _check(fresh: Path) -> None:
    """Flush the new files to disk and read them as tables do.

    Raises:
        DataError: If one of the files is broken.
    """
    for path in fresh.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    load_scores([fresh])


def _publish_search(path: Path, root: Path) -> Path:
    """Copy a search result to ``search`` in `root`."""
    if not path.is_file():
        raise ConfigError(f"{path} not found; give the result of a search, search/NAME.json in the runs folder")
    content = read_search(path)
    check_outputs([root / "search" / path.name], [path], remedy="give another --store")
    write_json(root / "search" / path.name, content)
    return root / "search" / path.name
