"""Stored results of any number of runs as a single frame of per-image scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datamodules.reading.plain_files import read_json_object
from leaderboards.broken import kept_going
from leaderboards.changes import changes
from leaderboards.found import RECORD, run_folders
from leaderboards.literature import Names, load_names
from leaderboards.options import describe, split_options
from leaderboards.score_files import Columns, ScoreFile, read_scores
from leaderboards.stored import AGAIN, StoredEvaluation, Training, stored_evaluation, stored_run
from postproc.errors import DataError

RUN_COLUMNS = (
    "run_id", "method", "protocol", "seed", "trained_on", "source", "options", "weights", "steps", "minutes",
    "hardware", "precision", "note",
)  # fmt: skip
"""Columns that describe the run: see `load_scores`."""

EVALUATION_COLUMNS = ("dataset", "split", "variant", "title", "base", "types", "image")
"""Columns that describe the evaluation and the image."""

COLUMNS = RUN_COLUMNS + EVALUATION_COLUMNS

RENAMED = {"precision": "precision_d"}
"""Score -> its name in the frame, if it clashes with a column of the run: the precision of the detection."""


def load_scores(
    roots: Iterable[Path],
    names: Names | None = None,
    problems: list[str] | None = None,
    refused: list[str] | None = None,
) -> pd.DataFrame:
    """Read every stored evaluation under some folders.

    A root holds run directories (`leaderboards.found.run_folders`) with ``record.json`` and
    ``evaluations/<dataset>.<split>/<variant>``. Runs without a record and evaluations without scores are unfinished
    and skipped, as are evaluations on training images; images that only look like training images are named in
    ``note``. A result under several roots counts once; the first root wins.

    Args:
        roots: Run directories and folders of collected scores.
        names: The name table; None = the committed one.
        problems: Collects one line per broken file, whose run or evaluation is then skipped; None = the first broken
            file raises an error.
        refused: Collects one line per evaluation on training images, which is left out.

    Returns:
        One line per image, in a fixed order. `RUN_COLUMNS`: ``run_id``, ``method`` (registry name),
        ``protocol``, ``seed``, ``trained_on`` (``<dataset>.<split>``, followed by a ``+`` and further training sets in
        alphabetical order; empty if nothing was trained),
        ``source`` (``run`` or ``predictions``), ``options`` (options, recipe settings and stand-ins, as
        ``key=value, ...``), ``weights``, ``steps``,
        ``minutes``, ``hardware``, ``precision``, ``note``. `EVALUATION_COLUMNS`: ``dataset``, ``split``,
        ``variant``, ``title`` (name of the row: the method and the changes of its options,
        `leaderboards.changes`), ``base`` (the method alone), ``types`` (names of the types 1..T joined by ``|``),
        ``image``. Then each column of the score files (`RENAMED`); NaN if a file lacks it.

    Raises:
        DataError: If a root is not a folder, or a file is broken and `problems` is None; the message names it.
    """
    known = names or load_names()
    abouts: dict[tuple[str, ...], dict[str, Any]] = {}
    files: dict[tuple[str, ...], ScoreFile] = {}
    runs: dict[str, dict[str, Any]] = {}
    for path in (path for root in roots for path in _record_paths(Path(root))):
        with kept_going(problems):
            facts = run_facts(read_json_object(path, DataError, AGAIN), path)
            facts = runs.setdefault(facts["run_id"], facts)
            for folder in _evaluations(path.parent):
                with kept_going(problems):
                    content = stored_evaluation(folder / "evaluation.json")
                    key = (facts["run_id"], content.dataset, content.split, content.variant)
                    if content.refused:
                        if refused is not None:
                            place = f"{content.dataset}.{content.split}"
                            refused.append(f"{facts['run_id']} on {place} ({content.title}): {content.refused}")
                    elif key not in abouts:
                        abouts[key] = {**facts, **_about(content, facts, known)}
                        files[key] = ScoreFile(folder / "scores.csv", content.images)
    keys = sorted(abouts)
    frames = read_scores([files[key] for key in keys], Columns(COLUMNS, RENAMED), problems)
    parts = [(abouts[key], frame) for key, frame in zip(keys, frames, strict=True) if frame is not None]
    if not parts:
        return pd.DataFrame(columns=list(COLUMNS))
    columns = [key for key in COLUMNS if key != "image"]
    lines = np.repeat(np.arange(len(parts)), [len(frame) for _, frame in parts])
    texts = {key: pd.Series([about[key] for about, _ in parts]).take(lines).reset_index(drop=True) for key in columns}
    scores = _stacked([frame for _, frame in parts])
    whole = pd.concat([pd.DataFrame(texts), scores], axis=1)
    return whole.copy()  # contiguous columns of one type: the tables are built five times faster


def without_stand_ins(scores: pd.DataFrame, refused: list[str] | None = None) -> pd.DataFrame:
    """Leave out scores of runs on synthetic stand-ins: these are other images under the names of the real ones.

    Args:
        scores: Per-image scores of `load_scores`.
        refused: Collects one line per run that is left out.
    """
    marked = [each for each in scores["options"].unique() if split_options(each).get("images") == "synthetic"]
    stand_ins = scores["options"].isin(marked)
    if refused is not None:
        runs = scores[stand_ins].drop_duplicates(["run_id", "dataset", "split"])
        refused += [
            f"{run} on {dataset}.{split}: synthetic stand-ins are not compared with published figures"
            for run, dataset, split in runs[["run_id", "dataset", "split"]].itertuples(index=False)
        ]
    return scores[~stand_ins].reset_index(drop=True)


def of_one_kind(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the scores that may share a plot: those on real images, or those on stand-ins if there are no others."""
    real = without_stand_ins(scores)
    return real if len(real) else scores


