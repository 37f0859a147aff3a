"""Text that a spreadsheet would run is written so that it does not, and read back as it was."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmark.commands.predicting import score
from benchmark.results.store import write_scores
from datamodules.reading.points_table import read_points, write_points
from datamodules.reading.tile_manifest import Row, read_manifest, tile_file, write_manifest
from leaderboards.score_files import Columns, ScoreFile, read_scores
from postproc.cells import shown, unshown

TEXTS = ["=cmd()", "+1+1", "-x", "@x", "'=x", "''-x", "'quoted'", "-5", "plain", ""]


@pytest.mark.parametrize("text", TEXTS)
def test_round_trip(text: str) -> None:
    cell = str(shown(text))
    assert unshown(cell) == text
    assert cell == text or cell == f"'{text}"
    assert not cell.startswith(("=", "+", "@"))
    assert not cell.startswith("-") or cell == "-5"


def test_manifest_of_tiles(tmp_path: Path) -> None:
    row = Row("=cmd()", 0, 4, 8, 20.0, 1.0, tile_file("=cmd()", 20.0, 4, 8))
    write_manifest(tmp_path, [row])
    assert "\n'=cmd()," in (tmp_path / "manifest.csv").read_text()
    assert read_manifest(tmp_path) == [row]


def test_classes_of_points(tmp_path: Path) -> None:
    names = ["=a", "b"]
    write_points(tmp_path / "x.csv", np.array([[1, 2], [3, 4]], np.float32), np.array([1, 2]), names)
    assert ",'=a\n" in (tmp_path / "x.csv").read_text()
    np.testing.assert_array_equal(read_points(tmp_path / "x.csv", (9, 9), names)[1], [1, 2])


def test_scores_of_an_image_named_like_a_formula(tmp_path: Path) -> None:
    for folder in ("t", "p"):
        (tmp_path / folder).mkdir()
        labels = np.zeros((9, 9), np.uint8)
        labels[2:5, 2:5] = 1
        Image.fromarray(labels).save(tmp_path / folder / "=1+1.png")
    score(truth=tmp_path / "t", predictions=tmp_path / "p", out=tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text().splitlines()[1].startswith("'=1+1,1.0")


def test_stored_scores_keep_the_names_of_images(tmp_path: Path) -> None:
    names = [text for text in TEXTS if text]
    write_scores(tmp_path / "scores.csv", pd.DataFrame({"image": names, "aji": np.linspace(0, 1, len(names))}))
    write_scores(tmp_path / "alike.csv", pd.DataFrame({"image": ["a", "=b"], "aji": [0.5, 1]}))
    cells = [line.split(",")[0] for line in (tmp_path / "scores.csv").read_text().splitlines()[1:]]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "@"))]
    files = [ScoreFile(tmp_path / "scores.csv", len(names)), ScoreFile(tmp_path / "alike.csv", 2)]
    found = read_scores(files, Columns((), {}))
    assert [frame["image"].tolist() for frame in found if frame is not None] == [names, ["a", "=b"]]
