"""The CoNIC table: the challenge's scores of runs trained on the baseline's training patches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from leaderboards.literature import load_published
from leaderboards.papers.conic import Conic
from leaderboards.records import load_scores


def test_figures_and_published_ones(store: Path, made: Any) -> None:
    counts = {f"n_{name}_type_1": [2, 1] for name in ("tp", "fp", "fn")} | {"n_iou_sum_type_1": [1.8, 0.6]}
    inside = {"n_true_inside_1": [1, 3], "n_pred_inside_1": [1, 2]}
    scores = made.scores(["a", "b"], pq=[0.4, ""], n_true=[3, 0], **counts, **inside, **{
        f"n_{side}_inside_{kind}": [0, 1] for side in ("true", "pred") for kind in range(2, 7)
    })  # fmt: skip
    for name, train in (("strict-s0-a", "conic.train"), ("strict-s0-b", "conic.pool")):
        made.evaluation(made.run(store, name, train=train), "conic.valid", scores)
    table = Conic()
    frame = table.build(load_scores([store]), load_published())
    ours = frame.dropna(subset=["ours"]).set_index(["dataset", "metric"])["ours"]
    assert ours["CoNIC validation", "PQ"] == pytest.approx(0.2)
    assert ours["CoNIC validation", "mPQ+"] == pytest.approx(2.4 / 6 / 6)
    assert ours["CoNIC validation", "R2"] == pytest.approx((0.5 + 5) / 6)
    assert ours["CoNIC validation, R2 of each type", "neutrophil"] == pytest.approx(0.5)
    assert set(frame["expected"].dropna()) == {1018}
    assert frame["seeds"].max() == 1, "a run trained on other patches is another protocol"
    baseline = frame[(frame["method"] == "HoVer-Net (CoNIC baseline)") & frame["published"].notna()]
    assert dict(zip(baseline["metric"], baseline["published"], strict=True)) == {
        "PQ": 0.6149,
        "mPQ+": 0.4998,
        "R2": 0.8585,
    }
    assert "0.8585" in table.markdown(frame) or "0.859" in table.markdown(frame)
