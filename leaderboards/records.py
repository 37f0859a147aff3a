"""Stored results of any number of runs as one long frame of per-image scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmark.host.files import read_json
from leaderboards.changes import changes
from leaderboards.literature import Names, load_names, read_table
from leaderboards.options import describe, split_options
from postproc.errors import DataError

FORMAT = 1
"""Layout of ``record.json`` that this version reads."""

RUN_COLUMNS = (
    "run_id", "method", "protocol", "seed", "trained_on", "source", "options", "weights", "steps", "minutes",
    "hardware", "precision", "note",
)  # fmt: skip
"""Columns that describe the run: see `load_scores`."""

EVALUATION_COLUMNS = ("dataset", "split", "variant", "title", "base", "types", "image")
"""Columns that describe the evaluation and the image."""

COLUMNS = RUN_COLUMNS + EVALUATION_COLUMNS

RENAMED = {"precision": "precision_d"}
"""Score -> its name here, where a column that describes the run has the same: the precision of the detection."""


def load_scores(roots: Iterable[Path], names: Names | None = None) -> pd.DataFrame:
    """Read every stored evaluation under some folders.

    A root holds ``<method>/<train>/<run>/record.json`` with the run's
    ``evaluations/<dataset>.<split>/<variant>`` beside it. Runs without a record and evaluations without
    scores are unfinished and left out, as are evaluations on images that were trained on. What stands under several
    roots counts once; the first root wins.

    Args:
        roots: Run directories and folders of collected scores.
        names: The name table; None = the committed one.

    Returns:
        One line per image, in a fixed order. `RUN_COLUMNS`: ``run_id``, ``method`` (registry name),
        ``protocol``, ``seed``, ``trained_on`` (``<dataset>.<split>``, further training sets behind a ``+`` in
        alphabetical order; empty where nothing was trained),
        ``source`` (``run`` or ``predictions``), ``options`` (options, recipe settings and stand-ins, as
        ``key=value, ...``), ``weights``, ``steps``,
        ``minutes``, ``hardware``, ``precision``, ``note``. `EVALUATION_COLUMNS`: ``dataset``, ``split``,
        ``variant``, ``title`` (name of the row: the method's, with what its options change of the method,
        `leaderboards.changes`), ``base`` (the method's alone), ``types`` (names of the types 1..T joined by ``|``),
        ``image``. Then each column of the score files (`RENAMED`); NaN where a file lacks it.

    Raises:
        DataError: If a root is no folder or a file is broken; the message names it.
    """
    known = names or load_names()
    found: dict[tuple[str, ...], tuple[dict[str, Any], pd.DataFrame]] = {}
    runs: dict[str, dict[str, Any]] = {}
    for root in roots:
        for path in _record_paths(Path(root)):
            record = read_json(path, "Delete it and store the run again.")
            facts = run_facts(record, path)
            facts = runs.setdefault(facts["run_id"], facts)
            for folder in _evaluations(path.parent):
                about = _read_evaluation(folder, facts, known)
                if about.pop("seen"):
                    continue
                key = (facts["run_id"], about["dataset"], about["split"], about["variant"])
                if key not in found:
                    found[key] = {**facts, **about}, _read_scores(folder, about["images"])
    if not found:
        return pd.DataFrame(columns=list(COLUMNS))
    parts = [found[key] for key in sorted(found)]
    about_each = pd.DataFrame([about for about, _ in parts])[[key for key in COLUMNS if key != "image"]]
    repeated = about_each.loc[np.repeat(about_each.index, [len(frame) for _, frame in parts])]
    scores = pd.concat([frame for _, frame in parts], ignore_index=True)
    whole = pd.concat([repeated.reset_index(drop=True), scores], axis=1)
    return whole.copy()  # columns of a type side by side in memory: the tables are built five times faster


def run_facts(record: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the `RUN_COLUMNS` of a record.

    Args:
        record: Content of a ``record.json``.
        path: The file, for messages.

    Raises:
        DataError: If the record has another format or lacks a key.
    """
    if record.get("format") != FORMAT:
        raise DataError(
            f"{path}: format is {record.get('format')!r}, this version reads {FORMAT}. Store the run again."
        )
    train = record.get("train")
    training = record.get("training") or {}
    if not isinstance(training, dict) or not isinstance(train, dict | None):
        raise DataError(f"{path}: 'train' and 'training' must be objects or null. Store the run again.")
    return {
        "run_id": _get(record, "run_id", str, path),
        "method": _get(record, "method", str, path),
        "protocol": _get(record, "protocol", str, path),
        "seed": _get(record, "seed", int, path),
        "trained_on": _trained_on(train, path) if train else "",
        "source": str(record.get("source", "run")),
        "options": describe(_differences(record)),
        "weights": str(training.get("weights") or "none"),
        "steps": _number(training, "steps", path),
        "minutes": _number(training, "minutes", path),
        "hardware": str(training.get("hardware") or ""),
        "precision": str(training.get("precision") or ""),
        "note": str(record.get("note") or ""),
    }


def _trained_on(train: Mapping[str, Any], path: Path) -> str:
    also = train.get("also") or []
    if not isinstance(also, list) or not all(isinstance(name, str) for name in also):
        raise DataError(f"{path}: 'also' is {also!r}, expected a list of training sets. Store the run again.")
    first = f"{_get(train, 'dataset', str, path)}.{_get(train, 'split', str, path)}"
    return "+".join([first, *sorted(also)])


def _differences(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what makes a run another one than the paper's: options, recipe settings, and stand-ins for data."""
    synthetic = {"images": "synthetic"} if (record.get("data") or {}).get("synthetic") else {}
    return {**(record.get("options") or {}), **(record.get("overrides") or {}), **synthetic}


def _record_paths(root: Path) -> list[Path]:
    if not root.is_dir():
        raise DataError(f"{root} is no folder of stored results. Name a run directory or collected scores.")
    return sorted(root.glob("*/*/*/record.json"))


def _evaluations(run: Path) -> Iterator[Path]:
    for path in sorted(run.glob("evaluations/*/*/evaluation.json")):
        if path.with_name("scores.csv").is_file():
            yield path.parent


def _read_evaluation(folder: Path, run: Mapping[str, Any], names: Names) -> dict[str, Any]:
    path = folder / "evaluation.json"
    content = read_json(path, "Delete it and store the run again.")
    about = {key: _get(content, key, str, path) for key in ("dataset", "split", "variant", "title")}
    types = content.get("types") or []
    if not isinstance(types, list) or not all(isinstance(name, str) for name in types):
        raise DataError(f"{path}: 'types' is {types!r}, expected a list of names. Evaluate the run again.")
    about["base"] = names.title(about["title"], run["method"], about["variant"])
    options = split_options(run["options"]) | ({"images": "synthetic"} if content.get("synthetic") else {})
    about["options"] = describe(options)
    about["title"] = changes().title(about["base"], run["method"], about["options"])
    return {
        **about,
        "types": "|".join(types),
        "images": _get(content, "images", int, path),
        "seen": content.get("seen"),
    }


def _read_scores(folder: Path, images: int) -> pd.DataFrame:
    path = folder / "scores.csv"
    frame = read_table(path, ("image",), text="image").rename(columns=RENAMED)  # an image named 01 must not become 1
    if len(frame) != images or frame["image"].duplicated().any() or frame["image"].isna().any():
        raise DataError(f"{path} must hold {images} different images, not {len(frame)} lines. Evaluate the run again.")
    for column in frame.columns.drop("image"):
        if column in COLUMNS:
            raise DataError(f"{path}: {column!r} is a reserved name and cannot be a metric. Rename the metric.")
        if not pd.api.types.is_numeric_dtype(frame[column]):
            raise DataError(f"{path}: column {column!r} holds something that is no number. Evaluate the run again.")
    return frame[["image", *frame.columns.drop("image")]]


def _get(content: Mapping[str, Any], key: str, kind: type, path: Path) -> Any:
    value = content.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataError(f"{path}: {key!r} is {value!r}, expected {kind.__name__}. Store the run again.")
    return value


def _number(content: Mapping[str, Any], key: str, path: Path) -> float:
    value = content.get(key)
    if value is None:
        return float(np.nan)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{path}: {key!r} is {value!r}, expected a number. Store the run again.")
    return float(value)


__all__ = [
    "COLUMNS",
    "EVALUATION_COLUMNS",
    "RUN_COLUMNS",
    "load_scores",
    "run_facts",
]
