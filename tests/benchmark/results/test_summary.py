"""The summary of what was found, and the Ki67 labelling index."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmark.results.summary import ImageSummary, tumour_nuclei, write_summary

TYPES = ("immunopositive tumour", "immunonegative tumour", "non-tumour")


def found(image: str, kinds: list[int], names: tuple[str, ...] = TYPES) -> ImageSummary:
    return ImageSummary.of(image, len(kinds), np.array(kinds, np.int64), names)


def test_index_is_the_share_of_positive_tumour_nuclei() -> None:
    image = found("a.png", [1, 1, 2, 2, 2, 3, 0])
    assert image.types == {TYPES[0]: 2, TYPES[1]: 3, TYPES[2]: 1}
    assert tumour_nuclei(image.types) == (2, 5)
    assert image.line() == "a.png: 7 nuclei; Ki67 labelling index 40.0 % (2 of 5 tumour nuclei)"


@pytest.mark.parametrize("kinds", [[], [3, 3, 0]])
def test_without_tumour_nuclei_it_is_undefined(kinds: list[int], tmp_path: Path) -> None:
    image = found("a.png", kinds)
    assert image.line() == f"a.png: {len(kinds)} nuclei; Ki67 labelling index undefined: no tumour nuclei"
    write_summary(tmp_path / "summary.csv", [image])
    assert (tmp_path / "summary.csv").read_text().endswith(f"\na.png,{len(kinds)},0,0,{kinds.count(3)},\n")


@pytest.mark.parametrize("names", [("epithelial", "other"), (TYPES[0], "other")])
def test_other_types_have_no_index(names: tuple[str, ...], tmp_path: Path) -> None:
    image = found("a.png", [1, 2], names)
    assert image.line() == "a.png: 2 nuclei"
    write_summary(tmp_path / "summary.csv", [image])
    assert (tmp_path / "summary.csv").read_text() == f"image,nuclei,{','.join(names)}\na.png,2,1,1\n"


def test_spelling_of_the_types_does_not_matter() -> None:
    image = found("a.png", [2, 1, 1], ("Immunonegative tumor", "Immunopositive Tumor"))
    assert image.line().endswith("index 33.3 % (1 of 3 tumour nuclei)")


def test_methods_without_types_count_nuclei(tmp_path: Path) -> None:
    write_summary(tmp_path / "summary.csv", [ImageSummary.of("a.png", 4, None, TYPES)])
    assert (tmp_path / "summary.csv").read_text() == "image,nuclei\na.png,4\n"


def test_an_image_that_does_not_know_its_types_takes_the_columns_of_the_others(tmp_path: Path) -> None:
    empty = ImageSummary.of("large.tif", 0, None, TYPES)
    write_summary(tmp_path / "summary.csv", [empty, found("a.png", [1, 2])])
    lines = (tmp_path / "summary.csv").read_text().splitlines()
    assert lines == [f"image,nuclei,{','.join(TYPES)},ki67_index", "large.tif,0,0,0,0,", "a.png,2,1,1,0,50.00"]
