"""The table of Ki67 with all nine columns, and the pictures of its studies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmark.metrics.image import score_image
from leaderboards.literature import load_facts
from leaderboards.papers.ki67 import METRICS, Ki67, row_name
from leaderboards.papers.ki67_studies import STUDIES, Study, find
from leaderboards.plots.draw import PLOTS, draw_plots
from leaderboards.plots.ki67 import curve, draw_study
from leaderboards.plots.style import Stored, style
from leaderboards.records import load_scores
from postproc.instances import Instances

METHODS = {"ki67-unet": "U-Net (points)", "kinet": "KiNet", "frcn": "FRCN"}
BY_NAME = {study.name: study for study in STUDIES}


def scores(found: int, wrong: int = 0, images: int = 2) -> dict[str, list[Any]]:
    """Columns of images with 8 nuclei of two types, `found` of them 3 px off, `wrong` of those with the other type."""
    centres = np.array([[40 * k + 20, 20] for k in range(8)], np.float32)
    types = np.array([1, 1, 2, 2, 2, 2, 2, 2], np.int64)
    truth = Instances((40, 330), points=centres, types=types)
    kinds = types[:found].copy()
    kinds[:wrong] = 3 - kinds[:wrong]
    every = Instances(
        (40, 330),
        points=centres[:found] + np.array([3, 0], np.float32),
        types=kinds,
        scores=np.linspace(1.0, 0.3, found).astype(np.float32),
    )
    row = score_image(truth, every, radius=16.0, types=3, candidates=every)
    return {"image": [f"test_{k}" for k in range(images)], **{name: [value] * images for name, value in row.items()}}


def store_run(made: Any, store: Path, method: str, run: str, found: int, wrong: int = 0, **changes: Any) -> None:
    folder = made.run(store, run, train="ki67.train", method=method, **changes)
    made.evaluation(folder, "ki67.test", scores(found, wrong), variant=method, title=METHODS[method], types=["a", "b"])


def cell(frame: pd.DataFrame, method: str, metric: str) -> pd.Series:
    chosen = frame[(frame["method"] == method) & (frame["metric"] == metric)]
    assert len(chosen) == 1, chosen
    return chosen.iloc[0]


class TestTable:
    """Table I."""

    def test_all_nine_columns_stand_beside_the_published_ones(self, store: Path, made: Any) -> None:
        store_run(made, store, "kinet", "paper-s0-a", 6, 1)
        frame = Ki67(lambda *_: 2).build(load_scores([store]), load_facts())
        ours = {metric.name: cell(frame, "KiNet", metric.name) for metric in METRICS}
        # per image: 6 of 8 found, 3 px off; type 1: 1 of 2 found as such, 1 predicted; type 2: 4 of 6, 5 predicted
        expected = {
            "detection_precision": (0.861, 1.0),
            "detection_recall": (0.938, 0.75),
            "detection_F1": (0.898, 12 / 14),
            "distance_mean": (2.018, 3.0),
            "distance_std": (1.821, 0.0),
            "classification_precision": (0.771, 0.25 * 1.0 + 0.75 * 0.8),
            "classification_recall": (0.841, 0.25 * 0.5 + 0.75 * 4 / 6),
            "classification_F1": (0.804, 0.25 * 2 / 3 + 0.75 * 8 / 11),
        }
        for name, (published, value) in expected.items():
            assert ours[name]["published"] == published
            assert ours[name]["ours"] == pytest.approx(value, abs=1e-6)
        assert ours["classification_AUC"]["published"] == 0.724
        assert 0.3 < ours["classification_AUC"]["ours"] < 1
        assert {line["images"] for line in ours.values()} == {2}
        assert {line["expected"] for line in ours.values()} == {2}

    def test_area_is_that_of_the_curve_of_all_images(self, store: Path, made: Any) -> None:
        store_run(made, store, "kinet", "paper-s0-a", 8)
        frame = Ki67(lambda *_: 2).build(load_scores([store]), load_facts())
        # The strongest two are of type 1: above them type 2, three quarters of the nuclei, has neither recall nor
        # precision, (recall, precision) = (1/8, 1/4), (1/4, 1/4); from the third on all are right: (3/8, 1) to (1, 1).
        expected = 5 / 8 * 1 + 1 / 8 * (1 + 1 / 4) / 2 + 2 / 8 * 1 / 4
        assert cell(frame, "KiNet", "classification_AUC")["ours"] == pytest.approx(expected, abs=1e-6)

    def test_unet_is_the_row_of_the_paper(self, store: Path, made: Any) -> None:
        store_run(made, store, "ki67-unet", "paper-s0-a", 4)
        frame = Ki67(lambda *_: 2).build(load_scores([store]), load_facts())
        line = cell(frame, "U-Net (points)", "detection_F1")
        assert (line["published"], line["registry"]) == (0.740, "ki67-unet")
        assert line["ours"] == pytest.approx(2 / 3)
        assert "U-Net" not in set(frame["method"])  # other tables have another one, trained on outlines

    def test_kinet_without_branch_and_in_stages_are_rows(self, store: Path, made: Any) -> None:
        store_run(made, store, "kinet", "paper-s0-a", 8)
        store_run(made, store, "kinet", "paper-s0-b", 6, options={"roi": False})
        store_run(made, store, "kinet", "paper-s0-c", 4, options={"stagewise": True})
        store_run(made, store, "kinet", "paper-s0-d", 2, overrides={"label_share": 0.05})
        table = Ki67(lambda *_: 2)
        frame = table.build(load_scores([store]), load_facts())
        recalls = {row: cell(frame, row, "detection_recall")["ours"] for row in ("KiNet", "oKiNet", "sKiNet")}
        assert recalls == {"KiNet": 1.0, "oKiNet": 0.75, "sKiNet": 0.5}
        text = table.markdown(frame)
        assert "| oKiNet[^" in text
        assert "label_share" not in text

    def test_names_of_other_methods_stay(self) -> None:
        assert row_name("FRCN", "frcn", "features=8") == "FRCN"
        assert row_name("KiNet", "kinet", "roi=true, width=4") == "KiNet"

    def test_precision_of_the_detection_and_of_the_run_are_kept_apart(self, store: Path, made: Any) -> None:
        store_run(made, store, "kinet", "paper-s0-a", 6)
        loaded = load_scores([store])
        assert set(loaded["precision"]) == {"32"}
        assert set(loaded["precision_d"]) == {1.0}


def stored(store: Path) -> Stored:
    return Stored((), load_facts(), store, store, scores=load_scores([store]))


def fill(made: Any, store: Path) -> None:
    """Every study, at two or three values, with two seeds somewhere."""
    found = {None: 8, 0.05: 2, 0.4: 5}
    for seed in (0, 1):
        for share, count in found.items():
            overrides = {} if share is None else {"label_share": share}
            store_run(made, store, "kinet", f"paper-s{seed}-l{share}", count, seed, overrides=overrides)
            options = {"roi": False}
            store_run(
                made, store, "kinet", f"paper-s{seed}-o{share}", count - 1, seed, overrides=overrides, options=options
            )
    store_run(made, store, "kinet", "paper-s0-s", 7, options={"stagewise": True})
    store_run(made, store, "frcn", "paper-s0-f", 6)
    for gamma in (0.5, 100):
        store_run(made, store, "kinet", f"paper-s0-g{gamma}", 4, options={"gamma": gamma})
    for weighting in (0, 10.0):
        store_run(made, store, "kinet", f"paper-s0-w{weighting}", 3, options={"weighting": weighting})


class TestStudies:
    """Which runs stand in which picture."""

    def values(self, name: str, store: Path) -> dict[str, dict[float, int]]:
        (found,) = find(BY_NAME[name], load_scores([store]))
        assert found.left_out == 0
        return {line.label: {value: len(runs) for value, runs in line.runs.items()} for line in found.lines}

    def test_each_has_its_runs_and_no_others(self, store: Path, made: Any) -> None:
        fill(made, store)
        each = {0.05: 2, 0.4: 2, 1.0: 2}
        assert self.values("ki67-labels", store) == {"KiNet": each, "oKiNet": each}
        assert self.values("ki67-stages", store) == {"FRCN": {0.0: 1}, "sKiNet": {0.0: 1}, "KiNet": {0.0: 2}}
        assert self.values("ki67-gamma", store) == {"KiNet": {0.5: 1, 25.0: 2, 100.0: 1}}
        assert self.values("ki67-lambda", store) == {"KiNet": {0.0: 1, 5.0: 2, 10.0: 1}}

    def test_trials_are_not_mixed_in(self, store: Path, made: Any) -> None:
        for gamma in (0.5, 1, 5):
            store_run(made, store, "kinet", f"paper-s0-g{gamma}", 4, options={"gamma": gamma, "width": 4})
        store_run(made, store, "kinet", "paper-s0-other", 4, options={"gamma": 1, "width": 8})
        store_run(made, store, "kinet", "paper-s0-short", 4, options={"gamma": 1}, overrides={"steps": 3})
        store_run(made, store, "kinet", "strict-s0-other", 4, options={"gamma": 1, "width": 4})
        (found,) = find(BY_NAME["ki67-gamma"], load_scores([store]))
        (line,) = found.lines
        assert (found.protocol, found.recipe, line.label) == ("paper", "", "KiNet (width=4)")
        assert list(line.runs) == [0.5, 1.0, 5.0]
        assert found.left_out == 2

    def test_one_value_is_no_study(self, store: Path, made: Any) -> None:
        store_run(made, store, "kinet", "paper-s0-a", 4)
        for study in STUDIES:
            assert list(find(study, load_scores([store]))) == []
            assert list(draw_study(study, Stored((), load_facts(), store, store))) == []


class TestPictures:
    """Figures 6 to 9."""

    def test_all_are_drawn_and_say_what_they_show(self, store: Path, made: Any, tmp_path: Path) -> None:
        fill(made, store)
        paths = [p for written, _ in draw_plots(BY_NAME, [store], store, store, tmp_path / "out") for p in written]
        assert {path.name for path in paths} == {f"{name}-paper.{end}" for name in BY_NAME for end in ("png", "svg")}
        for path in paths:
            if path.suffix == ".png":
                pixels = np.asarray(Image.open(path).convert("RGB"))
                assert pixels.shape[1] == 2160
                assert pixels[::5, ::5].std() > 5
        texts = {name: (tmp_path / f"out/{name}-paper.svg").read_text() for name in BY_NAME}
        for name, words in {
            "ki67-labels": ["oKiNet", "40", "KiNet, all labels (published)"],
            "ki67-stages": ["sKiNet", "FRCN", "diamond: published", "recall"],
            "ki67-gamma": ["100", "recall", "\u03b3 = 25 (paper's)"],
            "ki67-lambda": ["10", "precision", "\u03bb = 5 (paper's)"],
        }.items():
            assert all(f"<!-- {word} -->" in texts[name] for word in words), name

    @pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
    def test_the_lines_are_the_scores(self, study: Study, store: Path, made: Any, whole: Any) -> None:
        fill(made, store)
        with style():
            (drawn,) = draw_study(study, stored(store))
            assert drawn.figure is not None
            panel = drawn.figure.axes[0]
            if study.name == "ki67-stages":
                heights = [bar.get_height() for bar in panel.patches]
                # recall of 6, 7 and (twice) 8 of 8
                assert heights[1::3] == pytest.approx([6 / 8, 7 / 8, 1.0])
            else:
                x, y = panel.lines[0].get_data()
                counts = {"ki67-labels": [2, 5, 8], "ki67-gamma": [4, 8, 4], "ki67-lambda": [3, 8, 3]}[study.name]
                assert y == pytest.approx([2 * n / (8 + n) for n in counts])
                assert list(x) == ([5, 40, 100] if study.name == "ki67-labels" else [0, 1, 2])
            whole(drawn.figure)

    @pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
    def test_long_settings_are_not_cut_off(self, study: Study, store: Path, made: Any, whole: Any) -> None:
        overrides = {
            "augment": "stain",
            "batch_size": 2,
            "crop": 128,
            "crops_per_image": 16,
            "lr": 0.001,
            "steps": 1000,
        }
        overrides |= {"max_minutes": 12.5, "schedule": "cosine"}
        options = {"width": 4, "eta": 0.25, "eta_after": 1000}
        values = {"": [{}, {"stagewise": True}], "label_share": [{}] * 2}
        chosen = values.get(study.setting, [{study.setting: 1}, {study.setting: 100}])
        for k, change in enumerate(chosen):
            recipe = overrides | ({"label_share": 0.05} if study.setting == "label_share" and k else {})
            store_run(made, store, "kinet", f"paper-s0-{k}", 4, options=options | change, overrides=recipe)
        with style():
            (drawn,) = draw_study(study, stored(store))
            assert drawn.figure is not None
            whole(drawn.figure)

    def test_stand_ins_have_no_published_figure_beside_them(self, store: Path, made: Any) -> None:
        for share in (0.05, 0.4):
            overrides = {"label_share": share}
            store_run(made, store, "kinet", f"paper-s0-{share}", 4, overrides=overrides, data={"synthetic": True})
        with style():
            (drawn,) = draw_study(BY_NAME["ki67-labels"], stored(store))
        assert drawn.figure is not None
        assert "published" not in " ".join(line.get_label() for line in drawn.figure.axes[0].lines)

    def test_curve_is_precision_and_recall_at_each_threshold(self) -> None:
        table = pd.DataFrame(scores(8, 2))
        sums = {name: float(value) for name, value in table.drop(columns="image").sum().items()}
        recall, precision = curve(sums, classes=False)
        assert len(recall) == 21
        assert recall[0] == 1.0
        assert recall[-1] == 1 / 8
        assert set(precision) == {1.0}
        recall, precision = curve(sums, classes=True)
        # both nuclei of type 1 are predicted as type 2, which has 8 predictions of which 6 are right
        assert (recall[0], precision[0]) == pytest.approx((0.75, 0.75 * 6 / 8))

    def test_the_names_are_those_of_the_sweeps(self) -> None:
        assert set(BY_NAME) <= set(PLOTS)
        sweeps = Path(__file__).parents[3] / "benchmark/sweeps"
        assert {f"{name}.yaml" for name in BY_NAME} <= {path.name for path in sweeps.iterdir()}
