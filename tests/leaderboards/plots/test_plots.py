from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import gaussian_kde

from benchmark.results.pictures import densest_window
from benchmark.results.store import write_instances
from leaderboards.images import image_facts
from leaderboards.literature import load_facts
from leaderboards.plots.draw import PLOTS, draw_plots
from leaderboards.plots.images import ordered
from leaderboards.plots.overlays import COLORS, distinct_colors, typical_image
from leaderboards.plots.predictions import missing_predictions
from leaderboards.plots.sizes import areas, density
from leaderboards.plots.style import Stored, style
from leaderboards.records import load_scores
from leaderboards.statistics.entries import Entry, fields, published_field
from postproc.errors import ConfigError
from postproc.instances import Instances

FACTS = image_facts("kumar")
TESTS = FACTS.loc[FACTS["split"].str.startswith("test_"), "image_id"].tolist()
LONG = "A method of a long name (with energy from pseudo distance, with threshold markers)"


def fill(store: Path, made: Any, methods: int = 3) -> None:
    """Some methods on the test images of Kumar, one of them with a long name and two settings."""
    for k in range(methods):
        random = np.random.default_rng(k)
        figures = {name: list(random.uniform(0.1, 0.9, 14).round(3)) for name in ("dice", "aji", "pq")}
        title = LONG if k == 1 else f"Method {k}"
        for seed in range(2 if k == 1 else 1):
            options = {"features": 16 * (seed + 1), "normalisation": "by group"} if k == 1 else {}
            run = made.run(store, f"paper-s{seed}-aaaaaaaa", method=f"m{k}", options=options)
            made.evaluation(run, "kumar.test", made.scores(TESTS, **figures), title=title)


def stored(store: Path) -> Stored:
    found = (*fields(load_scores([store])), *published_field(load_facts()))
    return Stored(found, load_facts(), store, store)


def draw(store: Path, out: Path, *names: str) -> tuple[list[Path], list[str]]:
    drawn = list(draw_plots(names, [store], store, store / "no-data", out))
    return [path for paths, _ in drawn for path in paths], [note for _, note in drawn if note]


def test_pictures_of_scores_need_neither_runs_nor_data(store: Path, made: Any, tmp_path: Path) -> None:
    fill(store, made)
    paths, notes = draw(store, tmp_path / "out", "boxes", "images")
    names = {f"{plot}-kumar-{protocol}" for plot in ("boxes", "images") for protocol in ("paper", "published")}
    assert {path.name for path in paths} == {name + end for name in names for end in (".png", ".svg")}
    assert notes == []
    for path in paths:
        if path.suffix == ".png":
            pixels = np.asarray(Image.open(path).convert("RGB"))
            assert pixels.shape[1] == 2160  # 7.2 inches at 300 dpi
            assert pixels[::5, ::5].std() > 5
    text = (tmp_path / "out/boxes-kumar-paper.svg").read_text()
    assert all(f"<!-- {label} -->" in text for label in ("Method 0", "Method 2", "DICE", "AJI", "PQ"))
    assert "Bladder 1" in (tmp_path / "out/images-kumar-paper.svg").read_text()


def test_equal_results_give_equal_bytes_whatever_the_settings_of_the_user(
    store: Path, made: Any, tmp_path: Path
) -> None:
    fill(store, made, 1)
    first, _ = draw(store, tmp_path / "a", "boxes")
    with mpl.rc_context({"font.size": 20, "svg.hashsalt": None, "savefig.dpi": 50}):
        second, _ = draw(store, tmp_path / "b", "boxes")
        assert mpl.rcParams["font.size"] == 20
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert not re.search(
        rb"<dc:date>|20[0-9]{2}-[0-9]{2}-[0-9]{2}", (tmp_path / "a/boxes-kumar-paper.svg").read_bytes()
    )


