"""The committed splits: counts as on the cards, groups in one split only, validation as the papers say."""

from __future__ import annotations

import csv
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest

from benchmark.registry import DATASETS, dataset_class
from datamodules.reading.layout import choose_rows
from datamodules.reading.records import Record, check_groups
from datamodules.reading.splits import SplitRow, split_lines
from postproc.errors import ConfigError

NAMES = sorted(name for name in DATASETS if dataset_class(name).card.annotation != "none")


def column(name: str, key: str) -> dict[str, str]:
    text = files("datamodules").joinpath("splits", f"{name}.csv").read_text(encoding="utf-8")
    return {row["image_id"]: row[key] for row in csv.DictReader(text.splitlines())}


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_those_of_the_card(name: str) -> None:
    dataset = dataset_class(name)
    assert dataset.card.name == name
    if dataset.splits():  # otherwise they are read from the dataset's own files
        assert dict(Counter(row.split for row in dataset.splits().values())) == dict(dataset.card.images)


@pytest.mark.parametrize("name", NAMES)
def test_no_group_is_in_two_splits(name: str) -> None:
    rows = dataset_class(name).splits().values()
    check_groups([Record(r.image_id, Path(), (), r.group, r.split, r.validation) for r in rows], name)
    assert all(row.split == "train" for row in rows if row.validation)


@pytest.mark.parametrize("name", NAMES)
def test_ids_are_unique(name: str) -> None:
    assert len(split_lines(name)) == len(dataset_class(name).splits())


def test_a_line_may_stand_for_consecutive_images() -> None:
    rows = list(dataset_class("pannuke").splits().values())
    assert rows[0] == SplitRow("fold1_0000", "fold1_0000", "fold1", validation=False)
    assert rows[-1].image_id == rows[-1].group == "fold3_2721"


@pytest.mark.parametrize("name", ["kumar", "monuseg"])
def test_groups_are_tcga_patients(name: str) -> None:
    for image_id, row in dataset_class(name).splits().items():
        assert row.group == "-".join(image_id.split("-")[:3])


def test_kumar_keeps_one_image_of_each_organ() -> None:
    organ = column("kumar", "organ")
    rows = dataset_class("kumar").splits().values()
    train = Counter(organ[row.image_id] for row in rows if row.split == "train")
    kept = Counter(organ[row.image_id] for row in rows if row.validation)
    assert train == dict.fromkeys(("breast", "kidney", "liver", "prostate"), 4)
    assert kept == dict.fromkeys(("breast", "kidney", "liver", "prostate"), 1)
    different = Counter(organ[row.image_id] for row in rows if row.split == "test_diff")
    assert different == dict.fromkeys(("bladder", "colon", "stomach"), 2)


def test_hovernet_divides_the_same_images_of_kumar_as_often() -> None:
    theirs, ours = column("kumar", "hovernet_split"), column("kumar", "split")
    assert Counter(theirs.values()) == Counter(ours.values())
    assert sum(theirs[image_id] != ours[image_id] for image_id in ours) == 6


def test_monuseg_divides_training_19_to_11_over_all_organs() -> None:
    organ = column("monuseg", "organ")
    rows = [row for row in dataset_class("monuseg").splits().values() if row.split == "train"]
    assert sum(row.validation for row in rows) == 11
    for kept in (True, False):
        assert len({organ[row.image_id] for row in rows if row.validation == kept}) == 7


def test_monuseg_trains_on_the_images_of_kumar() -> None:
    monuseg = {i for i, row in dataset_class("monuseg").splits().items() if row.split == "train"}
    assert monuseg == set(dataset_class("kumar").splits())


def test_tnbc_has_the_patients_of_both_papers() -> None:
    release = column("tnbc", "release")
    first = [i for i in release if release[i] == "1"]
    assert len(first) == 33
    patients = Counter(row.group for row in dataset_class("tnbc").splits().values())
    assert len(patients) == 11
    assert set(patients.values()) <= set(range(3, 9))


class TestChoice:
    """Which images a stand-in has."""

    def test_two_of_each_split_by_default(self) -> None:
        rows = choose_rows(dataset_class("kumar").splits(), None)
        assert Counter((row.split, row.validation) for row in rows) == {
            ("train", False): 2,
            ("train", True): 2,
            ("test_same", False): 2,
            ("test_diff", False): 2,
        }

    def test_groups_in_turn(self) -> None:
        rows = choose_rows(dataset_class("tnbc").splits(), 12)
        assert [row.group for row in rows] == [f"{k:02d}" for k in (*range(1, 12), 1)]
        assert len({row.image_id for row in rows}) == 12

    def test_all_images(self) -> None:
        splits = dataset_class("consep").splits()
        assert {row.image_id for row in choose_rows(splits, len(splits))} == set(splits)

    @pytest.mark.parametrize("images", [0, 51])
    def test_impossible_numbers(self, images: int) -> None:
        with pytest.raises(ConfigError, match="1 to 50"):
            choose_rows(dataset_class("tnbc").splits(), images)
