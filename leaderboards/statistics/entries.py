"""Methods on the same images, as the basis of statistics and pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from leaderboards.base import ROW, Block, Comparison, separate_repeats
from leaderboards.literature import PER_IMAGE
from leaderboards.options import split_options
from leaderboards.papers.generalisation import Generalisation
from leaderboards.papers.kumar_test import KumarTest
from leaderboards.papers.segmentation import Segmentation
from leaderboards.records import COLUMNS

TABLES: tuple[type[Comparison], ...] = (Segmentation, Generalisation)
"""Tables whose datasets are compared image by image."""

PUBLISHED = "published"
"""Used instead of a protocol if the per-image scores come from a paper."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One row of a table on one dataset, image by image.

    Attributes:
        title: Method.
        label: Name that is unique in the field: the method, with what distinguishes its rows.
        values: Scores with one line per image (index ``dataset/split/image``), the mean over repetitions.
        repetitions: Number of averaged runs.
        runs: Their ids.
        variant: Key of the method's variant.
        types: Names of the types 1..T that are scored.
    """

    title: str
    label: str
    values: pd.DataFrame
    repetitions: int
    runs: tuple[str, ...]
    variant: str
    types: tuple[str, ...] = ()


@dataclass(frozen=True)
class Field:
    """All entries on one dataset under one protocol; protocols are never mixed.

    Attributes:
        table: Name of the table.
        dataset: Name of the dataset in it.
        block: The dataset.
        protocol: Protocol.
        expected: Images of the whole set.
        entries: Ordered by label.
    """

    table: str
    dataset: str
    block: Block
    protocol: str
    expected: int
    entries: tuple[Entry, ...]

    @property
    def complete(self) -> tuple[Entry, ...]:
        """Entries with scores of every image; only these are ranked."""
        return tuple(entry for entry in self.entries if len(entry.values) == self.expected)


def fields(scores: pd.DataFrame, tables: Sequence[type[Comparison]] = TABLES) -> Iterator[Field]:
    """Yield a field for each protocol and dataset with runs.

    Args:
        scores: Per-image scores as of `leaderboards.records.load_scores`.
        tables: Tables whose datasets are included.
    """
    for kind in tables:
        table = kind()
        for block in table.blocks:
            chosen = table.select(scores, block)
            chosen = separate_repeats(chosen.assign(title=table.label(chosen)))
            for protocol, lines in chosen.groupby("protocol", sort=True):
                entries = _entries(lines)
                yield Field(table.name, block.title, block, str(protocol), table.expected(block), entries)


def published_field(published: pd.DataFrame) -> list[Field]:
    """Return the methods of the DIST paper on the test images of Kumar, whose per-image scores it prints.

    Args:
        published: Published figures as of `leaderboards.literature.load_facts`.

    Returns:
        The field; empty if the figures lack it.
    """
    facts = published[(published["table"] == PER_IMAGE) & (published["dataset"] != "Kumar")]
    if not len(facts):
        return []
    block = KumarTest.blocks[0]
    columns = {metric.name: metric.column for metric in block.metrics}
    wide = facts.pivot_table(index=["method", "dataset"], columns="metric", values="value").rename(columns=columns)
    entries = [
        Entry(str(method), str(method), values.droplevel("method"), 1, (), "")
        for method, values in wide.groupby(level="method", sort=True)
    ]
    return [Field(PER_IMAGE, block.title, block, PUBLISHED, facts["dataset"].nunique(), tuple(entries))]


def _entries(scores: pd.DataFrame) -> tuple[Entry, ...]:
    groups = {tuple(map(str, key)): lines for key, lines in scores.groupby(list(ROW), sort=True)}
    labels = distinct_labels([dict(zip(ROW, key, strict=True)) for key in groups])
    found = [_entry(label, lines) for label, lines in zip(labels, groups.values(), strict=True)]
    return tuple(sorted(found, key=lambda entry: entry.label))


def _entry(label: str, scores: pd.DataFrame) -> Entry:
    """Average the repetitions that cover the most images."""
    counts = scores.groupby("run_id")["image"].count()
    runs = tuple(sorted(counts[counts == counts.max()].index))
    kept = scores[scores["run_id"].isin(runs)]
    index = (kept["dataset"] + "/" + kept["split"] + "/" + kept["image"]).rename("image")
    metrics = [column for column in kept.columns if column not in COLUMNS]
    # A value missing from one repetition is missing: otherwise means over different seeds would be compared.
    values = kept[metrics].groupby(index, sort=True).mean()
    holes = kept[metrics].isna().groupby(index, sort=True).any()
    first = kept.iloc[0]
    types = tuple(str(first["types"]).split("|")) if first["types"] else ()
    return Entry(first["title"], label, values.mask(holes), len(runs), runs, first["variant"], types)


def protocol_heading(protocol: str) -> str:
    """Return the heading of a protocol."""
    return "Published per-image scores" if protocol == PUBLISHED else f"Protocol {protocol}"


def distinct_labels(rows: Sequence[dict[str, str]]) -> list[str]:
    """Return a name for each row: its title, with what distinguishes it from other rows of that title.

    Args:
        rows: ``title``, ``source``, ``weights`` and ``options`` (`leaderboards.records.describe`) of each.
    """
    rivals = Counter(row["title"] for row in rows)
    facts = [_facts(row) for row in rows]
    labels = []
    for row, own in zip(rows, facts, strict=True):
        others = [fact for other, fact in zip(rows, facts, strict=True) if other["title"] == row["title"]]
        told = [f"{key}={value}" for key, value in own.items() if any(fact.get(key) != value for fact in others)]
        told = told or (["paper's settings"] if rivals[row["title"]] > 1 else [])
        labels.append(f"{row['title']} ({', '.join(told)})" if told else row["title"])
    return labels


def _facts(row: dict[str, str]) -> dict[str, str]:
    facts = split_options(row["options"])
    facts |= {"weights": row["weights"]} if row["weights"] != "none" else {}
    return facts | ({"source": row["source"]} if row["source"] != "run" else {})


__all__ = ["PUBLISHED", "TABLES", "Entry", "Field", "distinct_labels", "fields", "protocol_heading", "published_field"]
