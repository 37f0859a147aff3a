"""Rows of the classification tables: what they are called, and what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from leaderboards.literature import load_facts
from leaderboards.papers.ablation_branches import AblationBranches
from leaderboards.papers.classification import Classification
from leaderboards.records import load_scores

TYPES = ["miscellaneous", "inflammatory", "epithelial", "spindle-shaped"]


def typed(made: Any, right: int) -> dict[str, Any]:
    """Two images with 10 nuclei of each type, of which `right` are found and typed rightly, the others missed."""
    counts: dict[str, int] = {
        "n_tp_d": 4 * right,
        "n_fp_d": 0,
        "n_fn_d": 40 - 4 * right,
        "n_correct": 4 * right,
        "n_wrong": 0,
    }
    for t in range(1, 5):
        counts |= {
            f"n_tp_c_{t}": right,
            f"n_fp_c_{t}": 0,
            f"n_fn_c_{t}": 0,
            f"n_fp_d_{t}": 0,
            f"n_fn_d_{t}": 10 - right,
        }
    scores = made.scores(["a", "b"])
    return scores | {"F_d": [0.5, 0.5]} | {name: [count] * 2 for name, count in counts.items()}


def write(store: Path, made: Any, run: str, method: str, title: str, right: int, **changes: Any) -> None:
    folder = made.run(store, run, train="consep.train", method=method, **changes)
    for where in ("consep.test", "crchisto.all"):
        made.evaluation(folder, where, typed(made, right), variant=method, title=title, types=TYPES)


def test_branches_are_rows_beside_the_published_figures(store: Path, made: Any) -> None:
    write(store, made, "paper-s0-aaaaaaaa", "hovernet", "HoVer-Net", 8)
    write(store, made, "paper-s0-bbbbbbbb", "hovernet", "HoVer-Net", 6, options={"type_branch": False})
    write(store, made, "paper-s0-cccccccc", "dist", "DIST", 1, options={"classify": True})
    frame = AblationBranches(made.expected).build(load_scores([store]), load_facts())
    assert set(frame["method"]) == {"NP & HoVer", "NP & HoVer & NC"}
    chosen = frame[frame["metric"] == "F_c_miscellaneous"].set_index(["method", "dataset"])
    assert chosen["published"].to_dict() == {
        ("NP & HoVer", "CoNSeP"): 0.333,
        ("NP & HoVer", "CRCHisto"): 0.132,
        ("NP & HoVer & NC", "CoNSeP"): 0.426,
        ("NP & HoVer & NC", "CRCHisto"): 0.178,
    }
    assert chosen.loc["NP & HoVer", "ours"].tolist() == pytest.approx([2 * 6 / (2 * 6 + 4)] * 2)
    assert chosen.loc["NP & HoVer & NC", "ours"].tolist() == pytest.approx([2 * 8 / (2 * 8 + 2)] * 2)
    text = AblationBranches(made.expected).markdown(frame)
    assert "| NP &amp; HoVer[^" in text


def test_learning_types_is_no_option_among_methods_that_do(store: Path, made: Any) -> None:
    write(store, made, "paper-s0-aaaaaaaa", "dist", "DIST", 5, options={"classify": True})
    write(store, made, "paper-s1-bbbbbbbb", "dist", "DIST", 7, options={"classify": True})
    write(
        store, made, "paper-s0-cccccccc", "dist", "DIST", 9, options={"classify": True}, overrides={"balance": "loss"}
    )
    write(store, made, "paper-s0-dddddddd", "hovernet", "HoVer-Net", 5, options={"classify": True})
    write(store, made, "paper-s1-eeeeeeee", "hovernet", "HoVer-Net", 5)
    untyped = made.run(store, "paper-s0-ffffffff", train="consep.train", method="dist")
    made.evaluation(untyped, "consep.test", made.scores(["a", "b"]), variant="dist", title="DIST", types=TYPES)
    frame = Classification(made.expected).build(load_scores([store]), load_facts())
    lines = frame[(frame["dataset"] == "CoNSeP") & (frame["metric"] == "F_d")].dropna(subset=["ours"])
    assert dict(zip(zip(lines["method"], lines["options"], strict=True), lines["seeds"], strict=True)) == {
        ("DIST", ""): 2,
        ("DIST", "balance=loss"): 1,
        ("HoVer-Net", ""): 2,
    }
    text = Classification(made.expected).markdown(frame)
    assert "| DIST[^" in text
    assert "| DIST (balance=loss)[^" in text
    assert "| HoVer-Net[^" in text
    assert "classify" not in text


def test_other_postprocessings_are_no_rows(store: Path, made: Any) -> None:
    run = made.run(store, "paper-s0-aaaaaaaa", train="consep.train", method="hovernet")
    for variant in ("hovernet", "hovernet-sobel-threshold"):
        made.evaluation(run, "consep.test", typed(made, 5), variant=variant, title="HoVer-Net", types=TYPES)
    frame = Classification(made.expected).build(load_scores([store]), load_facts())
    assert set(frame.dropna(subset=["ours"])["variant"]) == {"hovernet"}
