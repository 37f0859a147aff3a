"""Lizard and CoNIC: folds and regions from their own files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.conic import POOL, TRAIN, VALID, CoNIC
from datamodules.lizard import INFO, Lizard, read_folds
from datamodules.reading.stacks import write_stack
from datamodules.reading.stratified import stratified_test
from postproc.errors import DataError

SIZE = 64


@pytest.fixture
def lizard(tmp_path: Path) -> Path:
    Lizard.write_synthetic(tmp_path, images=6, size=SIZE)
    return tmp_path


@pytest.fixture
def conic(tmp_path: Path) -> Path:
    CoNIC.write_synthetic(tmp_path, images=6, size=SIZE)
    return tmp_path


def test_folds_of_lizard(lizard: Path) -> None:
    data = Lizard(lizard)
    assert [r.image_id for r in data.select("split2")] == ["synthetic_2", "synthetic_5"]
    assert {r.split for r in data.records} == {"split1", "split2", "split3"}
    assert all(s.truth.types is not None for s in data.samples("all"))


def test_rows_of_lizard_labels_follow_their_ids(lizard: Path) -> None:
    import scipy.io

    data = Lizard(lizard)
    record = data.records[0]
    before = data.read(record).truth
    arrays = {k: v for k, v in scipy.io.loadmat(record.annotations[0]).items() if k[0] != "_"}
    arrays |= {name: arrays[name][::-1] for name in ("id", "class", "centroid")}
    scipy.io.savemat(record.annotations[0], arrays)
    np.testing.assert_array_equal(data.read(record).truth.types, before.types)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Filename,Source,Split\na,glas,4\n", "line 2: split '4'; expected 1, 2 or 3"),
        ("Filename,Source,Split\na,glas,1\na,glas,2\n", "line 3: image 'a' is listed twice"),
        ("Filename,Source\na,glas\n", "no column split"),
        ("Filename,Source,Split\na,glas,1\n", "no line for the image"),
    ],
)
def test_mistakes_in_the_folds_of_lizard(lizard: Path, text: str, message: str) -> None:
    path = lizard / "Lizard_Labels" / INFO
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        _ = Lizard(lizard).records
    assert INFO in str(caught.value)


def test_folds_are_named_without_suffix(tmp_path: Path) -> None:
    (tmp_path / INFO).write_text("Filename,Source,Split\nglas_1.png,glas,3\n")
    assert read_folds(tmp_path / INFO) == {"glas_1": "split3"}


def test_regions_of_conic(conic: Path) -> None:
    data = CoNIC(conic)
    assert [r.group for r in data.records[:3]] == ["synthetic_1", "synthetic_1", "synthetic_2"]
    assert [r.image_id for r in data.select("group:synthetic_3")] == ["synthetic_3-0000", "synthetic_3-0001"]
    truth = data.read(data.records[1]).truth
    assert truth.labels is not None
    assert truth.types is not None
    plane = np.load(conic / "labels.npy")[1]
    np.testing.assert_array_equal(np.concatenate([[0], truth.types])[truth.labels], plane[..., 1])


def test_whole_regions_of_conic_are_kept_for_validation(conic: Path) -> None:
    data = CoNIC(conic)
    assert [len(data.select(split)) for split in (TRAIN, VALID)] == [4, 2]
    assert not {r.group for r in data.select(TRAIN)} & {r.group for r in data.select(VALID)}


def test_too_few_regions_are_not_divided(tmp_path: Path) -> None:
    CoNIC.write_synthetic(tmp_path, images=2, size=SIZE)
    assert [r.split for r in CoNIC(tmp_path).records] == [POOL, POOL]


@pytest.mark.parametrize(
    ("strata", "seed", "expected"),
    [  # drawn by StratifiedShuffleSplit(test_size=0.2, train_size=0.8) of scikit-learn 1.9.1
        ("aaaaabbbbbcccdd", 5, None),
        ("dabcabcabcabcdabcabcabcabcabc", 5, [2, 6, 10, 20, 21, 25]),
        ("aaaaaaaaaaaabb", 19, [2, 5, 8]),
        ("aaab", 5, None),
        ("abc" * 2, 5, None),
        ("", 5, None),
    ],
)
def test_the_draw_is_that_of_scikit_learn(strata: str, seed: int, expected: list[int] | None) -> None:
    assert stratified_test(list(strata), 0.2, seed) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patch_info\nconsep1\n", "line 2: patch 'consep1' is not REGION-NUMBER"),
        ("patch_info\na_1-0000\na_1-0000\n", "line 3: patch 'a_1-0000' is listed twice"),
        ("patch_info\na_1-0000\n", "images.npy 6, labels.npy 6, patch_info.csv 1"),
        ("", "no column name"),
    ],
)
def test_mistakes_in_the_patches_of_conic(conic: Path, text: str, message: str) -> None:
    (conic / "patch_info.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        _ = CoNIC(conic).records


def test_a_type_that_conic_does_not_have(conic: Path) -> None:
    labels = np.load(conic / "labels.npy")
    labels[0, ..., 1] = np.where(labels[0, ..., 0] > 0, 7, 0)
    write_stack(conic / "labels.npy", labels)
    with pytest.raises(DataError, match=r"labels\.npy: type 7; conic has 6 types"):
        next(CoNIC(conic).samples("all"))
