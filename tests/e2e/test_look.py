"""`nucbench look`: what the picture shows, and what the command refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import nucbench
from PIL import Image

from benchmark.results.pictures import PALETTE, geojson, write_geojson
from datamodules.reading.files import read_rgb, write_mat, write_rgb
from postproc.instances import Instances


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A grey image of 60 x 80 px with two nuclei, of types 1 and 2."""
    labels = np.zeros((60, 80), np.int32)
    labels[10:20, 10:30], labels[40:50, 50:70] = 1, 2
    nuclei = Instances((60, 80), labels=labels, types=np.array([1, 2]))
    write_rgb(tmp_path / "image.png", np.full((60, 80, 3), 200, np.uint8))
    (tmp_path / "labels").mkdir()
    write_mat(tmp_path / "labels/image.mat", nuclei)
    write_geojson(tmp_path / "image.geojson", geojson(nuclei, ("tumour", "stroma")))
    return tmp_path


@pytest.mark.parametrize("nuclei", ["labels/image.mat", "labels", "image.geojson"])
def test_outlines_have_the_colours_of_the_types(place: Path, nuclei: str) -> None:
    names = () if nuclei.endswith(".geojson") else ("--types", "tumour", "stroma")
    done = nucbench("look", "image.png", nuclei, "--mpp", "0.5", *names, folder=place)
    assert "tumour (1), stroma (1)" in done.stdout or "stroma (1), tumour (1)" in done.stdout
    picture = read_rgb(place / "image_look.png")
    assert picture.shape[1] == 80
    assert picture.shape[0] > 60  # the legend
    kinds = (1, 2) if "tumour (1), stroma" in done.stdout else (2, 1)
    assert picture[10, 20].tolist() == PALETTE[kinds[0]].tolist()
    assert picture[45, 50].tolist() == PALETTE[kinds[1]].tolist()
    assert picture[15, 20].tolist() == [200] * 3  # only the outline is drawn
    changed = (picture[:60] != 200).any(axis=2).sum()
    assert changed == 2 * (2 * 20 + 2 * 8)
    row = (picture[60:] == 0).all(axis=2).sum(axis=1).max()
    assert row == 20  # 10 microns, the longest round length within 0.3 x 80 px


def test_a_window_is_cut_and_enlarged(place: Path) -> None:
    nucbench("look", "image.png", "labels", "--window", "45", "35", "30", "20", "--zoom", "4", folder=place)
    picture = read_rgb(place / "image_look.png")
    assert picture.shape[1] == 120
    assert picture[4 * 5 + 1, 4 * 15].tolist() == PALETTE[2].tolist()
    assert not (picture[:80] == PALETTE[1]).all(axis=2).any()


def test_only_its_own_pictures_are_replaced(place: Path) -> None:
    nucbench("look", "image.png", "labels", folder=place)
    nucbench("look", "image.png", "labels", folder=place)
    with Image.open(place / "image_look.png") as file:
        assert file.info["Software"] == "nucbench look"
    write_rgb(place / "mine.png", np.zeros((4, 4, 3), np.uint8))
    before = (place / "mine.png").read_bytes()
    done = nucbench("look", "image.png", "labels", "--out", "mine.png", folder=place, status=2)
    assert "mine.png exists" in done.stderr
    done = nucbench("look", "image.png", "labels", "--out", "image.png", folder=place, status=2)
    assert "would be overwritten" in done.stderr
    assert (place / "mine.png").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--window", "90", "0", "5", "5"), "outside the image, which is 80 px wide"),
        (("--window", "1", "2"), "give left, top, width and height"),
        (("--zoom", "99"), "give 1 to 16"),
        (("--out", "a.jpg"), "ends in .png"),
        (("--mpp", "900"), "--mpp is 900"),
    ],
)
def test_wrong_arguments_are_named(place: Path, words: tuple[str, ...], named: str) -> None:
    assert named in nucbench("look", "image.png", "labels", *words, folder=place, status=2).stderr
    assert not (place / "image_look.png").exists()


def test_names_of_types_that_nothing_uses_are_refused(place: Path) -> None:
    words = ("look", "image.png", "image.geojson", "--types", "a", "b")
    assert "have types of their own (stroma, tumour)" in nucbench(*words, folder=place, status=2).stderr
    np.save(place / "image.npy", np.eye(60, 80, dtype=np.int32))
    words = ("look", "image.png", "image.npy", "--types", "a")
    assert "have no types; leave --types out" in nucbench(*words, folder=place, status=2).stderr
    assert not (place / "image_look.png").exists()


def test_results_are_of_their_kind(place: Path) -> None:
    """A folder whose name a file has, and a table that would be taken for a label map, are refused."""
    (place / "file").write_text("mine")
    done = nucbench("predict", "default", "image.png", "--out", "file", folder=place, status=2)
    assert "file is a file; give the name of a folder" in done.stderr
    assert (place / "file").read_text() == "mine"
    words = ("--truth", "labels", "--predictions", "labels", "--out", "labels/b.mat")
    assert "ends in .csv" in nucbench("score", *words, folder=place, status=2).stderr
    assert not (place / "labels/b.mat").exists()


def test_nuclei_of_another_image_are_refused(place: Path) -> None:
    write_rgb(place / "other.png", np.zeros((50, 80, 3), np.uint8))
    assert (
        "60 x 80 px, but other.png has 50 x 80"
        in nucbench("look", "other.png", "labels/image.mat", folder=place, status=1).stderr
    )
    assert "no file for image 'other'" in nucbench("look", "other.png", "labels", folder=place, status=1).stderr


@pytest.mark.slow
def test_a_model_finds_the_nuclei(place: Path) -> None:
    done = nucbench("look", "image.png", folder=place)
    assert "image.png: " in done.stdout
    assert "no scale bar" in done.stdout


@pytest.mark.slow
def test_pictures_are_no_images_to_predict(place: Path) -> None:
    nucbench("look", "image.png", "labels", folder=place)
    done = nucbench("predict", "default", ".", "--out", "out", "--magnification", "40", folder=place)
    assert "skipped 1 files that are results of an earlier call: image_look.png" in done.stdout
    assert (place / "out/image.mat").exists()


def test_a_slide_is_left_to_predict(place: Path) -> None:
    (place / "a.svs").write_bytes(b"")
    done = nucbench("look", "a.svs", folder=place, status=2)
    assert "`nucbench predict default a.svs`" in done.stderr
