from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from leaderboards.build import build_tables
from leaderboards.options import describe, option, split_options
from leaderboards.records import COLUMNS, load_scores, of_one_kind, without_stand_ins
from postproc.errors import DataError


def test_one_line_per_image_with_the_run_beside_it(store: Path, made: Any) -> None:
    run = made.run(store, "paper-s3-0a0b0c0d", options={"width": 16, "loss": "dice", "deep": [1, 2]}, note="short")
    made.evaluation(run, "kumar.test", made.scores(["01", "02"], dice=[0.7, float("nan")]))
    made.evaluation(run, "consep.test", made.scores(["1"]), variant="pp", title="U-Net + PP", types=["a", "b"])
    scores = load_scores([store])
    assert list(scores.columns[: len(COLUMNS)]) == list(COLUMNS)
    assert list(scores["image"]) == ["1", "01", "02"]
    line = scores.iloc[1]
    assert (line["method"], line["protocol"], line["seed"]) == ("unet", "paper", 3)
    assert (line["trained_on"], line["dataset"], line["split"]) == ("kumar.train", "kumar", "test")
    assert line["options"] == "deep=[1, 2], loss=dice, width=16"
    assert (line["steps"], line["minutes"], line["weights"], line["note"]) == (200, 1.5, "none", "short")
    assert line["dice"] == 0.7
    assert pd.isna(scores["dice"].iloc[2])
    assert (scores["title"].iloc[0], scores["types"].iloc[0]) == (
        "U-Net + PP (deep=[1, 2], loss=dice, width=16)",
        "a|b",
    )
    assert scores["base"].iloc[0] == "U-Net + PP"  # options that nobody has declared might be anything


def test_columns_that_one_file_lacks_are_nan(store: Path, made: Any) -> None:
    run = made.run(store, "paper-s0-0a0b0c0d")
    made.evaluation(run, "kumar.test", {"image": ["a"], "dice": [0.5]})
    made.evaluation(run, "tnbc.all", {"image": ["a"], "pq": [0.25]})
    scores = load_scores([store])
    assert scores["dice"].isna().tolist() == [False, True]
    assert scores["pq"].isna().tolist() == [True, False]


def test_empty_stores_give_an_empty_frame(store: Path) -> None:
    assert list(load_scores([]).columns) == list(COLUMNS)
    assert len(load_scores([store])) == 0


def test_unfinished_runs_are_left_out(store: Path, made: Any) -> None:
    made.run(store, "paper-s0-aaaaaaaa")
    unscored = made.evaluation(made.run(store, "paper-s1-bbbbbbbb"), "kumar.test", made.scores(["a"]))
    (unscored / "scores.csv").unlink()
    undescribed = made.evaluation(made.run(store, "paper-s2-cccccccc"), "kumar.test", made.scores(["a"]))
    (undescribed / "evaluation.json").unlink()
    unrecorded = made.run(store, "paper-s3-dddddddd")
    made.evaluation(unrecorded, "kumar.test", made.scores(["a"]))
    (unrecorded / "record.json").unlink()
    assert len(load_scores([store])) == 0
    made.evaluation(made.run(store, "paper-s4-eeeeeeee"), "kumar.test", made.scores(["a"]))
    assert load_scores([store])["seed"].tolist() == [4]


def test_a_run_in_two_roots_counts_once_and_the_first_root_wins(store: Path, made: Any, tmp_path: Path) -> None:
    run = made.run(store, "paper-s0-aaaaaaaa")
    made.evaluation(run, "kumar.test", made.scores(["a"], dice=[0.25]))
    other = tmp_path / "other"
    shutil.copytree(store, other)
    copy = other / run.relative_to(store)
    path = copy / "evaluations/kumar.test/plain/scores.csv"
    path.write_text(path.read_text().replace("0.25", "0.75"))
    made.evaluation(copy, "tnbc.all", made.scores(["a"]))
    scores = load_scores([store, other])
    assert scores[["dataset", "dice"]].to_numpy().tolist() == [["kumar", 0.25], ["tnbc", 0.5]]
    assert load_scores([other, store])["dice"].tolist() == [0.75, 0.5]


def test_nothing_trained_has_no_training_set(store: Path, made: Any) -> None:
    run = made.run(store, "paper-s0-aaaaaaaa", train=None, training=None, source="predictions", method="foreign")
    made.evaluation(run, "kumar.test", made.scores(["a"]), title="CellProfiler")
    line = load_scores([store]).iloc[0]
    assert (line["trained_on"], line["source"], line["title"]) == ("", "predictions", "Cell Profiler")
    assert pd.isna(line["steps"])


def test_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a folder of stored results"):
        load_scores([tmp_path / "nowhere"])


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("record.json", {"format": 2}, "format is 2"),
        ("record.json", {"seed": "zero"}, "seed is 'zero', expected a whole number"),
        ("record.json", {"seed": True}, "seed is True"),
        ("record.json", {"run_id": None}, "run_id is None"),
        ("record.json", {"train": "kumar"}, "train is 'kumar', expected a mapping"),
        ("record.json", {"train": {"dataset": "kumar"}}, "split is missing"),
        ("record.json", {"training": {"steps": "many"}}, "steps is 'many'"),
        ("evaluation.json", {"title": 5}, "title is 5"),
        ("evaluation.json", {"types": "abc"}, "types is 'abc'"),
        ("evaluation.json", {"images": 3}, r"scores\.csv must hold 3 different images, not 2"),
    ],
)
def test_wrong_values_name_file_and_key(
    store: Path, made: Any, file: str, change: dict[str, Any], message: str
) -> None:
    run = made.run(store, "paper-s0-aaaaaaaa")
    folder = made.evaluation(run, "kumar.test", made.scores(["a", "b"]))
    path = (run if file == "record.json" else folder) / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=message) as caught:
        load_scores([store])
    assert str(path.parent) in str(caught.value)


