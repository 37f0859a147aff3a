"""Mean, interval and rank of each method on each dataset."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from leaderboards.base import Metric, Table
from leaderboards.render import NOTHING, escape, table
from leaderboards.statistics.bootstrap import RESAMPLES, mean_interval
from leaderboards.statistics.entries import Field, fields, protocol_heading, published_field

METRICS = (Metric("DICE", "dice"), Metric("AJI", "aji"), Metric("PQ", "pq"))
"""Scores defined for each image."""

COLUMNS = (
    "table", "dataset", "protocol", "metric", "method", "n", "undefined", "expected", "runs",
    "mean", "low", "high", "rank", "mean_rank", "ranked", "ranked_images",
)  # fmt: skip


class Statistics(Table):
    """Mean over images with its interval, and the rank of each method."""

    name = "statistics"
    title = "Means, intervals and ranks"
    caption = (
        "The datasets of the segmentation and generalisation tables, image by image. Scores of several seeds are first "
        "averaged per image. Each cell: mean over images, its 95 % interval (bootstrap over images, bias-corrected "
        f"and accelerated, {RESAMPLES:,} resamples, fixed seed), the rank of that mean, and the mean of the ranks "
        "in the single images. Only rows with every image of a set are ranked; the mean rank uses the images in which "
        "all of them have a value. n: images with a value. The last section uses the per-image scores that "
        "Naylor 2018 (DIST) prints in table II; its F1 is DICE."
    )

    def build(self, scores: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
        """Return one line per dataset, protocol, metric and row.

        Returns:
            `COLUMNS`: ``n`` images with a value, ``undefined`` images without, ``expected`` images of the set, ``runs``
            averaged; ``mean`` with its interval ``low`` to ``high``; ``rank`` by the mean among ``ranked`` rows, 1 =
            best, and ``mean_rank`` over ``ranked_images`` (ties share a rank; NaN for partial sets).
        """
        found = (*fields(scores), *published_field(published))
        lines = [line for field in found for metric in METRICS for line in _lines(field, metric)]
        return pd.DataFrame(lines, columns=list(COLUMNS))

    def markdown(self, frame: pd.DataFrame) -> str:
        """Return one section per protocol and one table per dataset."""
        parts = [f"# {escape(self.title)}", self.caption]
        for protocol, under in frame.groupby("protocol", sort=True):
            parts.append(f"## {escape(protocol_heading(str(protocol)))}")
            for dataset in under["dataset"].unique():
                parts += [f"### {escape(dataset)}", _dataset(under[under["dataset"] == dataset])]
        return "\n\n".join(parts if len(frame) else [*parts, NOTHING]) + "\n"


def _lines(field: Field, metric: Metric) -> list[dict[str, Any]]:
    rows = {entry.label: entry.values[metric.column] for entry in field.entries if metric.column in entry.values}
    rows = {label: values for label, values in rows.items() if values.notna().any()}
    whole = {entry.label for entry in field.complete} & set(rows)
    means = pd.Series({label: values.mean() for label, values in rows.items() if label in whole}, dtype=float)
    # Means that differ only by rounding errors count as equal.
    rank = means.round(12).rank(ascending=not metric.higher, method="min")
    each = pd.DataFrame({label: rows[label] for label in means.index}).dropna()
    mean_rank = each.rank(axis="columns", ascending=not metric.higher).mean()
    lines = []
    for entry in field.entries:
        if entry.label not in rows:
            continue
        values = rows[entry.label]
        low, high = mean_interval(values.to_numpy())
        place = {"rank": rank.get(entry.label, np.nan), "mean_rank": mean_rank.get(entry.label, np.nan)}
        where = {"table": field.table, "dataset": field.dataset, "protocol": field.protocol, "metric": metric.name}
        counts = {"n": int(values.notna().sum()), "undefined": int(values.isna().sum()), "expected": field.expected}
        counts |= {"runs": entry.repetitions, "ranked": len(means), "ranked_images": len(each)}
        lines.append(
            {**where, "method": entry.label, **counts, "mean": values.mean(), "low": low, "high": high, **place}
        )
    return lines


def _dataset(frame: pd.DataFrame) -> str:
    metrics = list(frame["metric"].unique())
    cells = {(line["method"], line["metric"]): line for line in frame.to_dict("records")}
    rows = []
    for method in frame["method"].unique():
        row = [escape(method)]
        own = [cells[method, metric] for metric in metrics if (method, metric) in cells]
        for metric in metrics:
            line = cells.get((method, metric))
            row += [f"{line['mean']:.3f} [{line['low']:.3f}, {line['high']:.3f}]", _place(line)] if line else ["", ""]
        n = sorted({line["n"] for line in own})
        partial = f" of {own[0]['expected']}" if own[0]["n"] + own[0]["undefined"] < own[0]["expected"] else ""
        rows.append([*row, " to ".join(map(str, n[:: len(n) - 1] if len(n) > 1 else n)) + partial, f"{own[0]['runs']}"])
    header = [text for metric in metrics for text in (f"{metric} [95 %]", "rank (mean rank)")]
    return table(["Method", *header, "n", "runs"], rows)


def _place(line: dict[Any, Any]) -> str:
    if pd.isna(line["rank"]):
        return ""
    mean = "" if pd.isna(line["mean_rank"]) else f" ({line['mean_rank']:.1f})"
    return f"{line['rank']:.0f} of {line['ranked']}{mean}"
