from __future__ import annotations

import csv
from importlib.resources import files

import pytest

from leaderboards.images import expected_images, image_facts
from postproc.errors import DataError


@pytest.mark.parametrize(
    ("dataset", "split", "images"),
    [
        ("kumar", "train", 16),
        ("kumar", "test", 14),
        ("kumar", "test_same", 8),
        ("consep", "test", 14),
        ("consep", "all", 41),
        ("cpm15", "all", 15),
        ("cpm17", "test", 32),
        ("cpm17", "all", 64),
        ("tnbc", "all", 50),
        ("crchisto", "all", 100),
    ],
)
def test_counts_of_the_papers(dataset: str, split: str, images: int) -> None:
    assert expected_images(dataset, split) == images


def test_validation_and_groups_part_the_images() -> None:
    assert expected_images("kumar", "fit") + expected_images("kumar", "validation") == 16
    text = files("datamodules").joinpath("splits", "tnbc.csv").read_text(encoding="utf-8")
    group = next(csv.DictReader(text.splitlines()))["group"]
    one, rest = expected_images("tnbc", f"group:{group}"), expected_images("tnbc", f"except-group:{group}")
    assert one > 0
    assert one + rest == 50


def test_unknown_dataset_or_split_is_named() -> None:
    with pytest.raises(DataError, match=r"nosuch\.csv is missing"):
        expected_images("nosuch", "all")
    with pytest.raises(DataError, match=r"kumar\.csv has no image in split 'tests'"):
        expected_images("kumar", "tests")


def test_facts_are_a_copy() -> None:
    facts = image_facts("kumar")
    assert (facts["organ"] == "breast").sum() == 6
    facts["organ"] = ""
    assert (image_facts("kumar")["organ"] == "breast").sum() == 6