@pytest.mark.parametrize("content", ["{", "[]", ""])
@pytest.mark.parametrize("file", ["record.json", "evaluation.json"])
def test_broken_json_is_named(store: Path, made: Any, file: str, content: str) -> None:
    run = made.run(store, "paper-s0-aaaaaaaa")
    folder = made.evaluation(run, "kumar.test", made.scores(["a"]))
    path = (run if file == "record.json" else folder) / file
    path.write_text(content)
    with pytest.raises(DataError) as caught:
        load_scores([store])
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a readable CSV file"),
        ("picture,dice\na,0.5\n", "no column 'image'"),
        ("image,dice\na,0.5\na,0.5\n", "different images"),
        ("image,dice\na,0.5\n,0.5\n", "different images"),
        ("image,dice\na,0.5\n", "not 1 lines"),
        ("image,dice\na,0.5\nb,good\n", "'dice' holds a value that is not a number"),
        ("image,seed\na,1\nb,2\n", "'seed' is a reserved name"),
    ],
)
def test_broken_scores_are_named(store: Path, made: Any, content: str, message: str) -> None:
    folder = made.evaluation(made.run(store, "paper-s0-aaaaaaaa"), "kumar.test", made.scores(["a", "b"]))
    path = folder / "scores.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        load_scores([store])
    assert str(path) in str(caught.value)


def test_options_are_described_in_one_order() -> None:
    assert describe({"b": None, "a": True}) == describe({"a": True, "b": None}) == "a=true, b=null"


def test_further_training_sets_stand_behind_the_first_in_one_order(store: Path, made: Any) -> None:
    for seed, also in enumerate((["tnbc.all", "cpm15.all"], ["cpm15.all", "tnbc.all"], [], None)):
        train = {"dataset": "kumar", "split": "train", "also": also}
        made.evaluation(made.run(store, f"paper-s{seed}-aaaaaaaa"), "kumar.test", made.scores(["a"]))
        path = next(store.glob(f"*/*/paper-s{seed}-*/record.json"))
        path.write_text(json.dumps(json.loads(path.read_text()) | {"train": train}))
    trained = load_scores([store]).set_index("seed")["trained_on"].to_dict()
    assert trained == {0: "kumar.train+cpm15.all+tnbc.all", 1: trained[0], 2: "kumar.train", 3: "kumar.train"}


def test_further_training_sets_of_another_form_are_an_error(store: Path, made: Any) -> None:
    path = made.run(store, "paper-s0-aaaaaaaa") / "record.json"
    train = {"dataset": "kumar", "split": "train", "also": "tnbc.all"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"train": train}))
    with pytest.raises(DataError, match=r"record\.json: train\.also is 'tnbc\.all', expected a list"):
        load_scores([store])


def test_options_can_be_read_again() -> None:
    text = describe({"width": 16, "loss": "dice", "deep": [1, 2], "weights": "a=b, c"})
    assert split_options(text) == {"deep": "[1, 2]", "loss": "dice", "weights": "a=b, c", "width": "16"}
    assert option(text, "loss", "none") == "dice"
    assert option(text, "los", "none") == option("", "loss", "none") == "none"


def test_scores_on_stand_ins_are_another_row_whatever_was_trained_on(store: Path, made: Any) -> None:
    run = made.run(store, "paper-s0-0a0b0c0d", options={"features": 8})
    folder = made.evaluation(run, "kumar.test", made.scores(["a"]), variant="unet")
    about = json.loads((folder / "evaluation.json").read_text())
    (folder / "evaluation.json").write_text(json.dumps(about | {"synthetic": True}))
    made.evaluation(run, "tnbc.all", made.scores(["b"]), variant="unet")
    scores = load_scores([store]).set_index("dataset")
    assert scores["title"].to_dict() == {"kumar": "U-Net (synthetic stand-ins)", "tnbc": "U-Net"}
    assert scores.loc["kumar", "options"] == "features=8, images=synthetic"


def test_stand_ins_do_not_stand_beside_published_figures(store: Path, made: Any, tmp_path: Path) -> None:
    """Their images have the names of the real ones, so they would be averaged, ranked and paired with them."""
    real = made.run(store, "paper-s0-aaaaaaaa")
    made.evaluation(real, "kumar.test", made.scores(["a"], dice=[0.5]), variant="unet")
    stand_in = made.run(store, "paper-s1-bbbbbbbb", data={"synthetic": True})
    made.evaluation(stand_in, "kumar.test", made.scores(["a"], dice=[0.99]), variant="unet")
    refused: list[str] = []
    kept = without_stand_ins(load_scores([store]), refused)
    assert kept["run_id"].unique().tolist() == ["unet/kumar.train/paper-s0-aaaaaaaa"]
    (line,) = refused
    assert of_one_kind(load_scores([store])).equals(kept)
    assert len(of_one_kind(load_scores([stand_in]))) == 1  # plots of stand-ins alone are drawn
    assert line.startswith("unet/kumar.train/paper-s1-bbbbbbbb on kumar.test: synthetic stand-ins")
    refused.clear()
    build_tables(["segmentation"], [store], tmp_path / "tables", None, refused)
    assert "0.99" not in (tmp_path / "tables" / "segmentation.md").read_text()
    assert "0.500" in (tmp_path / "tables" / "segmentation.md").read_text()
    assert refused == [line]
