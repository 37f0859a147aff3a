from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmark.registry import TABLES, table_class
from leaderboards.base import OUTPUT_COLUMNS, Block, Comparison, Metric
from leaderboards.build import to_csv
from leaderboards.literature import load_facts, load_published
from leaderboards.papers.classification import Classification
from leaderboards.papers.generalisation import Generalisation
from leaderboards.papers.segmentation import Segmentation
from leaderboards.records import load_scores
from postproc.errors import DataError


class Small(Comparison):
    """Two metrics on one dataset."""

    name = "small"
    title = "Small | <table>"
    caption = "Made up."
    published_table = "small"
    blocks = (Block("Kumar", (("kumar", "test"),), ("kumar.train",), (Metric("DICE", "dice"), Metric("PQ", "pq"))),)


def published(*lines: tuple[str, str, str, float], table: str = "small") -> pd.DataFrame:
    columns = ["table", "method", "dataset", "metric", "value", "source"]
    return pd.DataFrame([(table, *line, "X 2019") for line in lines], columns=columns)


def cell(frame: pd.DataFrame, method: str, dataset: str, metric: str, protocol: str = "paper") -> pd.Series:
    chosen = frame[
        (frame["method"] == method)
        & (frame["dataset"] == dataset)
        & (frame["metric"] == metric)
        & (frame["protocol"] == protocol)
    ]
    assert len(chosen) == 1
    return chosen.iloc[0]


@pytest.fixture
def scores(store: Path, made: Any) -> pd.DataFrame:
    """Two seeds, two protocols, two variants, a hole and a partial set."""
    images = ["a", "b", "c"]
    for seed, dice in ((0, [0.6, 0.7, 0.8]), (1, [0.7, 0.8, 0.9])):
        run = made.run(store, f"paper-s{seed}-aaaaaaa{seed}", note="half | <b>size</b>" if seed else "")
        made.evaluation(run, "kumar.test", made.scores(images, dice=dice, pq=[0.25, "", 0.5]))
        pp = made.scores(images, pq=[0.5, 0.5, 0.75])
        made.evaluation(run, "kumar.test", pp, variant="unet-pp", title="U-Net + PP")
    strict = made.run(store, "strict-s0-bbbbbbbb")
    made.evaluation(strict, "kumar.test", made.scores(["a", "c"], dice=[0.5, 1.0]))
    return load_scores([store])


GOLDEN_CSV = """\
method,registry,variant,protocol,source,weights,options,dataset,metric,published,ours,deviation,seeds,images,expected,\
undefined,trained_on,steps,minutes,hardware,precision,note,runs,reference
HoVer-Net,,,,,,,Kumar,DICE,0.826,,,,,,,,,,,,,,X 2019
HoVer-Net,,,,,,,Kumar,PQ,0.597,,,,,,,,,,,,,,X 2019
U-Net,unet,plain,paper,run,none,,Kumar,DICE,0.758,0.75,0.070711,2,3,3,0,kumar.train,200.0,1.5,1 CPU core,32,\
half | <b>size</b>,unet/kumar.train/paper-s0-aaaaaaa0; unet/kumar.train/paper-s1-aaaaaaa1,X 2019
U-Net,unet,plain,paper,run,none,,Kumar,PQ,,0.375,0.0,2,3,3,1,kumar.train,200.0,1.5,1 CPU core,32,\
half | <b>size</b>,unet/kumar.train/paper-s0-aaaaaaa0; unet/kumar.train/paper-s1-aaaaaaa1,
U-Net,unet,plain,strict,run,none,,Kumar,DICE,0.758,0.75,,1,2,3,0,kumar.train,200.0,1.5,1 CPU core,32,,\
unet/kumar.train/strict-s0-bbbbbbbb,X 2019
U-Net,unet,plain,strict,run,none,,Kumar,PQ,,0.5,,1,2,3,0,kumar.train,200.0,1.5,1 CPU core,32,,\
unet/kumar.train/strict-s0-bbbbbbbb,
U-Net + PP,unet,unet-pp,paper,run,none,,Kumar,DICE,,0.5,0.0,2,3,3,0,kumar.train,200.0,1.5,1 CPU core,32,\
half | <b>size</b>,unet/kumar.train/paper-s0-aaaaaaa0; unet/kumar.train/paper-s1-aaaaaaa1,
U-Net + PP,unet,unet-pp,paper,run,none,,Kumar,PQ,,0.583333,0.0,2,3,3,0,kumar.train,200.0,1.5,1 CPU core,32,\
half | <b>size</b>,unet/kumar.train/paper-s0-aaaaaaa0; unet/kumar.train/paper-s1-aaaaaaa1,
"""

