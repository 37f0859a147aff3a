"""The PanNuke table: means over tissues, then over the folds of a seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from leaderboards.papers.pannuke import PanNukeTissues
from leaderboards.records import load_scores

NOTHING = pd.DataFrame(columns=["table", "method", "dataset", "metric", "value", "source"])


@pytest.fixture
def frame(store: Path, made: Any) -> pd.DataFrame:
    """Two folds of a seed; one is also scored on the fold it was trained on, which does not count."""
    for fold, targets in (("fold1", ("fold2", "fold1")), ("fold2", ("fold3",))):
        run = made.run(store, f"strict-s0-{fold}", train=f"pannuke.{fold}")
        for target in targets:
            better = 0.2 if fold == "fold2" else 0.0
            scores = made.scores(
                ["a", "b", "c", "d"],
                tissue=["Breast", "Breast", "Colon", "Colon"],
                pq=[0.4 + better, 0.6 + better, 0.8 + better, 0.0],
                n_true=[3, 3, 3, 0],
                pq_1=[0.2, 0.4, "", ""],
                mpq=[0.2 + better, 0.4 + better, 0.7 + better, ""],
            )
            made.evaluation(run, f"pannuke.{target}", scores)
    table = PanNukeTissues(expected=lambda _dataset, _split: 4)
    frame = table.build(load_scores([store]), NOTHING)
    assert "mPQ of each tissue" in table.markdown(frame)
    return frame


def ours(frame: pd.DataFrame, dataset: str, metric: str) -> float:
    (value,) = frame.loc[(frame["dataset"] == dataset) & (frame["metric"] == metric), "ours"]
    return float(value)


@pytest.mark.parametrize(
    ("dataset", "metric", "expected"),
    [
        ("PanNuke", "mPQ", (0.3 + 0.7) / 2 + 0.1),  # of the tissues, then 0.2 more in one of two folds
        ("PanNuke", "bPQ", (0.5 + 0.8) / 2 + 0.1),  # the image without nuclei does not count
        ("PanNuke", "PQ neoplastic", 0.3),
        ("PanNuke, mPQ of each tissue", "Breast", 0.3 + 0.1),
        ("PanNuke, bPQ of each tissue", "Colon", 0.8 + 0.1),
    ],
)
def test_figures(frame: pd.DataFrame, dataset: str, metric: str, expected: float) -> None:
    assert ours(frame, dataset, metric) == pytest.approx(expected)


def test_a_tissue_without_images_is_empty(frame: pd.DataFrame) -> None:
    assert pd.isna(ours(frame, "PanNuke, mPQ of each tissue", "Uterus"))


def test_counts_of_images_and_seeds(frame: pd.DataFrame) -> None:
    line = frame[frame["metric"] == "mPQ"].iloc[0]
    assert (line["images"], line["expected"], line["seeds"]) == (8, 12, 1)
    assert line["trained_on"] == "pannuke.fold1; pannuke.fold2"
