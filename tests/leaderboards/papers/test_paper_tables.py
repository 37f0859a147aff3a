from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from leaderboards.images import image_facts
from leaderboards.literature import load_facts
from leaderboards.papers.distance_targets import DistanceTargets
from leaderboards.papers.kumar_images import KumarImages, parts
from leaderboards.papers.kumar_test import KumarTest
from leaderboards.papers.leave_one_patient_out import LeaveOnePatientOut, patients
from leaderboards.papers.loss_terms import LossTerms
from leaderboards.papers.postprocessing import ROWS, Postprocessing
from leaderboards.papers.training_sets import BREAST_ONLY, TrainingSets
from leaderboards.records import load_scores

FACTS = image_facts("kumar")
TESTS = FACTS.loc[FACTS["split"].str.startswith("test_"), "image_id"].tolist()
BREAST = ["TCGA-E2-A14V-01Z-00-DX1", "TCGA-E2-A1B5-01Z-00-DX1"]


def cell(frame: pd.DataFrame, method: str, dataset: str, metric: str) -> pd.Series:
    chosen = frame[(frame["method"] == method) & (frame["dataset"] == dataset) & (frame["metric"] == metric)]
    assert len(chosen) == 1, chosen
    return chosen.iloc[0]


def unet_of_dist(store: Path, made: Any, **scores: list[float]) -> None:
    run = made.run(store, "paper-s0-aaaaaaaa", method="unet-dist")
    made.evaluation(run, "kumar.test", made.scores(TESTS, **scores), variant="unet-dist")


def test_f1_of_the_dist_paper_is_dice(store: Path, made: Any) -> None:
    unet_of_dist(store, made, dice=[0.75] * 14, aji=[0.25] * 14)
    frame = KumarTest().build(load_scores([store]), load_facts())
    assert cell(frame, "U-Net (cross-entropy)", "Kumar", "F1")[["published", "ours"]].tolist() == [0.7793, 0.75]
    assert cell(frame, "U-Net (cross-entropy)", "Kumar", "AJI")[["published", "ours"]].tolist() == [0.3833, 0.25]


def test_unet_with_border_weights_is_not_that_of_the_dist_paper(store: Path, made: Any) -> None:
    run = made.run(store, "paper-s0-aaaaaaaa")
    made.evaluation(run, "kumar.test", made.scores(TESTS))
    frame = KumarTest().build(load_scores([store]), load_facts())
    assert cell(frame, "U-Net", "Kumar", "AJI")["ours"] == 0.5
    assert pd.isna(cell(frame, "U-Net", "Kumar", "AJI")["published"])


@pytest.mark.parametrize(
    ("protocol", "note"),
    [("paper", "nothing to train."), ("strict", "nothing to train, parameters chosen on kumar.train.")],
)
def test_a_method_without_steps_was_not_trained(store: Path, made: Any, protocol: str, note: str) -> None:
    run = made.run(store, f"{protocol}-s0-aaaaaaaa", training={"steps": 0, "minutes": 0.0, "hardware": "CPU"})
    made.evaluation(run, "kumar.test", made.scores(TESTS), title="Fiji")
    text = KumarTest().markdown(KumarTest().build(load_scores([store]), load_facts()))
    assert text.endswith(f"[^1]: Fiji, protocol {protocol}: {note}\n")


def test_parts_are_the_images_of_the_paper() -> None:
    found = {part.title: part.images for part in parts()}
    published = load_facts()
    assert set(found) >= set(published.loc[published["table"] == "dist_kumar_images", "dataset"])
    assert found["Colorectal 2"] == ("TCGA-NH-A8F7-01A-01-TS1",)
    assert (found["Breast 1"] + found["Breast 2"]) == tuple(BREAST)
    assert [len(found[name]) for name in ("Different organs", "Same organs", "Kumar")] == [6, 8, 14]