GOLDEN_MARKDOWN = r"""## Protocol paper

### Kumar

| Method | DICE published | DICE ours | PQ published | PQ ours | images | runs |
| :-- | --: | --: | --: | --: | --: | --: |
| HoVer-Net | **0.826** |  | 0.597 |  |  |  |
| U-Net[^1] | 0.758 | **0.750** ± 0.071 |  | 0.375 ± 0.000 | 3 (1 undefined) | 2 |
| U-Net + PP[^2] |  | 0.500 ± 0.000 |  | **0.583** ± 0.000 | 3 | 2 |

## Protocol strict

### Kumar

| Method | DICE published | DICE ours | PQ published | PQ ours | images | runs |
| :-- | --: | --: | --: | --: | --: | --: |
| HoVer-Net | **0.826** |  | 0.597 |  |  |  |
| U-Net[^3] | 0.758 | 0.750 |  | 0.500 | 2 of 3 | 1 |

[^1]: U-Net, protocol paper: trained on kumar.train, 200 steps in 1.5 min, 1 CPU core, 32, pretrained \
weights: none; half \| &lt;b&gt;size&lt;/b&gt;.
[^2]: U-Net + PP, protocol paper: trained on kumar.train, 200 steps in 1.5 min, 1 CPU core, 32, \
pretrained weights: none; half \| &lt;b&gt;size&lt;/b&gt;.
[^3]: U-Net, protocol strict: trained on kumar.train, 200 steps in 1.5 min, 1 CPU core, 32, pretrained \
weights: none.
""".replace("\\\n", "")


def test_golden(scores: pd.DataFrame, made: Any) -> None:
    facts = published(
        ("HoVer-Net", "Kumar", "DICE", 0.826),
        ("HoVer-Net", "Kumar", "PQ", 0.597),
        ("U-Net", "Kumar", "DICE", 0.758),
    )
    table = Small(made.expected)
    frame = table.build(scores, facts)
    assert list(frame.columns) == list(OUTPUT_COLUMNS)
    assert to_csv(frame) == GOLDEN_CSV
    text = table.markdown(frame)
    assert text.startswith("# Small \\| &lt;table&gt;\n\nMade up.\n\n")
    assert text.endswith("\n\n" + GOLDEN_MARKDOWN)


def test_build_is_pure(scores: pd.DataFrame, made: Any) -> None:
    facts = published(("U-Net", "Kumar", "DICE", 0.758))
    before = scores.copy(), facts.copy()
    first = Small(made.expected).build(scores, facts)
    shuffled = scores.sample(frac=1, random_state=1)
    second = Small(made.expected).build(shuffled, facts)
    pd.testing.assert_frame_equal(scores, before[0])
    pd.testing.assert_frame_equal(facts, before[1])
    assert to_csv(first) == to_csv(second)


COMPARISONS = [name for name in sorted(TABLES) if issubclass(table_class(name), Comparison)]


