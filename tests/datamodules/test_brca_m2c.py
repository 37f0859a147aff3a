"""BRCA-M2C: lines of row, column and type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.brca_m2c import BRCAM2C, SUFFIX, read_centres, write_centres
from postproc.errors import DataError
from postproc.instances import Instances

SHAPE = (20, 30)


def test_the_row_comes_first(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("3 17 2\n\n19 29 1\n")
    truth = read_centres(tmp_path / "x.txt", SHAPE)
    assert truth.points is not None
    assert truth.points.tolist() == [[17, 3], [29, 19]]
    assert truth.types is not None
    assert truth.types.tolist() == [2, 1]


@pytest.mark.parametrize("count", [0, 3])
def test_files_are_read_as_written(tmp_path: Path, count: int) -> None:
    points = np.array([[0, 0], [29, 19], [5, 6]], np.float32)[:count]
    write_centres(tmp_path / "x.txt", Instances(SHAPE, points=points, types=np.array([1, 2, 3])[:count]))
    truth = read_centres(tmp_path / "x.txt", SHAPE)
    np.testing.assert_array_equal(truth.points, points)
    assert truth.count == count


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2\n", "line 1: '1 2'; expected row, column and type"),
        ("1 2 1\n1.5 2 1\n", "line 2: '1.5 2 1'; expected row"),
        ("20 2 1\n", "line 1: row 20, column 2 is outside the image of 20 x 30 px"),
        ("2 -1 1\n", "column -1 is outside"),
        ("2 1 1\n2 1", "the last line '2 1' does not end"),
        ("2 1 4\n", "line 1: type 4; expected 1 to 3"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_centres(tmp_path / "x.txt", SHAPE)
    assert "x.txt" in str(caught.value)


def test_an_image_without_centres_is_named(tmp_path: Path) -> None:
    BRCAM2C.write_synthetic(tmp_path, images=2, size=64)
    path = next((tmp_path / "labels").glob(f"*{SUFFIX}"))
    path.unlink()
    with pytest.raises(DataError, match=path.name):
        _ = BRCAM2C(tmp_path).records


def test_the_test_images_share_no_patient() -> None:
    patients: dict[str, set[str]] = {"train": set(), "test": set()}
    for row in BRCAM2C.splits().values():
        patients[row.split].add(row.image_id[:12])
    assert not patients["train"] & patients["test"]
    assert sum(row.validation for row in BRCAM2C.splits().values()) == 10