def _stacked(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate frames; those with the same columns first, because `pandas.concat` of many kinds is slow."""
    alike: dict[tuple[str, ...], list[int]] = {}
    for place, frame in enumerate(frames):
        alike.setdefault(tuple(frame.columns), []).append(place)
    columns = list(dict.fromkeys(name for names in alike for name in names))
    places = [place for members in alike.values() for place in members]
    stacks = [pd.concat([frames[place] for place in members], ignore_index=True) for members in alike.values()]
    order = np.argsort(np.repeat(places, [len(frames[place]) for place in places]), kind="stable")
    return pd.concat(stacks, ignore_index=True)[columns].take(order).reset_index(drop=True)


def run_facts(record: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the `RUN_COLUMNS` of a record.

    Args:
        record: Content of a ``record.json``.
        path: The file, for messages.

    Raises:
        DataError: If the record has another format, lacks a key or has an invalid value.
    """
    known = stored_run(record, path)
    training = known.training or Training()
    return {
        "run_id": known.run_id,
        "method": known.method,
        "protocol": known.protocol,
        "seed": known.seed,
        "trained_on": known.train.name if known.train else "",
        "source": known.source,
        "options": describe(known.differences),
        "weights": training.weights or "none",
        "steps": math.nan if training.steps is None else float(training.steps),
        "minutes": math.nan if training.minutes is None else training.minutes,
        "hardware": training.hardware or "",
        "precision": training.precision or "",
        "note": known.note,
    }


def _record_paths(root: Path) -> list[Path]:
    if not root.is_dir():
        raise DataError(f"{root} is not a folder of stored results. Give a run directory or a folder of scores.")
    return [folder / RECORD for folder in run_folders(root) if (folder / RECORD).is_file()]


def _evaluations(run: Path) -> Iterator[Path]:
    for path in sorted(run.glob("evaluations/*/*/evaluation.json")):
        if path.with_name("scores.csv").is_file():
            yield path.parent


def _about(content: StoredEvaluation, run: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """Return the `EVALUATION_COLUMNS` of an evaluation, except the image, its options and its note."""
    base = names.title(content.title, run["method"], content.variant)
    options = describe(split_options(run["options"]) | ({"images": "synthetic"} if content.synthetic else {}))
    return {
        **{key: getattr(content, key) for key in ("dataset", "split", "variant")},
        "title": changes().title(base, run["method"], options),
        "base": base,
        "options": options,
        "types": "|".join(content.types or ()),
        "note": "; ".join(filter(None, (run["note"], content.doubt))),
    }


__all__ = [
    "COLUMNS",
    "EVALUATION_COLUMNS",
    "RUN_COLUMNS",
    "load_scores",
    "of_one_kind",
    "run_facts",
    "without_stand_ins",
]