@pytest.mark.parametrize("plot", ["boxes", "images"])
@pytest.mark.parametrize("methods", [1, 13])
def test_nothing_is_cut_off(store: Path, made: Any, whole: Any, plot: str, methods: int) -> None:
    fill(store, made, methods)
    with style():
        for drawn in PLOTS[plot](stored(store)):
            assert drawn.figure is not None
            whole(drawn.figure)


def test_what_is_missing_is_said(store: Path, made: Any, tmp_path: Path) -> None:
    fill(store, made, 1)
    paths, notes = draw(store, tmp_path / "out", "overlays", "sizes")
    assert paths == []
    assert [note.split(":")[0] for note in notes] == ["overlays-kumar-paper", "sizes-kumar-paper"]
    assert all("has no predictions/kumar/plain/TCGA" in note for note in notes)
    (run,) = store.glob("*/*/*")
    for image in TESTS:
        empty = Instances((8, 8), labels=np.zeros((8, 8), np.int32))
        write_instances(run / f"predictions/kumar/plain/{image}.npz", empty)
    _, notes = draw(store, tmp_path / "out", "overlays", "sizes")
    assert all("no-data" in note and "kumar" in note for note in notes)
    assert len(notes) == 2
    (field,) = fields(load_scores([store]))
    assert missing_predictions(store, field.entries[0]) == ""
    assert missing_predictions(store / "elsewhere", field.entries[0]).endswith("does not exist")


def test_too_many_images_and_rows_are_said(store: Path, made: Any) -> None:
    fill(store, made, 8)
    run = made.run(store, "paper-s9-aaaaaaaa", train=None)
    facts = image_facts("tnbc")
    made.evaluation(run, "tnbc.all", made.scores(facts["image_id"].tolist()))
    notes = {drawn.name: drawn.note for drawn in PLOTS["images"](stored(store))}
    assert notes == {
        "images-kumar-paper": "only the best 8 of 9 rows by AJI are shown",
        "images-kumar-published": "",
        "images-tnbc-paper": "50 images are too many for a bar chart; see the box plot",
    }


def test_partial_sets_are_labelled(store: Path, made: Any) -> None:
    made.evaluation(made.run(store, "paper-s0-aaaaaaaa"), "kumar.test", made.scores(TESTS[:5]))
    (drawn,) = (each for each in PLOTS["boxes"](stored(store)) if each.name == "boxes-kumar-paper")
    assert drawn.figure is not None
    (label,) = drawn.figure.axes[0].get_yticklabels()
    assert label.get_text() == "U-Net [5 of 14 images]"


