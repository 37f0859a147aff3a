from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from leaderboards.images import image_facts
from leaderboards.literature import load_facts
from leaderboards.papers.self_supervised import SelfSupervised, setting
from leaderboards.records import load_scores

PRINTED = ["M_-sparse", "M_-smooth", "M_-WSI", "M_-equiv", "M_proposed"]


def images(dataset: str, split: str) -> list[str]:
    facts = image_facts(dataset)
    return facts.loc[(facts["split"] == split) | (split == "all"), "image_id"].tolist()


def store_run(store: Path, made: Any, run: str, where: str, aji: float, **changes: Any) -> None:
    folder = made.run(store, run, **{"method": "self-supervised", **changes})
    names = images(*where.split("."))
    scores = made.scores(names, aji=[aji] * len(names), ahd=[8.0] * len(names), adc=[0.6] * len(names))
    made.evaluation(folder, where, scores, variant="self-supervised", title="Self-supervised")


def cell(frame: pd.DataFrame, method: str, dataset: str, metric: str = "AJI") -> pd.Series:
    chosen = frame[(frame["method"] == method) & (frame["dataset"] == dataset) & (frame["metric"] == metric)]
    assert len(chosen) == 1, chosen
    return chosen.iloc[0]


def test_settings_are_the_printed_rows(store: Path, made: Any) -> None:
    for seed, (train, options) in enumerate(
        [
            ("tiles.train", {"sparsity": False}),
            ("tiles.train", {"smooth": False}),
            ("monuseg.train", {}),
            ("tiles.train", {"equivariance": False}),
            ("tiles.train", {}),
        ]
    ):
        run = f"strict-s{seed}-aaaaaaaa"
        store_run(store, made, run, "monuseg.test", seed / 10, train=train, options=options)
    frame = SelfSupervised().build(load_scores([store]), load_facts())
    published = [0.0312, 0.1929, 0.3025, 0.4938, 0.5354]
    for seed, (row, figure) in enumerate(zip(PRINTED, published, strict=True)):
        line = cell(frame, row, "MoNuSeg test")
        assert line[["published", "ours", "images", "expected"]].tolist() == [figure, pytest.approx(seed / 10), 14, 14]
    assert cell(frame, "M_proposed", "MoNuSeg test", "AHD")[["published", "ours"]].tolist() == [7.7502, 8.0]
    text = SelfSupervised().markdown(frame)
    assert "| M\\_proposed" in text or "| M_proposed" in text
    assert "table III" in text


def test_published_rows_of_others_stand_beside_ours(store: Path, made: Any) -> None:
    store_run(store, made, "strict-s0-aaaaaaaa", "consep.test", 0.25, train="tiles.train")
    for seed, train in enumerate(("consep.train", "kumar.train")):
        run = made.run(store, f"paper-s{seed}-bbbbbbbb", train=train)
        made.evaluation(run, "consep.test", made.scores(images("consep", "test"), aji=[seed + 0.5] * 14))
    classical = made.run(store, "paper-s0-cccccccc", method="cellprofiler", train=None)
    scores = made.scores(images("tnbc", "all"), adc=[0.5] * 50)
    made.evaluation(classical, "tnbc.all", scores, variant="cellprofiler", title="Cell Profiler")
    frame = SelfSupervised().build(load_scores([store]), load_facts())
    assert cell(frame, "M_proposed", "CoNSeP")[["published", "ours", "expected"]].tolist() == [0.198, 0.25, 14]
    assert cell(frame, "U-Net", "CoNSeP")[["published", "ours"]].tolist() == [0.482, 0.5]  # trained on CoNSeP
    line = cell(frame, "Cell Profiler", "TNBC", "ADC")
    assert line[["published", "ours", "expected"]].tolist() == [0.4157, 0.5, 50]
    assert cell(frame, "Best Supervised", "MoNuSeg test")["published"] == 0.691
    assert set(frame["method"]) >= {"CNN2", "CNN3", "Fiji", "QuPath", "SegNet", "SegNet + WS", "HoVer-Net", *PRINTED}


def test_columns_are_those_printed() -> None:
    facts = load_facts()
    facts = facts[facts["table"] == "self_supervised"]
    blocks = {block.title: [metric.name for metric in block.metrics] for block in SelfSupervised.blocks}
    assert set(facts["dataset"]) == set(blocks)
    assert all(metrics == ["AJI", "AHD", "ADC"] for metrics in blocks.values())
    assert set(facts["metric"]) == {"AJI", "AHD", "ADC"}


@pytest.mark.parametrize(
    ("trained_on", "options", "row"),
    [
        ("tiles.train", "width=8", "M_proposed"),
        ("tiles.train", "smooth=false, sparsity=false", "M_-smooth, M_-sparse"),
        ("monuseg.train", "smooth=true", "M_-WSI"),
        ("monuseg.train", "equivariance=false", "M_-WSI, M_-equiv"),
        ("kumar.train", "", "M_-WSI (kumar.train)"),
    ],
)
def test_rows(trained_on: str, options: str, row: str) -> None:
    assert setting(trained_on, options) == row