def test_images_one_by_one_with_means_by_organ(store: Path, made: Any) -> None:
    unet_of_dist(store, made, aji=[0.25 if image in BREAST else 0.5 for image in TESTS])
    table = KumarImages()
    frame = table.build(load_scores([store]), load_facts())
    assert cell(frame, "U-Net (cross-entropy)", "Breast 1", "AJI")[["published", "ours"]].tolist() == [0.3831, 0.25]
    assert cell(frame, "U-Net (cross-entropy)", "Same organs", "AJI")["ours"] == pytest.approx((6 * 0.5 + 2 * 0.25) / 8)
    different = cell(frame, "U-Net (cross-entropy)", "Different organs", "AJI")
    printed = [0.5115, 0.4621, 0.0786, 0.1305, 0.4096, 0.4507]
    assert different["published"] == pytest.approx(sum(printed) / 6)
    assert different[["ours", "images", "expected"]].tolist() == [0.5, 6, 6]
    text = table.markdown(frame)
    row = next(line for line in text.splitlines() if line.startswith("| U-Net (cross-entropy)[^1] | ours |"))
    assert row.count("0.250") == 2
    assert "| U-Net (cross-entropy) | published | 0.511 |" in text
    assert text.count("[^1]:") == 1


@pytest.mark.parametrize(
    ("train", "also", "row"),
    [
        ("kumar.train", [], "DIST trained on DS2"),
        ("kumar.train", ["tnbc.all"], "DIST trained on DS1 and DS2"),
        (BREAST_ONLY, ["tnbc.all"], "DIST trained only on breast"),
        (
            "kumar.group:TCGA-AR-A1AS,TCGA-A7-A13F,TCGA-A7-A13E,TCGA-AR-A1AK",
            ["tnbc.all"],
            "DIST trained only on breast",
        ),
    ],
)
def test_training_sets_are_rows(store: Path, made: Any, train: str, also: list[str], row: str) -> None:
    dataset, _, split = train.partition(".")
    train_facts = {"dataset": dataset, "split": split, "also": also}
    run = made.run(store, "paper-s0-aaaaaaaa", method="dist")
    rewrite(run, {"train": train_facts})
    aji = [0.75 if image in BREAST else 0.0 for image in TESTS]
    made.evaluation(run, "kumar.test", made.scores(TESTS, aji=aji), title="DIST", variant="dist")
    same = [image for image in TESTS if image in set(FACTS.loc[FACTS["split"] == "test_same", "image_id"])]
    made.evaluation(run, "kumar.test_same", made.scores(same, aji=[0.5] * 8), title="DIST", variant="dist")
    frame = TrainingSets().build(load_scores([store]), load_facts())
    line = cell(frame, row, "Kumar breast", "AJI")
    assert line[["ours", "images", "expected", "seeds"]].tolist() == [0.75, 2, 2, 1]
    assert line["published"] > 0.5
    assert frame["method"].nunique() == 4


def test_training_on_test_patients_is_no_row(store: Path, made: Any) -> None:
    run = made.run(store, "paper-s0-aaaaaaaa", train="kumar.all", method="dist")
    made.evaluation(run, "kumar.test", made.scores(TESTS), title="DIST", variant="dist")
    assert TrainingSets().build(load_scores([store]), load_facts())["ours"].isna().all()


def rewrite(run: Path, changes: dict[str, Any]) -> None:
    import json

    path = run / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def folds(store: Path, made: Any, seed: int, chosen: tuple[str, ...], *, exclude: bool, shift: float) -> None:
    facts = image_facts("tnbc")
    for k, patient in enumerate(chosen):
        rest = ",".join(p for p in chosen if p != patient)
        train = f"tnbc.except-group:{patient}" if exclude else f"tnbc.group:{rest}"
        run = made.run(store, f"paper-s{seed}-{'ab'[exclude]}000000{k:x}", train=train)
        images = facts.loc[facts["group"] == patient, "image_id"].tolist()
        figures = {name: [0.5] * len(images) for name in ("pixel_accuracy", "pixel_iu", "pixel_performance")}
        figures |= {"pixel_recall": [k / 100 + shift] * len(images), "pixel_precision": [0.5] * len(images)}
        made.evaluation(run, f"tnbc.group:{patient}", made.scores(images, **figures))
        other = chosen[k - 1]
        seen = facts.loc[facts["group"] == other, "image_id"].tolist()
        made.evaluation(run, f"tnbc.group:{other}", made.scores(seen, pixel_recall=[0.99] * len(seen)))


