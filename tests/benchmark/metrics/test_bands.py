"""Scores of bands of rows add up to those of the whole map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from benchmark.metrics.bands import contingency_by_band, merge
from benchmark.metrics.contingency import contingency
from benchmark.results import scoring
from benchmark.results.scoring import score_folders
from datamodules.reading.rasters import ArrayRaster
from datamodules.synthetic.images import generate
from postproc.errors import DataError


def maps(side: int = 200) -> tuple[np.ndarray, np.ndarray]:
    _, truth = generate((side, side + 30), np.random.default_rng(0), density=1e-3)
    assert truth.labels is not None
    predicted = np.roll(truth.labels, (3, 2), (0, 1)) * 7  # ids with gaps
    predicted[predicted == 14] = 0
    return truth.labels, predicted


@pytest.mark.parametrize("band", [1, 500, 10**9])
def test_tables_of_bands_add_up(band: int) -> None:
    true, pred = maps()
    whole, summed = contingency(true, pred), contingency_by_band(ArrayRaster(true), ArrayRaster(pred), band)
    for name in whole.__slots__:
        np.testing.assert_array_equal(getattr(whole, name), getattr(summed, name))


def test_empty_maps_have_an_empty_table() -> None:
    empty = np.zeros((4, 5), np.int32)
    table = merge([contingency(empty[:2], empty[:2]), contingency(empty[2:], empty[2:])])
    assert (table.pixels, table.n_true, table.n_pred, table.intersection.size) == (20, 0, 0, 0)
    one = np.array([[3, 0]])
    assert merge([contingency(one, empty[:1, :2]), contingency(empty[:1, :2], empty[:1, :2])]).true_ids.tolist() == [3]


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_huge_files_are_scored_by_band(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    true, pred = maps()
    for folder, labels in (("true", true), ("pred", pred)):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / f"a{suffix}"
        if suffix == ".npy":
            np.save(path, np.asfortranarray(labels) if folder == "pred" else labels)
        else:
            tifffile.imwrite(path, labels, tile=(64, 64), compression="zlib")
    expected = score_folders(tmp_path / "true", tmp_path / "pred")
    monkeypatch.setattr(scoring, "LARGE", 1000)
    read: list[Path] = []
    monkeypatch.setattr(scoring, "read_instances", read.append)
    pd.testing.assert_frame_equal(score_folders(tmp_path / "true", tmp_path / "pred"), expected, check_exact=True)
    assert not read


def test_huge_maps_of_unequal_size_or_kind_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "LARGE", 10)
    for folder, labels in (("true", np.zeros((9, 9), int)), ("pred", np.zeros((9, 8), int))):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "a.npy", labels)
    with pytest.raises(DataError, match=r"a\.npy: 9 x 8 px"):
        score_folders(tmp_path / "true", tmp_path / "pred")
    (tmp_path / "pred/a.npy").unlink()
    tifffile.imwrite(tmp_path / "pred/a.tif", np.full((9, 9), -1, np.int32), tile=(16, 16))
    with pytest.raises(DataError, match="negative id"):
        score_folders(tmp_path / "true", tmp_path / "pred")
