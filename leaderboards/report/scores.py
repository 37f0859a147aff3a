"""Per-image scores of each evaluation as tables of a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from benchmark.metrics.pooling import POOLED, summarise
from leaderboards.records import COLUMNS, RENAMED
from leaderboards.report.grid import Cell, Column, Grid, Group, Row, missing, number, signless
from leaderboards.report.runs import Run
from leaderboards.report.slugs import slug

LABELS = {
    "dice": "DICE", "aji": "AJI", "aji_plus": "AJI+", "dice2": "DICE2", "dq": "DQ", "sq": "SQ", "pq": "PQ",
    "ahd": "AHD, px", "adc": "ADC", "pixel_accuracy": "px accuracy", "pixel_iu": "px IU", "pixel_recall": "px recall",
    "pixel_precision": "px precision", "pixel_performance": "px performance", "precision_d": "precision",
    "f1": "F1", "distance_mean": "distance, px", "distance_std": "its deviation, px", "precision_c": "precision, types",
    "recall_c": "recall, types", "f1_c": "F1, types", "auc": "AUC", "auc_c": "AUC, types", "F_c": "F_c",
    "n_true": "annotated", "n_pred": "predicted", "n_tp": "matched", "n_found": "found",
}  # fmt: skip
"""Score -> header; other scores keep their names."""

LOWER = {"ahd", "distance_mean", "distance_std"}
"""Scores for which less is better: distances in pixels; all other scores are in [0, 1]."""

COUNTS = ("n_true", "n_pred", "n_tp", "n_found")
"""Counts to show; the CSV has all of them."""

HEADLINE = ("dice", "aji", "pq", "F_d", "F_c", "precision_d", "recall", "f1", "f1_c", "ahd")
"""Scores in lists of evaluations."""

RANKED_BY = ("pq", "aji", "F_d", "f1", "dice")
"""The first of these in a set ranks its images and methods."""

_GATED = "_gated"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One variant of a run on one set of images.

    Attributes:
        run: The run.
        dataset: Dataset.
        split: Split.
        variant: Key of the variant.
        title: Name in the tables.
        types: Names of the types 1..T.
        frame: Per-image scores: ``image`` and its scores, ordered by image name.
    """

    run: Run
    dataset: str
    split: str
    variant: str
    title: str
    types: tuple[str, ...]
    frame: pd.DataFrame

    @property
    def target(self) -> str:
        """The set: ``dataset.split``."""
        return f"{self.dataset}.{self.split}"

    @property
    def file(self) -> str:
        """Its page from the root of the report, without extension."""
        return f"evaluations/{slug(f'{self.run.run_id}/{self.target}/{self.variant}')}"

    @property
    def page(self) -> str:
        """Its page from the root of the report."""
        return f"{self.file}.html"

    @cached_property
    def summary(self) -> dict[str, float]:
        """Scores of the whole set (`benchmark.metrics.pooling.summarise`), under the names of `load_scores`."""
        back = {new: old for old, new in RENAMED.items()}
        found = summarise(self.frame.rename(columns=back))
        return {RENAMED.get(name, name): value for name, value in found.items()}

    @property
    def ranked_by(self) -> str:
        """The score that ranks its images; empty if it has none."""
        return next((name for name in RANKED_BY if name in self.frame and self.frame[name].notna().any()), "")

    def label(self, name: str) -> str:
        """Return the header of a score; scores of a type are named after it."""
        stem, _, kind = name.rpartition("_")
        if stem == "F_c" and kind.isdigit() and 0 < int(kind) <= len(self.types):
            return f"F_c {self.types[int(kind) - 1]}"
        return LABELS.get(name, name.replace("_", " ") if name[:2] not in ("F_", "n_") else name)


def read_evaluations(scores: pd.DataFrame, runs: Mapping[str, Run]) -> list[Evaluation]:
    """Return the evaluations behind per-image scores, in the order of methods, runs, sets and variants.

    Args:
        scores: Per-image scores as of `leaderboards.records.load_scores`.
        runs: Runs by id.
    """
    found = []
    for key, part in scores.groupby(["run_id", "dataset", "split", "variant"], sort=True):
        own = part.drop(columns=[column for column in COLUMNS if column != "image"])
        own = own.dropna(axis="columns", how="all").sort_values("image", kind="stable").reset_index(drop=True)
        first = part.iloc[0]
        types = tuple(str(first["types"]).split("|")) if first["types"] else ()
        run_id, dataset, split, variant = map(str, key)
        found.append(Evaluation(runs[run_id], dataset, split, variant, str(first["title"]), types, own))
    return found


