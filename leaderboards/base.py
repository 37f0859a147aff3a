"""`Table`: a leaderboard built from stored scores; `Comparison`: our figures next to the published ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.metrics.pooling import summarise_each
from leaderboards.images import expected_images
from leaderboards.records import COLUMNS
from leaderboards.render import comparison_markdown

ROW = ("title", "protocol", "source", "weights", "options")
"""Columns of the scores that identify a row: runs that differ in any of them are never averaged."""

OUTPUT_COLUMNS = (
    "method", "registry", "variant", "protocol", "source", "weights", "options", "dataset", "metric",
    "published", "ours", "deviation", "seeds", "images", "expected", "undefined",
    "trained_on", "steps", "minutes", "hardware", "precision", "note", "runs", "reference",
)  # fmt: skip
"""Columns of a comparison, one line per row, dataset and metric: see `Comparison.build`."""


class Table(ABC):
    """A leaderboard. A subclass is one file and one line in `benchmark.registry.TABLES`.

    Attributes:
        name: Registry name, also the stem of the files written.
        title: Heading.
        caption: What is compared, one paragraph of Markdown.
        problems: Collects one line per broken file that `build` skips; None = the first broken file raises an error.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    caption: ClassVar[str]
    problems: list[str] | None = None

    def look_in(self, roots: Sequence[Path]) -> None:  # noqa: B027  # most tables have nothing to look for
        """Record the folders of stored results, for tables that show more than scores.

        Args:
            roots: The folders; published results come before your own.
        """

    @abstractmethod
    def build(self, scores: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
        """Return the table, computed from its arguments, the committed split files and the folders of `look_in`.

        Args:
            scores: Per-image scores as returned by `leaderboards.records.load_scores`.
            published: Published figures as returned by `leaderboards.literature.load_published`.
        """

    @abstractmethod
    def markdown(self, frame: pd.DataFrame) -> str:
        """Return the frame that `build` returned as Markdown."""


@dataclass(frozen=True)
class Metric:
    """A column of figures.

    Attributes:
        title: Header.
        column: Key in the summary of a run (`Comparison.summaries`).
        published: Name in the published figures; empty = the title.
        higher: True if larger values are better.
        pooled: True if it is computed from counts summed over images, so that it is defined for every image.
    """

    title: str
    column: str
    published: str = ""
    higher: bool = True
    pooled: bool = False

    @property
    def name(self) -> str:
        """Name in the published figures and in the table's CSV."""
        return self.published or self.title


SEGMENTATION_METRICS = (
    Metric("DICE", "dice"),
    Metric("AJI", "aji"),
    Metric("DQ", "dq"),
    Metric("SQ", "sq"),
    Metric("PQ", "pq"),
    Metric("PQ pooled", "pq_pooled", pooled=True),
)
"""Columns of the segmentation tables (Graham 2019, tables III and IV) and the PQ of the whole set."""


@dataclass(frozen=True)
class Block:
    """One dataset of a table.

    Attributes:
        title: Name of the dataset in the published figures.
        evaluations: (dataset, split) whose images are pooled.
        trained_on: ``<dataset>.<split>`` that a run must be trained on; runs without training always count.
        metrics: Columns.
    """

    title: str
    evaluations: tuple[tuple[str, str], ...]
    trained_on: tuple[str, ...]
    metrics: tuple[Metric, ...]


class Comparison(Table):
    """Our figures next to the published ones: datasets x metrics for each method and protocol.

    A subclass sets `published_table` and `blocks`. `listed` names rows that are shown even if they have neither runs
    nor published figures. A subclass may override `select` (which scores belong to a block: single images, folds),
    `label` (the row's name: training sets, ablations), `repetition` (what is averaged: one value per run, or per seed
    if the folds of a seed belong together) and `summaries` (further figures).

    Args:
        expected: Number of images of (dataset, split); None = the committed split files.
    """

    published_table: ClassVar[str]
    blocks: ClassVar[tuple[Block, ...]]
    repetition: ClassVar[str] = "run_id"
    listed: ClassVar[tuple[str, ...]] = ()

    def __init__(self, expected: Callable[[str, str], int] | None = None) -> None:
        self._expected = expected or expected_images

    # ---- methods that a table may override ----

    def select(self, scores: pd.DataFrame, block: Block) -> pd.DataFrame:
        """Return the lines of the scores that belong to a block."""
        wanted = [f"{dataset}.{split}" for dataset, split in block.evaluations]
        evaluated = scores["dataset"] + "." + scores["split"]
        return scores[evaluated.isin(wanted) & scores["trained_on"].isin(["", *block.trained_on])]

    def label(self, scores: pd.DataFrame) -> pd.Series:
        """Return the name of the row to which each line of the scores belongs."""
        return scores["title"]

    def summaries(self, scores: pd.DataFrame, repetitions: NDArray[np.int64], count: int) -> list[dict[str, float]]:
        """Return the figures of each repetition.

        Args:
            scores: Per-image scores, at least one line of each repetition.
            repetitions: (N,), index of the repetition of each line, 0 to `count` - 1.
            count: Number of repetitions.
        """
        own = scores.drop(columns=[column for column in COLUMNS if column != "image"])
        return summarise_each(own, repetitions, count)

    def summary(self, scores: pd.DataFrame) -> dict[str, float]:
        """Return the figures of one repetition from its per-image scores (at least one line)."""
        return self.summaries(scores, np.zeros(len(scores), dtype=np.int64), 1)[0]

    def expected(self, block: Block) -> int:
        """Return the number of images in a complete repetition of a block."""
        return sum(self._expected(dataset, split) for dataset, split in block.evaluations)

    # ---- implemented by the base class ----

    def build(self, scores: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
        """Return one line per row, dataset and metric.

        A row is a method under one protocol. Other options, pretrained weights or external predictions get rows of
        their own. A cell averages the repetitions that cover the most images; each repetition is averaged over its
        images first.

        Returns:
            `OUTPUT_COLUMNS`. ``method``, ``registry`` (registry name), ``variant``, ``protocol`` and the other
            columns of the row (empty if the method has not been run); ``dataset``, ``metric``; ``published``;
            ``ours`` (mean over repetitions), ``deviation`` (sample standard deviation, for at least two
            repetitions), ``seeds`` (number of repetitions), ``images`` (per repetition), ``expected`` (images of
            the whole set), ``undefined`` (images without a value, excluded from the mean; the maximum over
            repetitions); how ``ours`` was trained (``steps`` and ``minutes`` as means over repetitions), ``runs``
            (run ids); ``reference`` (source of the published figure).
        """
        facts = published[published["table"] == self.published_table]
        figures = {
            (method, dataset, metric): (value, source)
            for method, dataset, metric, value, source in facts[
                ["method", "dataset", "metric", "value", "source"]
            ].itertuples(index=False)
        }
        rows = self._rows(scores)
        titles = [*facts["method"], *self.listed, *sorted({row["method"] for row, _ in rows})]
        lines: list[dict[str, Any]] = []
        for title in dict.fromkeys(titles):
            ours = [(row, cells) for row, cells in rows if row["method"] == title]
            for row, cells in ours or [({"method": title}, {})]:
                for block in self.blocks:
                    for metric in block.metrics:
                        value, source = figures.get((title, block.title, metric.name), (np.nan, ""))
                        place = {"dataset": block.title, "metric": metric.name}
                        cell = cells.get((block.title, metric.name), {})
                        lines.append({**row, **place, **cell, "published": value, "reference": source})
        return _typed(pd.DataFrame(lines, columns=list(OUTPUT_COLUMNS)))

    def markdown(self, frame: pd.DataFrame) -> str:
        """Return the table as Markdown: one section per protocol, one table per dataset."""
        blocks = [(block.title, [(m.name, m.title, m.higher) for m in block.metrics]) for block in self.blocks]
        return comparison_markdown(self.title, self.caption, blocks, frame, self.listed)

    def _rows(self, scores: pd.DataFrame) -> list[tuple[dict[str, Any], dict[tuple[str, str], dict[str, Any]]]]:
        """Return each row with at least one run, in a fixed order, with its cells by (dataset, metric)."""
        chosen = {block: self.select(scores, block) for block in self.blocks}
        used = scores.loc[np.unique(np.concatenate([part.index.to_numpy() for part in chosen.values()]))]
        used = separate_repeats(used.assign(title=self.label(used)))
        rows = []
        for key, lines in used.groupby(list(ROW), sort=True):
            row = dict(zip(("method", *ROW[1:]), key, strict=True))
            row |= {"registry": _joined(lines["method"]), "variant": _joined(lines["variant"])}
            cells: dict[tuple[str, str], dict[str, Any]] = {}
            for block, part in chosen.items():
                ours = lines.loc[lines.index.intersection(part.index)]
                if len(ours):
                    cells |= {(block.title, name): cell for name, cell in self._cells(block, ours)}
            rows.append((row, cells))
        return rows

    def _cells(self, block: Block, scores: pd.DataFrame) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (metric, cell) of one row in one block for each metric that the scores contain."""
        sizes = scores.groupby(self.repetition)["image"].transform("size")
        images = int(sizes.max())
        scores = scores[sizes == images]
        codes, names = pd.factorize(scores[self.repetition], sort=True)
        repetitions = codes.astype(np.int64)
        summaries = self.summaries(scores, repetitions, len(names))
        training = describe_training(scores)
        for metric in block.metrics:
            values = np.array([summary.get(metric.column, np.nan) for summary in summaries], dtype=float)
            values = values[np.isfinite(values)]
            if not len(values):
                continue
            counted = not metric.pooled and metric.column in scores
            holes = np.bincount(repetitions[scores[metric.column].isna()] if counted else repetitions[:0])
            yield (
                metric.name,
                {
                    "ours": float(values.mean()),
                    "deviation": float(values.std(ddof=1)) if len(values) > 1 else np.nan,
                    "seeds": len(values),
                    "images": images,
                    "expected": self.expected(block),
                    "undefined": int(holes.max(initial=0)),
                    **training,
                },
            )


def separate_repeats(scores: pd.DataFrame) -> pd.DataFrame:
    """Separate runs that cannot be repetitions of each other because they share a seed.

    For example, a short trial and a full training with the same seed become two rows. Runs are separated by their
    steps and, if a seed still occurs twice, by run id. The difference is added to ``options``. Folds also share a
    seed, but each fold has its own training set, so folds stay together.

    Args:
        scores: Per-image scores.
    """
    for column in ("steps", "run_id"):
        if not len(scores):
            break
        same = scores.groupby([*ROW, "trained_on", "seed", "dataset", "split"])["run_id"].transform("nunique") > 1
        if not same.any():
            continue
        mixed = same.groupby([scores[name] for name in ROW]).transform("any")
        difference = [f"{column}={int(v) if isinstance(v, float) and v == v else v}" for v in scores[column]]
        extended = [f"{old}, {new}" if old else new for old, new in zip(scores["options"], difference, strict=True)]
        scores = scores.assign(options=scores["options"].where(~mixed, pd.Series(extended, index=scores.index)))
    return scores


def describe_training(scores: pd.DataFrame) -> dict[str, Any]:
    """Return how the runs behind some scores were trained: texts are joined, steps and minutes averaged."""
    runs = scores.drop_duplicates("run_id")
    return {
        "trained_on": _joined(runs["trained_on"]),
        "steps": float(runs["steps"].mean()),
        "minutes": float(runs["minutes"].mean()),
        **{key: _joined(runs[key]) for key in ("hardware", "precision", "note")},
        "runs": _joined(runs["run_id"]),
    }


def _joined(values: pd.Series) -> str:
    return "; ".join(sorted({str(value) for value in values if value != ""}))


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    counts = dict.fromkeys(("seeds", "images", "expected", "undefined"), "Int64")
    floats = dict.fromkeys(("published", "ours", "deviation", "steps", "minutes"), "float64")
    texts = [column for column in OUTPUT_COLUMNS if column not in {**counts, **floats}]
    frame[texts] = frame[texts].astype(object).where(frame[texts].notna(), "")
    return frame.astype({**counts, **floats})


__all__ = [
    "OUTPUT_COLUMNS", "ROW", "SEGMENTATION_METRICS", "Block", "Comparison", "Metric", "Table",
    "describe_training", "separate_repeats",
]  # fmt: skip
