"""`nucbench predict` as people call it: folders, patterns, second calls, kills; nothing of theirs is lost."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import tifffile
from command_line import nucbench, start, wait_until
from filelock import FileLock

from benchmark.commands.cli import main
from benchmark.host.outputs import check_outputs
from benchmark.inference import images as predict_images
from datamodules.reading.files import read_instances, write_mat, write_rgb
from datamodules.synthetic.images import generate
from postproc.errors import ConfigError

MODEL = "default"
"""Comes with nucbench, so that nothing is trained."""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with three small images and a note."""
    folder = tmp_path / "images"
    for number in range(3):
        write_rgb(folder / f"img{number}.png", generate((96, 96), np.random.default_rng(number))[0])
    (folder / "notes.txt").write_text("mine")
    return folder


def predict(*words: str | Path) -> int:
    return main(["predict", MODEL, *map(str, words), "--no-progress"])


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return bytes and time of every file; the summary is written anew by each call."""
    files = [path for path in folder.iterdir() if not path.name.startswith(".")]
    times = {path: path.stat().st_mtime_ns if path.name != "summary.csv" else 0 for path in files}
    return {path.name: (path.read_bytes(), time) for path, time in times.items()}


def rows(folder: Path) -> list[str]:
    with (folder / "summary.csv").open(newline="") as file:
        return [row["image"] for row in csv.DictReader(file)]


class TestNothingOfTheUsers:
    """Files that predict has not written stay as they are."""

    def test_results_beside_the_images(self, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = content(images)
        assert predict(images, "--out", images) == 0
        after = content(images)
        assert {name: after[name] for name in before} == before
        assert {"img0_overlay.png", "img0.mat", "img0.geojson", "summary.csv"} <= set(after)
        assert predict(images, "--out", images) == 0  # the overlays are no images to work on
        assert content(images) == after
        assert rows(images) == ["img0.png", "img1.png", "img2.png"]
        assert "3 of 3 images are done already" in capsys.readouterr().out

    @pytest.mark.parametrize("link", [False, True])
    def test_a_large_image_is_no_label_map(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], link: bool
    ) -> None:
        out = tmp_path / "slides"
        out.mkdir()
        tifffile.imwrite(out / "big.tif", generate((96, 96), np.random.default_rng(0))[0], photometric="rgb")
        if link:
            (tmp_path / "link").symlink_to(out)
        before = content(out)
        monkeypatch.setattr(predict_images, "LARGE", 1000)
        assert predict(out / "big.tif", "--out", tmp_path / "link" if link else out) == 2
        assert content(out) == before
        (line,) = capsys.readouterr().err.splitlines()
        assert "big.tif would be overwritten" in line
        assert "another --out" in line

    @pytest.mark.parametrize("name", ["img0.mat", "img0_overlay.png", "summary.csv"])
    def test_files_that_predict_has_not_written(
        self, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
    ) -> None:
        out = tmp_path / "out"
        out.mkdir()
        (out / name).write_text("mine")
        assert predict(images / "img0.png", "--out", out) == 2
        assert (out / name).read_text() == "mine"
        assert f"{name} exists and was not written" in capsys.readouterr().err

    def test_results_of_another_image_of_the_same_name(
        self, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out, other = tmp_path / "out", tmp_path / "other"
        assert predict(images / "img0.png", "--out", out) == 0
        before = content(out)
        other.mkdir()
        shutil.copy(images / "img1.png", other / "img0.png")
        assert predict(other / "img0.png", "--out", out) == 2
        assert content(out) == before
        assert "another image named img0" in capsys.readouterr().err
        shutil.copy(images / "img0.png", other / "img0.png")  # the same image elsewhere is done
        assert predict(other / "img0.png", "--out", out) == 0
        assert content(out) == before

    def test_inputs_are_known_under_any_spelling(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_text("")
        (tmp_path / "hard.png").hardlink_to(tmp_path / "a.png")
        (tmp_path / "soft.png").symlink_to("a.png")
        for name in ("a.png", "hard.png", "soft.png", "../" + tmp_path.name + "/a.png"):
            with pytest.raises(ConfigError, match=r"a\.png would be overwritten"):
                check_outputs([tmp_path / name], [tmp_path / "a.png"])
        check_outputs([tmp_path / "b.png"], [tmp_path / "a.png", tmp_path / "missing"])

    def test_scores_do_not_replace_label_maps(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        truth = generate((64, 64), np.random.default_rng(0))[1]
        for folder in ("truth", "mine"):
            write_mat(tmp_path / folder / "a.mat", truth)
        before = (tmp_path / "truth/a.mat").read_bytes()
        words = ["score", "--truth", tmp_path / "truth", "--predictions", tmp_path / "mine"]
        assert main([*map(str, words), "--out", str(tmp_path / "truth/a.mat")]) == 2
        assert (tmp_path / "truth/a.mat").read_bytes() == before
        assert "would be overwritten" in capsys.readouterr().err


class TestWhatPeopleGive:
    """Folders, patterns, files; good and bad."""

    def test_a_folder_with_a_bad_file_and_a_missing_one(
        self, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (images / "img1.png").write_bytes((images / "img1.png").read_bytes()[:300])
        assert predict(images, tmp_path / "missing.png", "--out", tmp_path / "out") == 1
        shown = capsys.readouterr().err
        assert "img1.png: cannot be read" in shown
        assert "not found" in shown
        assert "2 of 4 images failed" in shown
        assert rows(tmp_path / "out") == ["img0.png", "img2.png"]

    def test_a_pattern_in_quotes_and_a_second_call(
        self, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "out"
        assert predict(images / "img[01].*", "--out", out) == 0
        first = content(out)
        capsys.readouterr()
        assert predict(images, "--out", out) == 0
        shown = capsys.readouterr().out
        assert "2 of 3 images are done already (repeat them with --again): img0.png, img1.png" in shown
        assert rows(out) == ["img0.png", "img1.png", "img2.png"]
        second = content(out)
        assert {name: second[name] for name in first if name != "summary.csv"} == {
            name: value for name, value in first.items() if name != "summary.csv"
        }
        write_rgb(images / "img1.png", generate((96, 96), np.random.default_rng(9))[0])
        assert predict(images, "--out", out) == 0  # the changed image alone is done anew
        third = content(out)
        changed = {name for name in second if third[name] != second[name]} - {"summary.csv"}
        assert changed == {"img1.mat", "img1.geojson", "img1_overlay.png"}
        assert predict(images / "img0.png", "--out", out, "--again") == 0
        assert content(out)["img0.mat"][1] != third["img0.mat"][1]
        assert rows(out) == ["img0.png", "img1.png", "img2.png"]

    @pytest.mark.parametrize(("word", "status"), [("nothing/*.png", 2), ("empty", 1), ("nothing.png", 2)])
    def test_nothing_to_work_on(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str, status: int
    ) -> None:
        (tmp_path / "empty").mkdir()
        assert predict(tmp_path / word, "--out", tmp_path / "out") == status
        assert word in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    def test_two_images_of_one_name(self, images: Path, tmp_path: Path) -> None:
        shutil.copy(images / "img0.png", tmp_path / "img0.png")
        assert predict(images, tmp_path / "img0.png", "--out", tmp_path / "out") == 2

    @pytest.mark.parametrize("magnification", ["-20", "0", "400", "1e-9", "nan", "inf"])
    def test_impossible_magnifications(
        self, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], magnification: str
    ) -> None:
        assert predict(images, "--out", tmp_path / "out", f"--magnification={magnification}") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "--magnification is" in line
        assert "1 to 200" in line or magnification in ("nan", "inf")  # which are no numbers

    def test_a_magnification_in_the_file_is_used(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        pixels = generate((96, 96), np.random.default_rng(0))[0]
        description = "Aperio Image Library v11.2.1 96x96 |AppMag = 20|MPP = 0.5"
        tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", description=description)
        maps = {}
        for name, words in {
            "file": [],
            "20": ["--magnification", "20"],
            "0.5": ["--mpp", "0.5"],
            "40": ["--mpp", "0.25"],
        }.items():
            assert predict(tmp_path / "a.tif", "--out", tmp_path / name, *words) == 0
            maps[name] = read_instances(tmp_path / name / "a.mat").labels
            shown = capsys.readouterr().out
            assert ("a.tif: the file states 20x, rescaled to the model's 40x" in shown) == (name == "file")
            assert ("a.tif: the file states 20x; read as 40x, as given" in shown) == (name == "40")
        np.testing.assert_array_equal(maps["file"], maps["20"])
        np.testing.assert_array_equal(maps["file"], maps["0.5"])
        assert not np.array_equal(maps["file"], maps["40"])

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--mpp", "0.25", "--magnification", "40"], "not both"),
            (["--mpp", "250"], "--mpp is 250; give the microns per pixel"),
        ],
    )
    def test_impossible_microns_per_pixel(
        self, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
    ) -> None:
        assert predict(images, "--out", tmp_path / "out", *words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line

    def test_a_file_that_contradicts_itself_needs_the_magnification(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        pixels = generate((96, 96), np.random.default_rng(0))[0]
        tifffile.imwrite(
            tmp_path / "a.tif", pixels, photometric="rgb", description="Aperio Image Library |AppMag = 20|MPP = 0.25"
        )
        assert predict(tmp_path / "a.tif", "--out", tmp_path / "out") == 1
        assert (
            "20x and 0.25 microns per pixel, which contradict each other. State it: --magn" in capsys.readouterr().err
        )
        assert predict(tmp_path / "a.tif", "--out", tmp_path / "out", "--magnification", "40") == 0

    def test_no_nuclei_have_a_comment(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for number in range(2):
            write_rgb(tmp_path / f"white{number}.png", np.full((96, 96, 3), 255, np.uint8))
        assert predict(tmp_path / "white0.png", tmp_path / "white1.png", "--out", tmp_path / "out") == 0
        assert "no nuclei in 2 of 2 images: is the magnification right?" in capsys.readouterr().err

    @pytest.mark.parametrize("name", ["out", "images"])  # a folder of their own, and that of the images
    def test_score_takes_what_predict_writes(
        self, tmp_path: Path, images: Path, name: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / name
        assert predict(images, "--out", out) == 0
        for number in range(3):
            write_mat(tmp_path / f"truth/img{number}.mat", generate((96, 96), np.random.default_rng(number))[1])
        scores = tmp_path / "scores.csv"
        words = ["score", "--truth", tmp_path / "truth", "--predictions", out, "--out", scores]
        assert main([*map(str, words)]) == 0
        with scores.open() as file:
            assert [row["image"] for row in csv.DictReader(file)] == ["img0", "img1", "img2", "all"]


class TestKilled:
    """The same command ends what a killed one began."""

    @pytest.mark.slow
    def test_a_killed_folder_is_taken_up_again(self, images: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        for number in range(3, 8):
            write_rgb(images / f"img{number}.png", generate((400, 400), np.random.default_rng(number))[0])
        words = ("predict", MODEL, images, "--out", out, "--no-progress")
        before = "import benchmark.results.prediction_folder as f; f.SAVE_SECONDS = 0"
        process = start(*words, folder=tmp_path, before=before)  # its workers end with it
        wait_until(lambda: (out / "summary.csv").exists(), process)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        done = len(rows(out))
        assert done < 8, "the command ended before it was killed"
        (out / ".nucbench-predict-abcd1234").mkdir()  # a kill at another time leaves these
        (out / ".nucbench-predict-abcd1234/distance.raw").write_bytes(bytes(100))
        (out / ".img7.geojson.abcd1234.part").write_bytes(b"half")
        (out / ".img7-abcd1234.mat").write_bytes(b"half")
        (out / ".mine.abcd1234.part").write_bytes(b"whole")
        again = nucbench(*words, folder=tmp_path)
        assert f"{done} of 8 images are done already" in again.stdout
        assert rows(out) == [f"img{number}.png" for number in range(8)]
        hidden = {path.name for path in out.iterdir() if path.name.startswith(".")}
        assert hidden == {".lock", ".predictions.json", ".mine.abcd1234.part"}
        assert read_instances(out / "img7.mat").shape == (400, 400)

    def test_a_folder_that_another_process_writes(
        self, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        left = tmp_path / "out" / ".nucbench-predict-abcd1234"
        left.mkdir(parents=True)
        with FileLock(tmp_path / "out" / ".lock"):
            assert predict(images, "--out", tmp_path / "out") == 2
        assert "another process is predicting into" in capsys.readouterr().err
        assert left.exists()

    @pytest.mark.parametrize("text", ["", "{}", '{"format": 1, "images": {"a": {"files": ["../a"]}}}', "[" * 9])
    def test_a_broken_ledger_is_named(
        self, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
    ) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out/.predictions.json").write_text(text)
        assert predict(images, "--out", tmp_path / "out") == 1
        assert ".predictions.json" in capsys.readouterr().err


def test_ledger_is_of_use_to_people(images: Path, tmp_path: Path) -> None:
    assert predict(images / "img0.png", "--out", tmp_path / "out") == 0
    entry = json.loads((tmp_path / "out/.predictions.json").read_text())["images"]["img0"]
    assert entry["files"] == ["img0.mat", "img0_overlay.png", "img0.geojson"]
    assert entry["source"] == os.fspath(images / "img0.png")
    assert entry["nuclei"] == read_instances(tmp_path / "out/img0.mat").count
