"""Pairwise comparison of methods: Wilcoxon's signed-rank test with Holm's correction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from leaderboards.base import Metric, Table
from leaderboards.render import escape, table
from leaderboards.statistics.entries import Field, fields, protocol_heading, published_field
from leaderboards.statistics.intervals import METRICS
from leaderboards.statistics.wilcoxon import holm, signed_rank

LEVEL = 0.05
"""Corrected p-values below this level are bold."""

COLUMNS = (
    "table", "dataset", "protocol", "metric", "method", "against", "n", "zeros", "median_difference", "statistic",
    "p", "p_holm", "tests",
)  # fmt: skip


class Significance(Table):
    """Tests of whether one method is better than another on the same images."""

    name = "significance"
    title = "Pairwise comparison of methods"
    caption = (
        "One-sided Wilcoxon signed-rank tests on the images that two rows share (Naylor 2018, section VI-E): is the "
        "method of the line better than that of the column? P-values are exact; images in which either lacks a value, "
        "and those without a difference, are left out. Holm's method corrects for the tests of one line, i.e. one "
        f"method against each other method; bold: below {LEVEL:g}. Rows of different protocols are not compared. "
        "Scores of several seeds are first averaged per image. The last section uses the per-image scores that Naylor "
        "2018 (DIST) prints in table II; its F1 is DICE."
    )

    def build(self, scores: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
        """Return one line per dataset, protocol, metric and ordered pair of rows.

        Returns:
            `COLUMNS`: ``n`` images in which both have a value, ``zeros`` of them without a difference,
            ``median_difference`` of the scores, ``statistic`` (`wilcoxon.SignedRank`), ``p`` of ``method`` being better
            than ``against``, ``p_holm`` corrected for the ``tests`` of that method.
        """
        found = (*fields(scores), *published_field(published))
        lines = [line for field in found for metric in METRICS for line in compare(field, metric)]
        return pd.DataFrame(lines, columns=list(COLUMNS))

    def markdown(self, frame: pd.DataFrame) -> str:
        """Return a matrix of corrected p-values per protocol, dataset and metric."""
        parts = [f"# {escape(self.title)}", self.caption]
        if not len(frame):
            parts.append("No two rows have been run on the same dataset under one protocol yet.")
        for protocol, under in frame.groupby("protocol", sort=True):
            parts.append(f"## {escape(protocol_heading(str(protocol)))}")
            for dataset in under["dataset"].unique():
                parts.append(f"### {escape(dataset)}")
                here = under[under["dataset"] == dataset]
                for metric in here["metric"].unique():
                    parts += _matrix(str(metric), here[here["metric"] == metric])
        return "\n\n".join(parts) + "\n"


def compare(field: Field, metric: Metric, only: str = "") -> list[dict[str, Any]]:
    """Return the tests of each row against each other row on their common images.

    Args:
        field: The rows.
        metric: The score.
        only: Label of the row whose tests are returned; empty = all rows.
    """
    rows = {entry.label: entry.values[metric.column] for entry in field.entries if metric.column in entry.values}
    aligned = pd.DataFrame({label: values for label, values in rows.items() if values.notna().any()})
    where = {"table": field.table, "dataset": field.dataset, "protocol": field.protocol, "metric": metric.name}
    lines = []
    for label in [only] if only else aligned.columns:
        found = [_test(aligned, metric, label, other) for other in aligned.columns if other != label]
        tests = [test for test in found if test["n"]]
        corrected = holm([test["p"] for test in tests])
        lines += [{**where, **test, "p_holm": p, "tests": len(tests)} for test, p in zip(tests, corrected, strict=True)]
    return lines


def _test(aligned: pd.DataFrame, metric: Metric, label: str, other: str) -> dict[str, Any]:
    own, theirs = aligned[label].to_numpy(), aligned[other].to_numpy()
    result = signed_rank(own, theirs) if metric.higher else signed_rank(theirs, own)
    difference = (own - theirs)[np.isfinite(own - theirs)]
    about = {"method": label, "against": other, "n": result.n, "zeros": result.zeros, "p": result.p}
    median = float(np.median(difference)) if len(difference) else np.nan
    return {**about, "statistic": result.statistic, "median_difference": median}


def _matrix(metric: str, frame: pd.DataFrame) -> list[str]:
    """Return a heading with n, and the matrix."""
    labels = list(dict.fromkeys([*frame["method"], *frame["against"]]))
    cells = {(line["method"], line["against"]): line["p_holm"] for line in frame.to_dict("records")}
    ns = sorted(set(frame["n"]))
    n = f"n = {ns[0]} images" if len(ns) == 1 else f"n = {ns[0]} to {ns[-1]} images"
    rows = [
        [f"{i}. {escape(label)}", *(_figure(cells.get((label, other))) for other in labels)]
        for i, label in enumerate(labels, start=1)
    ]
    header = ["Better than", *(f"{i}." for i in range(1, len(labels) + 1))]
    return [f"**{escape(metric)}**, {n}, {len(labels) - 1} tests per line", table(header, rows)]


def _figure(p: float | None) -> str:
    if p is None:
        return ""
    text = f"{p:.3f}" if p >= 0.0005 else f"{p:.0e}".replace("e-0", "e-")
    return f"**{text}**" if p < LEVEL else text
