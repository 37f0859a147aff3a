from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from leaderboards.literature import load_facts
from leaderboards.records import load_scores
from leaderboards.statistics.bootstrap import mean_interval
from leaderboards.statistics.entries import distinct_labels, fields, published_field
from leaderboards.statistics.intervals import Statistics
from leaderboards.statistics.significance import Significance

IMAGES = [f"TCGA-{k}" for k in range(14)]
RANDOM = np.random.default_rng(3)
BASE = RANDOM.uniform(0.4, 0.6, 14)


@pytest.fixture
def scores(store: Path, made: Any) -> pd.DataFrame:
    """Three methods on Kumar: one better everywhere, one with a hole; a fourth under another protocol."""
    for title, seed, values in (
        ("DIST", 0, BASE + 0.06),
        ("DIST", 1, BASE + 0.14),
        ("U-Net", 0, BASE),
        ("Mask-RCNN", 0, [np.nan, *(BASE[1:] + np.tile([0.01, -0.02], 7)[1:])]),
    ):
        run = made.run(store, f"paper-s{seed}-aaaaaaaa", method=f"m-{title}".lower())
        made.evaluation(run, "kumar.test", made.scores(IMAGES, aji=list(values)), title=title)
    other = made.run(store, "strict-s0-aaaaaaaa", method="m-strict")
    made.evaluation(other, "kumar.test", made.scores(IMAGES, aji=list(BASE + 0.2)), title="FCN8")
    part = made.run(store, "paper-s0-aaaaaaaa", method="m-part")
    made.evaluation(part, "kumar.test", made.scores(IMAGES[:5], aji=[0.9] * 5), title="SegNet")
    return load_scores([store])


def lines(frame: pd.DataFrame, *, metric: str = "AJI", protocol: str = "paper") -> pd.DataFrame:
    return frame[(frame["metric"] == metric) & (frame["protocol"] == protocol)].set_index("method")


def test_means_intervals_and_ranks(scores: pd.DataFrame) -> None:
    frame = lines(Statistics().build(scores, load_facts()))
    assert list(frame.index) == ["DIST", "Mask-RCNN", "SegNet", "U-Net"]
    assert frame["n"].to_dict() == {"DIST": 14, "Mask-RCNN": 13, "SegNet": 5, "U-Net": 14}
    assert frame.at["Mask-RCNN", "undefined"] == 1
    assert frame.at["DIST", "runs"] == 2
    assert frame.at["DIST", "mean"] == pytest.approx((BASE + 0.1).mean())
    assert (frame.at["U-Net", "low"], frame.at["U-Net", "high"]) == pytest.approx(mean_interval(BASE))
    assert frame.at["DIST", "rank"] == 1
    assert np.isnan(frame.at["SegNet", "rank"])  # five images of fourteen are no rival
    assert frame.at["DIST", "mean_rank"] == 1.0
    assert frame.at["U-Net", "mean_rank"] == pytest.approx((2 * 7 + 3 * 6) / 13)
    assert (frame["ranked_images"] == 13).all()


def test_protocols_do_not_meet(scores: pd.DataFrame) -> None:
    statistics = Statistics().build(scores, load_facts())
    assert list(lines(statistics, protocol="strict").index) == ["FCN8"]
    pairs = Significance().build(scores, load_facts())
    assert "FCN8" not in set(pairs["method"]) | set(pairs["against"])


def test_pairs_state_n_and_are_corrected_by_method(scores: pd.DataFrame) -> None:
    frame = lines(Significance().build(scores, load_facts())).set_index("against", append=True)
    assert len(frame) == 12
    assert (frame["tests"] == 3).all()
    assert frame["n"]["DIST", "U-Net"] == 14
    assert frame["n"]["DIST", "Mask-RCNN"] == 13
    assert frame["n"]["DIST", "SegNet"] == 5
    assert frame["p"]["DIST", "U-Net"] == pytest.approx(2.0**-14)
    assert frame["p"]["U-Net", "DIST"] == pytest.approx(1.0)
    assert frame["p_holm"]["DIST", "U-Net"] == pytest.approx(3 * 2.0**-14)
    assert frame["p_holm"]["DIST", "Mask-RCNN"] == pytest.approx(2 * 2.0**-13)
    assert frame["median_difference"]["DIST", "U-Net"] == pytest.approx(0.1)