def test_unknown_plots_are_named(store: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'boxes'"):
        draw(store, tmp_path / "out", "boxs")
    assert not (tmp_path / "out").exists()


def test_without_any_run_the_published_scores_are_drawn(store: Path) -> None:
    drawn = [each for plot in PLOTS.values() for each in plot(stored(store))]
    assert {each.name for each in drawn} == {"boxes-kumar-published", "images-kumar-published"}
    assert all(each.figure is not None and not each.note for each in drawn)


def test_density_is_one_in_all_and_that_of_scipy_away_from_zero() -> None:
    sizes = np.random.default_rng(0).gamma(4, 100, 3000)
    at = np.linspace(0, 4000, 2001)
    found = density(sizes, at)
    assert found.sum() * 2 == pytest.approx(1, abs=1e-3)
    iqr = np.subtract(*np.quantile(sizes, [0.75, 0.25]))
    width = 0.9 * min(sizes.std(ddof=1), iqr / 1.34) * len(sizes) ** -0.2
    assert found[100:] == pytest.approx(gaussian_kde(sizes, width / sizes.std(ddof=1))(at[100:]), rel=1e-3, abs=1e-9)


def test_a_huge_component_does_not_blur_the_density() -> None:
    sizes = np.random.default_rng(0).normal(300, 30, 500)
    at = np.linspace(100, 500, 401)
    with_huge = density(np.array([*sizes, 500_000.0]), at)
    assert with_huge.max() == pytest.approx(density(sizes, at).max(), rel=0.02)


def test_areas_are_those_of_the_label_maps() -> None:
    labels = np.array([[1, 1, 0], [3, 3, 3], [0, 0, 2]], np.int32)
    points = Instances((3, 3), points=np.zeros((2, 2), np.float32))
    assert sorted(areas([Instances((3, 3), labels=labels), points])) == [1, 2, 3]
    assert len(areas([points])) == 0


def test_window_holds_the_crowd() -> None:
    labels = np.zeros((600, 500), np.int32)
    spots = [(30, 30), (400, 300), (420, 330), (450, 310), (430, 350)]
    for k, (y, x) in enumerate(spots, start=1):
        labels[y : y + 4, x : x + 4] = k
    rows, columns = densest_window(Instances(labels.shape, labels=labels), 100)
    assert len(np.unique(labels[rows, columns])) == 5
    assert labels[rows, columns].shape == (100, 100)
    small = Instances((40, 60), labels=np.zeros((40, 60), np.int32))
    assert densest_window(small, 100) == (slice(0, 40), slice(0, 60))


def test_neighbours_have_different_colors() -> None:
    centers = np.stack(np.meshgrid(np.arange(12), np.arange(12)), -1).reshape(-1, 2).astype(np.float32)
    colors = np.array(distinct_colors(centers)).reshape(12, 12)
    assert (colors[:, 1:] != colors[:, :-1]).all()
    assert (colors[1:] != colors[:-1]).all()
    assert set(colors.ravel()) == set(range(len(COLORS)))
    assert distinct_colors(np.zeros((0, 2), np.float32)) == []


def test_the_typical_image_is_that_of_median_pq() -> None:
    values = pd.DataFrame({"pq": [0.9, np.nan, 0.1, 0.4, 0.5]}, index=list("abcde"))
    assert typical_image(Entry("M", "M", values, 1, ("r",), "v")) == "d"


def test_images_stand_in_the_order_of_the_paper_or_in_natural_order() -> None:
    kumar = ordered({f"kumar/test/{image}" for image in TESTS})
    assert list(kumar.values())[:3] == ["Bladder 1", "Bladder 2", "Colorectal 1"]
    assert len(kumar) == 14
    assert list(ordered({"consep/test/test_10", "consep/test/test_2"}).values()) == ["test_2", "test_10"]
    assert list(ordered({"Kidney 1", "Bladder 2"})) == ["Bladder 2", "Kidney 1"]


@pytest.mark.real_data
def test_overlays_and_sizes_show_real_nuclei(store: Path, made: Any, data_root: Path, tmp_path: Path) -> None:
    from benchmark.registry import dataset_class

    run = made.run(store, "paper-s0-aaaaaaaa")
    images = TESTS[:2]
    made.evaluation(run, "kumar.test", made.scores(images))
    for record in dataset_class("kumar")(data_root / "kumar").select("test")[:2]:
        truth = dataset_class("kumar")(data_root / "kumar").read(record).truth
        write_instances(run / f"predictions/kumar/plain/{record.image_id}.npz", truth)
    drawn = list(draw_plots(["overlays", "sizes"], [store], store, data_root, tmp_path / "out"))
    assert [note for _, note in drawn] == ["", ""]
    assert {path.name for paths, _ in drawn for path in paths} == {
        f"{plot}-kumar-paper.{end}" for plot in ("overlays", "sizes") for end in ("png", "svg")
    }
    overlay = np.asarray(Image.open(tmp_path / "out/overlays-kumar-paper.png").convert("RGB")).astype(int)
    yellow = np.abs(overlay - (255, 238, 0)).sum(axis=-1) < 20
    assert yellow.sum() > 200
    text = (tmp_path / "out/sizes-kumar-paper.svg").read_text()
    counts = re.findall(r"([\d,]+) nuclei, median ([\d]+) px", text)
    assert len(counts) == 2
    assert counts[0] == counts[1]  # the prediction is the annotation