@pytest.mark.parametrize("name", COMPARISONS)
def test_without_runs_the_published_figures_stand_alone(name: str, store: Path) -> None:
    facts = load_facts()
    table = table_class(name)()
    frame = table.build(load_scores([store]), facts)
    assert frame[["ours", "deviation", "seeds", "images", "expected"]].isna().all(axis=None)
    found = {(d, m, v) for d, m, v in frame.dropna(subset=["published"])[["dataset", "metric", "published"]].values}
    wanted = facts[facts["table"] == table.published_table]
    assert found >= {(d, m, v) for d, m, v in wanted[["dataset", "metric", "value"]].values}
    text = table.markdown(frame)
    assert "othing run yet" in text
    rows = frame.dropna(subset=["published"]).groupby(["dataset", "metric"]).size()
    assert ("**" in text) == bool((rows > 1).any())  # the best of one is no best
    assert ("Nothing has been run here yet" in text) or all(block.title in text for block in table.blocks)


def test_each_method_is_trained_on_the_set_of_its_column(store: Path, made: Any) -> None:
    foreign = made.run(store, "paper-s0-aaaaaaaa", train="consep.train")
    made.evaluation(foreign, "kumar.test", made.scores(["a", "b", "c"]))
    made.evaluation(foreign, "consep.test", made.scores(["a", "b"], pq=[0.25, 0.5]))
    own = made.run(store, "paper-s0-bbbbbbbb")
    made.evaluation(own, "kumar.test", made.scores(["a", "b", "c"], pq=[0.75, 0.5, 1.0]))
    classical = made.run(store, "paper-s0-cccccccc", train=None, training=None, method="classical")
    made.evaluation(classical, "kumar.test", made.scores(["a", "b", "c"]), title="Cell Profiler")
    made.evaluation(classical, "cpm17.test", made.scores(["a", "b"]), title="Cell Profiler")
    table = Segmentation(made.expected)
    frame = table.build(load_scores([store]), load_published())
    assert cell(frame, "U-Net", "Kumar", "PQ")["ours"] == 0.75
    assert cell(frame, "U-Net", "CoNSeP", "PQ")["ours"] == 0.375
    assert pd.isna(cell(frame, "U-Net", "CPM-17", "PQ")["ours"])
    assert cell(frame, "U-Net", "CPM-17", "PQ")["published"] == 0.578
    assert cell(frame, "Cell Profiler", "Kumar", "PQ")[["published", "ours"]].tolist() == [0.3, 0.5]
    assert cell(frame, "Cell Profiler", "CPM-17", "PQ")["ours"] == 0.5
    assert "nothing trained here" in table.markdown(frame)


def test_combined_sets_pool_images_of_one_name(store: Path, made: Any) -> None:
    run = made.run(store, "paper-s0-aaaaaaaa")
    made.evaluation(run, "cpm15.all", made.scores(["image_00", "image_01"], aji=[0.25, 0.75]))
    made.evaluation(run, "cpm17.all", made.scores(["image_00", "image_01", "image_02"], aji=[1.0, 1.0, 0.5]))
    frame = Generalisation(made.expected).build(load_scores([store]), load_published())
    line = cell(frame, "U-Net", "Combined CPM", "AJI")
    assert line["ours"] == pytest.approx(0.7)  # of five images, not the mean 0.667 of two sets
    assert line[["images", "expected"]].tolist() == [5, 5]
    assert line["published"] == 0.541
    assert pd.isna(cell(frame, "U-Net", "TNBC", "AJI")["ours"])


def test_half_a_combined_set_shows_as_partial(store: Path, made: Any) -> None:
    made.evaluation(made.run(store, "paper-s0-aaaaaaaa"), "cpm17.all", made.scores(["a", "b", "c"]))
    table = Generalisation(made.expected)
    frame = table.build(load_scores([store]), load_published())
    assert cell(frame, "U-Net", "Combined CPM", "AJI")[["images", "expected"]].tolist() == [3, 5]
    assert "| 3 of 5 | 1 |" in table.markdown(frame)