def shown_scores(evaluation: Evaluation) -> list[str]:
    """Return the columns of the table: scores in file order, then some counts."""
    columns = [str(column) for column in evaluation.frame.columns.drop("image")]
    scores = [c for c in columns if not c.startswith("n_") and not c.endswith(_GATED) and "@" not in c]
    return [*scores, *(c for c in COUNTS if c in columns)]


def image_grid(evaluation: Evaluation, pictured: Mapping[str, str]) -> Grid:
    """Return the table of one evaluation: a row per image, mean and standard deviation below.

    Args:
        evaluation: The evaluation.
        pictured: Image -> anchor of its pictures, for images with pictures.
    """
    names = shown_scores(evaluation)
    columns = [Column("Image", numeric=False, descending=False)]
    for name in names:
        hint = "less is better" if name in LOWER else "" if name in COUNTS else "more is better"
        columns.append(Column(evaluation.label(name), descending=name not in LOWER, hint=hint))
    rows = []
    for line in evaluation.frame.to_dict("records"):
        image = str(line["image"])
        cells = [_figure(name, line[name]) for name in names]
        rows.append(Row((Cell(image, href=pictured.get(image, "")), *cells)))
    return Grid("images", f"{evaluation.title} on {evaluation.target}", (Group("", tuple(columns)),), tuple(rows),
                footer=tuple(_footer(evaluation, names)))  # fmt: skip


def _figure(name: str, value: float) -> Cell:
    if name in COUNTS:
        return number(value, 0)
    bounded = name not in LOWER and not missing(value) and 0 <= value <= 1
    return number(value, 1 if name in LOWER else 3, share=float(value) if bounded else None)


def _footer(evaluation: Evaluation, names: Sequence[str]) -> Iterator[Row]:
    numbers = evaluation.frame[list(names)]
    yield Row((Cell("mean"), *(number(numbers[name].mean(), _decimals(name)) for name in names)))
    if len(numbers) > 1:
        yield Row((Cell("standard deviation"), *(number(numbers[name].std(), _decimals(name)) for name in names)))
    summary = evaluation.summary
    pooled = [summary.get(name + POOLED, summary.get(name) if name.startswith("F_") else None) for name in names]
    pooled = [numbers[name].sum() if name in COUNTS else value for name, value in zip(names, pooled, strict=True)]
    if any(value is not None for value in pooled):
        cells = (
            number(value, 0 if name in COUNTS else _decimals(name)) for name, value in zip(names, pooled, strict=True)
        )
        yield Row((Cell("all images pooled", hint="From counts that are summed over images"), *cells))


def _decimals(name: str) -> int:
    return 1 if name in LOWER or name in COUNTS else 3


def headline(evaluations: Sequence[Evaluation]) -> list[str]:
    """Return the scores that a list of evaluations shows: those of `HEADLINE` that occur in any of them."""
    return [name for name in HEADLINE if any(name in each.summary for each in evaluations)]


def evaluations_grid(name: str, title: str, evaluations: Sequence[Evaluation], *, run: bool = True) -> Grid:
    """Return a list of evaluations with their scores.

    Args:
        name: Identifier of the table.
        title: Caption.
        evaluations: The evaluations.
        run: Also show run, protocol and seed.
    """
    names = headline(evaluations)
    texts = ["Evaluation", "set", *(["protocol", "seed"] if run else [])]
    columns = [Column(text, numeric=text == "seed", descending=False) for text in texts]
    columns.append(Column("images"))
    columns += [Column(LABELS.get(name, name), descending=name not in LOWER) for name in names]
    rows = []
    for each in evaluations:
        cells = [Cell(each.title, href=each.page, sub=each.run.run_id if run else ""), Cell(each.target, kind="words")]
        protocol = str(each.run.facts["protocol"])
        cells += [Cell(protocol), number(each.run.facts["seed"], 0)] if run else []
        cells.append(number(len(each.frame), 0))
        cells += [number(each.summary.get(name), _decimals(name)) for name in names]
        rows.append(Row(tuple(cells), protocol))
    return Grid(name, title, (Group("", tuple(columns)),), tuple(rows), note=_note(names))


def _note(names: Sequence[str]) -> str:
    pooled = [LABELS.get(name, name) for name in names if name.startswith("F_")]
    text = "Means over the images that have a value."
    return f"{text} {', '.join(pooled)}: from counts summed over images." if pooled else text


def headline_text(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return the main scores of an evaluation as (name, figure)."""
    names = headline([evaluation])
    return [(evaluation.label(name), signless(evaluation.summary[name], _decimals(name))) for name in names]


__all__ = [
    "Evaluation", "evaluations_grid", "headline_text", "image_grid", "read_evaluations", "shown_scores",
]  # fmt: skip