def test_markdown_reads_well(scores: pd.DataFrame) -> None:
    text = Statistics().markdown(Statistics().build(scores, load_facts()))
    assert "| Mask-RCNN | 0.500 [0.500, 0.500] |" in text
    assert "| 13 to 14 | 1 |" in text
    assert "| 5 of 14 | 1 |" in text
    matrix = Significance().markdown(Significance().build(scores, load_facts()))
    assert "**AJI**, n = 4 to 14 images, 3 tests per line" in matrix
    assert "| 1. DIST |  | **2e-4** |" in matrix


def test_nothing_run_and_nothing_published(store: Path) -> None:
    nothing = load_facts().iloc[:0]
    for table, text in ((Statistics(), "Nothing has been run"), (Significance(), "No two rows have been run")):
        frame = table.build(load_scores([store]), nothing)
        assert len(frame) == 0
        assert text in table.markdown(frame)


def test_the_claims_of_the_dist_paper_hold_for_its_own_scores() -> None:
    """Section VI-E: better in AJI than every other method with p < 0.1; in F1 only than Mask R-CNN."""
    frame = Significance().build(load_scores([]), load_facts())
    assert (frame["n"] == 14).all()
    assert (frame["protocol"] == "published").all()
    aji = frame[(frame["metric"] == "AJI") & (frame["method"] == "DIST")].set_index("against")
    assert len(aji) == 6
    assert (aji["p"] < 0.1).all()
    assert (aji["p_holm"] < 0.1).all()
    assert aji.loc[["FCN", "U-Net (cross-entropy)", "Mask-RCNN", "U-Net (cross-entropy) + PP"], "p"].max() < 0.01
    assert aji["p"]["FCN + PP"] == pytest.approx(83 / 2**13)
    assert aji["p"]["CNN3"] == pytest.approx(0.0863, abs=1e-4)
    f1 = frame[(frame["metric"] == "DICE") & (frame["method"] == "DIST")].set_index("against")["p"]
    assert (f1[["FCN", "U-Net (cross-entropy)", "CNN3"]] > 0.1).all()
    assert f1["Mask-RCNN"] < 0.01


def test_published_scores_of_single_images_average_to_the_printed_means() -> None:
    frame = lines(Statistics().build(load_scores([]), load_facts()), protocol="published")
    printed = load_facts()
    printed = printed[(printed["table"] == "dist_kumar_test") & (printed["metric"] == "AJI")].set_index("method")
    assert (frame["mean"] - printed["value"]).abs().max() < 2e-3
    assert frame["rank"].idxmin() == "DIST"


def test_the_best_seeds_do_not_hide_a_hole(store: Path, made: Any) -> None:
    for seed, values in ((0, [0.2, 0.4]), (1, [0.6, np.nan])):
        made.evaluation(made.run(store, f"paper-s{seed}-aaaaaaaa"), "kumar.test", made.scores(["a", "b"], pq=values))
    (field,) = fields(load_scores([store]))
    values = field.entries[0].values["pq"]
    assert values.iloc[0] == pytest.approx(0.4)
    assert np.isnan(values.iloc[1])
    assert field.entries[0].repetitions == 2


def test_labels_tell_rows_apart_by_what_differs() -> None:
    def row(title: str, options: str = "", weights: str = "none", source: str = "run") -> dict[str, str]:
        return {"title": title, "options": options, "weights": weights, "source": source}

    rows = [row("A", "crop=64, lr=0.1"), row("A", "crop=64, lr=0.2"), row("A", "lr=0.1", "imagenet"), row("B", "lr=1")]
    assert distinct_labels(rows) == ["A (crop=64, lr=0.1)", "A (crop=64, lr=0.2)", "A (lr=0.1, weights=imagenet)", "B"]
    assert distinct_labels([row("A", "lr=1"), row("A")]) == ["A (lr=1)", "A (paper's settings)"]
    assert distinct_labels([row("A"), row("A", source="predictions")]) == [
        "A (paper's settings)",
        "A (source=predictions)",
    ]


def test_published_images_make_one_field() -> None:
    (field,) = published_field(load_facts())
    assert field.expected == 14
    assert len(field.complete) == 7
    assert {"Bladder 1", "Prostate 2"} < set(field.entries[0].values.index)