def test_pooled_pq_counts_the_whole_set(store: Path, made: Any) -> None:
    run = made.run(store, "paper-s0-aaaaaaaa")
    many = made.scores(["a", "b"], pq=[0.0, 1.0])
    many |= {"n_tp": [0, 8], "n_fp": [1, 0], "n_fn": [1, 0], "n_iou_sum": [0.0, 8.0]}
    made.evaluation(run, "tnbc.all", many)
    frame = Generalisation(made.expected).build(load_scores([store]), load_published())
    assert cell(frame, "U-Net", "TNBC", "PQ")["ours"] == 0.5
    assert cell(frame, "U-Net", "TNBC", "PQ pooled")["ours"] == pytest.approx(8 / 9)
    assert pd.isna(cell(frame, "U-Net", "TNBC", "PQ pooled")["published"])


def test_complete_runs_are_not_averaged_with_partial_ones(store: Path, made: Any) -> None:
    made.evaluation(made.run(store, "paper-s0-aaaaaaaa"), "kumar.test", made.scores(["a", "b", "c"], pq=[0.5] * 3))
    made.evaluation(made.run(store, "paper-s1-bbbbbbbb"), "kumar.test", made.scores(["a"], pq=[1.0]))
    line = cell(Small(made.expected).build(load_scores([store]), published()), "U-Net", "Kumar", "PQ")
    assert line[["ours", "seeds", "images"]].tolist() == [0.5, 1, 3]
    assert pd.isna(line["deviation"])


def test_an_aliased_title_joins_its_method(store: Path, made: Any) -> None:
    run = made.run(store, "paper-s0-aaaaaaaa", method="foreign", source="predictions", train=None)
    made.evaluation(run, "kumar.test", made.scores(["a", "b", "c"]), title="Mask R-CNN")
    table = Segmentation(made.expected)
    frame = table.build(load_scores([store]), load_published())
    assert not {"Mask R-CNN", "Mask-RCNN"} <= set(frame["method"])
    rows = frame[frame["method"].isin(["Mask R-CNN", "Mask-RCNN"])]
    assert rows.loc[(rows["dataset"] == "Kumar") & (rows["metric"] == "PQ"), "published"].tolist() == [0.509]
    assert "(foreign predictions)" in table.markdown(frame)


def test_methods_without_a_published_row_come_last(store: Path, made: Any) -> None:
    run = made.run(store, "paper-s0-aaaaaaaa", method="new")
    made.evaluation(run, "kumar.test", made.scores(["a", "b", "c"]), title="A|new <i>method_1</i>*")
    table = Segmentation(made.expected)
    frame = table.build(load_scores([store]), load_published())
    assert frame["method"].iloc[-1] == "A|new <i>method_1</i>*"
    assert r"| A\|new &lt;i&gt;method\_1&lt;/i&gt;\*[^1] |" in table.markdown(frame)


@pytest.mark.parametrize(
    ("change", "label"),
    [
        ({"options": {"width": 16}}, "width=16"),
        ({"training": {"steps": 200, "weights": "imagenet"}}, ""),
        ({"training": {"steps": 9, "weights": "none"}, "seed": 0}, "steps=9"),
        ({"seed": 0}, "steps=200, run_id=unet/kumar.train/paper-s1-bbbbbbbb"),
    ],
)
def test_runs_that_are_no_repetitions_stay_apart(store: Path, made: Any, change: dict[str, Any], label: str) -> None:
    made.evaluation(made.run(store, "paper-s0-aaaaaaaa"), "kumar.test", made.scores(["a", "b", "c"]))
    made.evaluation(made.run(store, "paper-s1-bbbbbbbb", **change), "kumar.test", made.scores(["a", "b", "c"]))
    frame = Small(made.expected).build(load_scores([store]), published())
    pq = frame[frame["metric"] == "PQ"]
    assert pq["seeds"].tolist() == [1, 1]
    assert label in set(pq["options"])