def test_folds_of_seven_and_of_eleven_patients(store: Path, made: Any) -> None:
    seven, eleven = patients(first_release=True), patients(first_release=False)
    assert (len(seven), len(eleven)) == (7, 11)
    for seed in (0, 1):
        folds(store, made, seed, seven, exclude=False, shift=0.1 * seed)
        folds(store, made, seed, eleven, exclude=True, shift=0.1 * seed)
    frame = LeaveOnePatientOut().build(load_scores([store]), load_facts())
    line = cell(frame, "U-Net", "TNBC (33 images)", "recall")
    assert line[["images", "expected", "seeds"]].tolist() == [33, 33, 2]
    assert line["ours"] == pytest.approx(sum(range(7)) / 700 + 0.05)  # over patients, who have 3 to 8 images each
    line = cell(frame, "U-Net", "TNBC (50 images)", "recall")
    assert line[["images", "expected", "seeds"]].tolist() == [50, 50, 2]
    assert line["ours"] == pytest.approx(sum(range(11)) / 1100 + 0.05)
    assert cell(frame, "PangNet", "TNBC (33 images)", "performance")["published"] == 0.853


def test_a_short_trial_of_one_fold_is_a_row_of_its_own(store: Path, made: Any) -> None:
    seven = patients(first_release=True)
    folds(store, made, 0, seven, exclude=False, shift=0.0)
    trial = made.run(
        store, "paper-s0-ffffffff", train=f"tnbc.group:{','.join(seven[1:])}", training={"steps": 3, "weights": "none"}
    )
    made.evaluation(trial, f"tnbc.group:{seven[0]}", made.scores(["01_1"], pixel_recall=[0.0]))
    frame = LeaveOnePatientOut().build(load_scores([store]), load_facts())
    lines = frame[(frame["method"] == "U-Net") & (frame["metric"] == "recall")].dropna(subset=["ours"])
    assert dict(zip(lines["options"], lines["images"], strict=True)) == {"steps=200": 33, "steps=3": 1}


def test_variants_of_hovernet_are_rows(store: Path, made: Any) -> None:
    run = made.run(store, "paper-s0-aaaaaaaa", method="hovernet")
    for k, variant in enumerate(ROWS):
        made.evaluation(run, "kumar.test", made.scores(TESTS, pq=[k / 10] * 14), variant=variant, title="HoVer-Net")
    frame = Postprocessing().build(load_scores([store]), load_facts())
    lines = frame[(frame["dataset"] == "Kumar") & (frame["metric"] == "PQ")].set_index("method")
    assert lines["published"].tolist() == [0.541, 0.591, 0.554, 0.597]
    assert lines["ours"].tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_options_are_rows(store: Path, made: Any) -> None:
    for seed, options in enumerate(({}, {"loss_terms": "standard"}, {"loss_terms": "proposed", "mode": "fast"})):
        run = made.run(store, f"paper-s{seed}-aaaaaaaa", method="hovernet", options=options)
        made.evaluation(run, "kumar.test", made.scores(TESTS), variant="hovernet", title="HoVer-Net")
    made.evaluation(run, "kumar.test", made.scores(TESTS), variant="hovernet-sobel-threshold", title="HoVer-Net")
    frame = LossTerms().build(load_scores([store]), load_facts())
    rows = frame.dropna(subset=["ours"]).drop_duplicates(["method", "options"])
    assert sorted(rows["method"]) == ["Proposed loss", "Proposed loss (fast mode)", "Standard loss"]
    text = LossTerms().markdown(frame)
    assert "| Proposed loss (fast mode)[^" in text
    consep = text.partition("### CoNSeP")[2]
    assert "| Standard loss |" in consep  # both rows of the table, also where nobody has run them
    assert "| Proposed loss |" in consep


def test_targets_are_rows(store: Path, made: Any) -> None:
    for seed, options in enumerate(({}, {"target": "normalised"}, {"target": "softmax"})):
        run = made.run(store, f"paper-s{seed}-a", method="dist", train="synthetic-dist.train", options=options)
        made.evaluation(run, "synthetic-dist.test", made.scores(list("abcdefghij")), variant="dist", title="DIST")
    frame = DistanceTargets().build(load_scores([store]), load_facts())
    assert sorted(set(frame["method"])) == ["Normalised distance", "Normalised distance, softmax", "Raw distance"]
    assert (frame["expected"].dropna() == 10).all()
