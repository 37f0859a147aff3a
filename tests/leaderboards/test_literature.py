from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.registry import METHODS, method_class
from leaderboards.literature import (
    PER_IMAGE,
    PUBLISHED,
    Name,
    Names,
    load_facts,
    load_names,
    load_published,
    load_published_per_image,
    read_table,
)
from postproc.errors import DataError

NOT_METHODS = {"ablation_branches", "ablation_postprocessing", "dist_training_sets", "metric_example"}
"""Tables whose rows are settings of one method."""


@pytest.mark.parametrize(
    ("spelling", "title"),
    [
        ("Mask R-CNN", "Mask-RCNN"),
        ("Mask-RCNN", "Mask-RCNN"),
        ("CellProfiler", "Cell Profiler"),
        ("HoverNet", "HoVer-Net"),
        ("SegNet+WS", "SegNet + WS"),
    ],
)
def test_each_spelling_has_one_title(spelling: str, title: str) -> None:
    names = load_names()
    assert names.title(spelling) == names.title(title)
    assert names.title(spelling) in {row.title for row in names}


def test_aliases_merge_into_one_row() -> None:
    published = load_published()
    names = load_names()
    assert set(published.loc[published["spelling"] == "Mask R-CNN", "method"]) == {names.title("Mask-RCNN")}
    hover = published[published["method"] == names.title("HoVer-Net")]
    assert set(hover["spelling"]) >= {"HoVer-Net", "HoverNet"}
    per_image = load_published_per_image()
    assert "Mask R-CNN" in set(per_image["spelling"])
    assert set(per_image["method"]) <= {row.title for row in names}


def test_published_methods_are_all_in_the_name_table() -> None:
    published = load_published()
    names = load_names()
    methods = published[~published["table"].isin(NOT_METHODS)]
    assert {name for name in methods["spelling"] if name not in names} == set()


def test_published_facts_are_complete() -> None:
    published = load_published()
    assert len(published) == 833
    assert len(load_published_per_image()) == 180
    chosen = published.set_index(["table", "method", "dataset", "metric"])["value"]
    assert chosen["segmentation", "HoVer-Net", "Kumar", "PQ"] == 0.597
    assert chosen["generalisation", "DIST", "All CoNSeP", "AJI"] == 0.369
    assert chosen["classification", "SC-CNN", "CRCHisto", "F_c_inflammatory"] == 0.111
    assert chosen["pannuke", "CellViT (SAM-H)", "PanNuke", "mPQ"] == 0.498
    assert chosen["conic", "HoVer-Net (CoNIC baseline)", "CoNIC validation", "R2"] == 0.8585


def test_all_facts_hold_each_published_image_once() -> None:
    facts = load_facts()
    each = facts[facts["table"] == PER_IMAGE]
    assert len(facts) == 833 + 180
    assert len(each) == 180
    assert not each.duplicated(["method", "dataset", "metric"]).any()
    chosen = each.set_index(["method", "dataset", "metric"])["value"]
    assert chosen["CNN3", "Kidney 2", "AJI"] == 0.6672
    assert chosen["Mask-RCNN", "Kumar", "F1"] == 0.747
    assert set(facts.columns) == set(load_published().columns)


def test_per_image_figures_average_to_the_overall_figure() -> None:
    frame = load_published_per_image()
    images = frame[frame["organ"] != "Overall"].groupby(["method", "metric"])["value"].mean()
    overall = frame[frame["organ"] == "Overall"].set_index(["method", "metric"])["value"]
    assert (images - overall).abs().max() < 2e-3


def test_name_table_agrees_with_the_cards() -> None:
    stated = {(row.method, row.variant): row for row in load_names() if row.method}
    wrong = [f"{method}: not in the registry" for method, _ in stated if method not in METHODS]
    for method in METHODS:
        try:
            card = method_class(method).card
        except Exception as error:  # whatever keeps it from loading is a finding
            wrong.append(f"{method}: cannot be imported: {error}")
            continue
        carded = {variant.key: variant for variant in card.variants}
        wrong += [f"{m}/{v}: no such variant" for m, v in stated if m == method and v not in carded]
        for key, variant in carded.items():
            row = stated.get((method, key))
            if row is None:
                wrong.append(f"{method}/{key}: {variant.title!r} {variant.aliases} missing in methods.csv")
            elif (row.title, set(row.aliases)) != (variant.title, set(variant.aliases)):
                wrong.append(f"{method}/{key}: {row.title!r} {row.aliases}, card {variant.title!r} {variant.aliases}")
    assert wrong == []


def test_unknown_names_stay_and_stored_variants_follow_their_title() -> None:
    names = Names([Name("New title", "unet", "plain", ("Old title",))])
    assert names.title("Foreign method") == "Foreign method"
    assert names.title("Older title", "unet", "plain") == "New title"
    assert names.title("Old title", "other", "plain") == "New title"
    assert "Old title" in names
    assert "Foreign method" not in names


@pytest.mark.parametrize(
    "rows",
    [
        [Name("A", "", "", ("X",)), Name("B", "", "", ("X",))],
        [Name("A", "unet", "plain", ()), Name("B", "unet", "plain", ())],
        [Name("A", "", "", ("B",)), Name("B", "", "", ())],
        [Name("", "", "", ())],
    ],
)
def test_ambiguous_names_are_an_error(rows: list[Name]) -> None:
    with pytest.raises(DataError, match="the name table"):
        Names(rows)


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    for load in (load_names, load_published, load_published_per_image):
        with pytest.raises(DataError, match=r"nowhere\.csv is missing"):
            load(tmp_path / "nowhere.csv")
    path = tmp_path / "published.csv"
    path.write_text("table,method\nsegmentation,U-Net\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"published\.csv has no column 'dataset'"):
        load_published(path)
    path.write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=r"published\.csv is not a readable CSV file"):
        load_published(path)
    path.write_bytes(b"\xff\xfe\x00,\x81\n")
    with pytest.raises(DataError, match=r"published\.csv is not a readable CSV file"):
        read_table(path, ("table",))


def test_figures_that_are_none_or_stand_twice_are_errors(tmp_path: Path) -> None:
    header = "table,method,dataset,metric,value,source\n"
    path = tmp_path / "published.csv"
    path.write_text(f"{header}segmentation,U-Net,Kumar,PQ,high,X\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"published\.csv: value 'high' in line 2"):
        load_published(path)
    lines = "segmentation,Mask-RCNN,Kumar,PQ,0.5,X\nsegmentation,Mask R-CNN,Kumar,PQ,0.6,X\n"
    path.write_text(header + lines, encoding="utf-8")
    with pytest.raises(DataError, match="Kumar, PQ is listed twice"):
        load_published(path)


def test_published_folder_holds_what_the_loaders_read() -> None:
    files = {path.name for path in PUBLISHED.glob("*.csv")}
    assert files >= {"methods.csv", "published_results.csv", "dist_table_2_per_image.csv"}