def test_one_run_on_two_datasets_is_one_row(store: Path, made: Any) -> None:
    for name, where in (("paper-s0-aaaaaaaa", "kumar.test"), ("paper-s0-bbbbbbbb", "consep.test")):
        run = made.run(store, name, train=None, source="predictions")
        made.evaluation(run, where, made.scores(["a", "b"]))
    frame = Segmentation(made.expected).build(load_scores([store]), load_published())
    assert cell(frame, "U-Net", "Kumar", "PQ")["ours"] == cell(frame, "U-Net", "CoNSeP", "PQ")["ours"] == 0.5


TYPES = ["miscellaneous", "inflammatory", "epithelial", "spindle"]


def typed_scores(made: Any, images: list[str], right: dict[int, list[int]]) -> dict[str, Any]:
    """Per-image scores and counts: of 4 nuclei of each type, right[type] are found and typed rightly."""
    none = [0] * len(images)
    found = np.sum(list(right.values()), axis=0)
    scores = made.scores(images) | {"F_d": none, "n_tp_d": found, "n_fp_d": none, "n_fn_d": none}
    scores |= {"n_correct": found, "n_wrong": none}
    for t, count in right.items():
        scores |= {f"F_c_{t}": [float("nan")] * len(images), f"n_tp_c_{t}": count, f"n_fp_c_{t}": none}
        scores |= {f"n_fn_c_{t}": none, f"n_fp_d_{t}": none, f"n_fn_d_{t}": [4 - n for n in count]}
    return scores


def test_names_of_types_decide_not_their_numbers(store: Path, made: Any) -> None:
    run = made.run(store, "paper-s0-aaaaaaaa", train="consep.train", method="hovernet")
    scores = typed_scores(made, ["a", "b"], {1: [0, 0], 2: [1, 3], 3: [4, 4], 4: [0, 1]})
    pooled = {1: 0.0, 2: 8 / 12, 3: 1.0, 4: 2 / 9}  # 2 tp / (2 tp + missed), counts of both images together
    about = {"title": "HoVer-Net", "variant": "hovernet"}
    made.evaluation(run, "consep.test", scores, types=TYPES, **about)
    made.evaluation(run, "crchisto.all", scores, types=["Epithelial", "Inflammatory", "Fibroblast", "Others"], **about)
    table = Classification(made.expected)
    frame = table.build(load_scores([store]), load_published())
    for dataset, numbers in (("CoNSeP", (3, 2, 4, 1)), ("CRCHisto", (1, 2, 3, 4))):
        for name, number in zip(("epithelial", "inflammatory", "spindle", "miscellaneous"), numbers, strict=True):
            line = cell(frame, "HoVer-Net", dataset, f"F_c_{name}")
            assert line["ours"] == pytest.approx(pooled[number])
            assert line["undefined"] == 0
        assert cell(frame, "HoVer-Net", dataset, "F_d")["ours"] == 1.0
    assert cell(frame, "HoVer-Net", "CoNSeP", "F_c_spindle")["published"] == 0.566
    assert cell(frame, "HoVer-Net", "CoNSeP", "PQ")[["published", "ours"]].tolist() == [0.516, 0.5]
    assert "PQ" not in set(frame.loc[frame["dataset"] == "CRCHisto", "metric"])
    assert r"F\_c^e" not in table.markdown(frame)
    assert r"F\_c\^e ours" in table.markdown(frame)


def test_unknown_types_are_an_error(store: Path, made: Any) -> None:
    run = made.run(store, "paper-s0-aaaaaaaa", train="consep.train")
    scores = typed_scores(made, ["a"], {t: [1] for t in range(1, 5)})
    made.evaluation(run, "consep.test", scores, types=["lymphocyte", *TYPES[1:]])
    with pytest.raises(DataError, match=r"paper-s0-aaaaaaaa on consep: its types are .*lymphocyte"):
        Classification(made.expected).build(load_scores([store]), load_published())


