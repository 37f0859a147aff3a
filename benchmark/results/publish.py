"""Copy what tables need of a run: its record and per-image scores."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmark.host.files import read_json, write_json
from benchmark.host.outputs import check_outputs
from benchmark.results.store import RunStore
from postproc.errors import ConfigError


def publish_run(path: Path, root: Path) -> Path:
    """Copy the record and scores of a finished run below `root`; images, weights and predictions stay.

    Args:
        path: Run directory; or what a search selected, ``search/<name>.json``.
        root: Folder of published scores.

    Returns:
        The folder written.

    Raises:
        ConfigError: If the run is not finished, was not evaluated, or was trained or scored on synthetic stand-ins.
    """
    if path.suffix == ".json":
        return _publish_search(path, root)
    store = RunStore.open(path)
    files = sorted(store.path.glob("evaluations/*/*/evaluation.json"))
    if not store.record_file.exists() or not files:
        raise ConfigError(f"{store.path} has no scores yet; `nucbench run` the same settings to finish it")
    record = read_json(store.record_file)
    if record.get("data", {}).get("synthetic"):
        raise ConfigError(f"{store.path} was trained on synthetic stand-ins; its scores are not published")
    for file in files:
        if read_json(file).get("synthetic"):
            raise ConfigError(f"{file.parent} was scored on synthetic stand-ins; such scores are not published")
    target = root / store.run_id
    published = [target / file.relative_to(store.path) for file in files]
    check_outputs([target / "record.json", *published], [store.record_file, *files], remedy="give another --store")
    target.mkdir(parents=True, exist_ok=True)
    write_json(target / "record.json", record)
    for file in files:
        folder = target / file.parent.relative_to(store.path)
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("scores.csv", "evaluation.json"):
            shutil.copyfile(file.parent / name, folder / name)
    return target


def _publish_search(path: Path, root: Path) -> Path:
    """Copy what a search selected to ``search`` below `root`."""
    content = read_json(path)
    if "settings" not in content or "params" not in content:
        raise ConfigError(f"{path} is not what a search selected; `nucbench search` writes it to search/NAME.json")
    check_outputs([root / "search" / path.name], [path], remedy="give another --store")
    write_json(root / "search" / path.name, content)
    return root / "search" / path.name