def test_counts_of_other_runs_do_not_leak_into_a_run(store: Path, made: Any) -> None:
    rich = made.run(store, "paper-s0-aaaaaaaa")
    made.evaluation(rich, "kumar.test", typed_scores(made, ["a", "b", "c"], {1: [1, 1, 1]}), types=["any"])
    poor = made.run(store, "paper-s0-bbbbbbbb", train="consep.train")
    made.evaluation(poor, "consep.test", {"image": ["a", "b"], "dice": [0.5, 0.75]})
    frame = Segmentation(made.expected).build(load_scores([store]), load_published())
    assert cell(frame, "U-Net (with types)", "Kumar", "PQ pooled")["ours"] == pytest.approx(0.5)
    assert pd.isna(cell(frame, "U-Net (with types)", "Kumar", "PQ")["published"])
    assert cell(frame, "U-Net", "CoNSeP", "DICE")["ours"] == 0.625
    for metric in ("AJI", "PQ", "PQ pooled"):
        assert pd.isna(cell(frame, "U-Net", "CoNSeP", metric)["ours"])


def test_methods_without_types_are_not_classified(store: Path, made: Any) -> None:
    run = made.run(store, "paper-s0-aaaaaaaa", train="consep.train")
    made.evaluation(run, "consep.test", made.scores(["a", "b"]), types=TYPES)
    frame = Classification(made.expected).build(load_scores([store]), load_published())
    assert frame["ours"].isna().all()
    assert "U-Net" not in set(frame["method"])


class TrainingSets(Comparison):
    """One method under several training sets, as in table IV of the DIST paper."""

    name = "training-sets"
    title = "Training sets"
    caption = "Made up."
    published_table = "small"
    blocks = (Block("Kumar", (("kumar", "test"),), ("kumar.train", "tnbc.all"), (Metric("DICE", "dice"),)),)

    def label(self, scores: pd.DataFrame) -> pd.Series:
        return scores["title"] + " trained on " + scores["trained_on"]


def test_a_table_may_name_its_rows_by_training_set(store: Path, made: Any) -> None:
    for train in ("kumar.train", "tnbc.all", "consep.train"):
        run = made.run(store, "paper-s0-aaaaaaaa", train=train)
        made.evaluation(run, "kumar.test", made.scores(["a", "b", "c"]))
    frame = TrainingSets(made.expected).build(load_scores([store]), published())
    assert frame["method"].tolist() == ["U-Net trained on kumar.train", "U-Net trained on tnbc.all"]


class Folds(Comparison):
    """Leave one group out: a run per fold, the folds of a seed belong together."""

    name = "folds"
    title = "Leave one out"
    caption = "Made up."
    published_table = "small"
    repetition = "seed"
    blocks = (Block("TNBC", (("tnbc", "all"),), (), (Metric("DICE", "dice"),)),)

    def select(self, scores: pd.DataFrame, block: Block) -> pd.DataFrame:
        tested = scores["split"].str.removeprefix("group:")
        left_out = scores["trained_on"].str.removeprefix("tnbc.except-group:")
        return scores[(scores["dataset"] == "tnbc") & (tested == left_out)]


def test_a_table_may_pool_folds_by_seed(store: Path, made: Any) -> None:
    for seed in (0, 1):
        for fold, dice in (("01", [0.5, 0.7]), ("02", [0.9])):
            run = made.run(store, f"paper-s{seed}-aaaaaaa{fold[-1]}", train=f"tnbc.except-group:{fold}")
            images = made.scores([f"{fold}_{i}" for i in range(len(dice))], dice=np.array(dice) + seed / 10)
            made.evaluation(run, f"tnbc.group:{fold}", images)
            made.evaluation(run, f"tnbc.group:0{3 - int(fold)}", made.scores(["x"], dice=[0.0]))
    line = cell(Folds(made.expected).build(load_scores([store]), published()), "U-Net", "TNBC", "DICE")
    assert line["ours"] == pytest.approx(0.75)  # mean of three images, 0.7 and 0.8 by seed
    assert line[["seeds", "images"]].tolist() == [2, 3]
    assert line["deviation"] == pytest.approx(0.1 / 2**0.5)
