"""`nucbench tiles`: what is kept, what a kill leaves, what does not stop the others."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.commands.cli import main
from benchmark.slides.colours import target_colours
from benchmark.slides.cut import TileSettings, make_tiles
from benchmark.slides.journal import Journal, Place
from datamodules.reading.files import read_rgb, write_rgb
from datamodules.reading.slides import Slide, tissue_share
from datamodules.reading.tile_manifest import read_manifest
from datamodules.synthetic.images import generate
from models.base.stain import lab_statistics
from postproc.errors import ConfigError, DataError

Write = Callable[..., None]
SETTINGS = TileSettings((10.0, 20.0, 40.0), size=64, tissue=0.7)
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def slides(write_slide: Write, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two slides of 640 x 512 px whose left parts hold tissue, 40x and 20x."""
    folder = tmp_path_factory.mktemp("slides")
    for number, about in enumerate(("|AppMag = 40|MPP = 0.25", "|AppMag = 20|MPP = 0.5")):
        image = np.full((512, 640, 3), 240, np.uint8)
        image[:, :448] = generate((512, 448), np.random.default_rng(number))[0]
        write_slide(folder / f"TCGA-AA-000{number}-01Z.svs", image, about=about)
    return sorted(folder.iterdir())


def cut(slides: list[Path], out: Path, settings: TileSettings = SETTINGS, **changes: object) -> int:
    return make_tiles(slides, out, settings, progress=False, **changes)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but the lock, by its path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def whole(slides: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tiles")
    assert cut(slides, out) == 0
    return out


def test_tiles_are_those_of_the_slide_with_enough_tissue(slides: list[Path], whole: Path) -> None:
    rows = read_manifest(whole)
    assert rows == sorted(rows, key=lambda r: (r.slide, r.magnification, r.y, r.x))
    assert {str(path.relative_to(whole)) for path in whole.glob("*x/*/*")} == {row.file for row in rows}
    with Slide(slides[0]) as slide:
        for level in SETTINGS.magnifications:
            kept = {(row.x, row.y): row for row in rows if row.slide == slide.name and row.magnification == level}
            columns, down = slide.grid(level, 64)
            for column, row in np.ndindex(columns, down):
                corner = slide.corner(level, 64, column, row)
                tile = slide.tile(level, 64, corner)
                share = tissue_share(tile)
                assert (corner in kept) == (share >= 0.7)
                if corner in kept:
                    assert kept[corner].tissue == pytest.approx(share, abs=1e-6)
                    assert kept[corner].level == slide.level(level)
                    np.testing.assert_array_equal(read_rgb(whole / kept[corner].file), tile)
            assert 0 < len(kept) < columns * down or level == 10
    assert {row.magnification for row in rows if row.slide == "TCGA-AA-0001-01Z"} == {10.0, 20.0}  # a 20x slide


def test_colours_are_those_of_the_target(slides: list[Path], tmp_path: Path) -> None:
    target = generate((90, 90), np.random.default_rng(5))[0]
    write_rgb(tmp_path / "target.png", target)
    colours = target_colours(tmp_path / "target.png")
    wanted = lab_statistics(torch.from_numpy(target.transpose(2, 0, 1)[None] / 255).float())[0]
    torch.testing.assert_close(torch.tensor(colours), wanted, atol=1e-4, rtol=0)
    settings = TileSettings((20.0,), size=64, colours=colours, per_slide=3)
    cut(slides[:1], tmp_path / "out", settings)
    rows = read_manifest(tmp_path / "out")
    assert len(rows) == 3
    for row in rows:
        tile = read_rgb(tmp_path / "out" / row.file)
        moved = lab_statistics(torch.from_numpy(tile.transpose(2, 0, 1)[None] / 255).float())[0]
        torch.testing.assert_close(moved[0], wanted[0], atol=2.0, rtol=0)  # colours outside sRGB are cut
        assert 0.7 <= row.tissue <= 1  # of the slide's own colours


def test_a_number_of_random_places(slides: list[Path], whole: Path, tmp_path: Path) -> None:
    chosen = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        settings = TileSettings((20.0, 40.0), size=64, per_slide=5, seed=seed)
        cut(slides, tmp_path / name, settings)
        rows = read_manifest(tmp_path / name)
        chosen.append({row.file for row in rows})
        assert [sum(r.slide == s.stem and r.magnification == m for r in rows) for s in slides for m in (20, 40)] == [
            5, 5, 5, 0,
        ]  # fmt: skip
    assert chosen[0] == chosen[1] != chosen[2]
    assert chosen[0] <= {row.file for row in read_manifest(whole)}


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_files(slides: list[Path], whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    command = [
        sys.executable,
        "-m",
        "benchmark.commands.cli",
        "tiles",
        *map(str, slides),
        "--out",
        str(out),
        "--size",
        "64",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        journal = out / "journals" / f"{slides[0].stem}.jsonl"
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if journal.exists() and journal.read_bytes().count(b"\n") > 12:
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL, (tmp_path / "log").read_text()
    with journal.open("ab") as file:
        file.write(b'{"magnification": 40.0, "lev')  # as a kill in the middle of a line leaves it
    assert cut(slides, out) == 0
    assert contents(out) == contents(whole)


def test_random_places_go_on_after_an_interruption(
    slides: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TileSettings((20.0, 40.0), size=64, per_slide=9)
    cut(slides, tmp_path / "whole", settings)
    read, count = Slide.tile, iter(range(1000))

    def interrupted(slide: Slide, *arguments: Any) -> Any:
        if next(count) in (3, 8, 14):
            raise KeyboardInterrupt
        return read(slide, *arguments)

    monkeypatch.setattr(Slide, "tile", interrupted)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            cut(slides, tmp_path / "cut", settings)
    assert cut(slides, tmp_path / "cut", settings) == 0
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_what_is_done_is_not_done_again(
    slides: list[Path], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(whole)
    times = {path: path.stat().st_mtime_ns for path in whole.rglob("*.png")}
    monkeypatch.setattr(Slide, "tile", lambda *_: pytest.fail("a tile was read again"))
    assert cut(slides, whole) == 0
    assert contents(whole) == before
    assert times == {path: path.stat().st_mtime_ns for path in whole.rglob("*.png")}


@pytest.mark.slow
def test_several_processes_write_the_same_files(slides: list[Path], whole: Path, tmp_path: Path) -> None:
    assert cut(slides, tmp_path, workers=2) == 0
    assert contents(tmp_path) == contents(whole)


def test_a_slide_that_fails_does_not_stop_the_others(
    slides: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged, silent = tmp_path / "damaged.svs", tmp_path / "gone.svs"
    content = slides[0].read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    out = tmp_path / "out"
    arguments = ["tiles", str(damaged), str(silent), str(slides[0]), "--out", str(out), "--size", "64", "--progress"]
    assert main([*arguments[:-1], "--no-progress", "--magnifications", "10", "20"]) == 1
    errors = capsys.readouterr().err
    assert "damaged.svs" in errors
    assert "gone.svs: file not found" in errors
    assert "2 of 3 slides failed" in errors
    assert {row.slide for row in read_manifest(out)} == {slides[0].stem}
    damaged.write_bytes(content)  # downloaded again
    cut([damaged], out, TileSettings((10.0, 20.0), size=64))
    assert {row.slide for row in read_manifest(out)} == {slides[0].stem, "damaged"}


def test_a_slide_that_was_replaced_is_cut_anew(slides: list[Path], write_slide: Write, tmp_path: Path) -> None:
    path, out = tmp_path / "s.svs", tmp_path / "out"
    settings = TileSettings((40.0,), size=64)
    path.write_bytes(slides[0].read_bytes())
    cut([path], out, settings)
    write_slide(path, generate((256, 320), np.random.default_rng(9))[0])
    cut([path], out, settings)
    rows = read_manifest(out)
    assert {str(file.relative_to(out)) for file in out.rglob("*.png")} == {row.file for row in rows}
    with Slide(path) as slide:
        np.testing.assert_array_equal(read_rgb(out / rows[-1].file), slide.tile(40, 64, (rows[-1].x, rows[-1].y)))


def test_other_settings_need_another_folder(slides: list[Path], whole: Path) -> None:
    with pytest.raises(ConfigError, match=r"made with tissue = 0\.7, not 0\.5; give another --out"):
        cut(slides, whole, TileSettings(SETTINGS.magnifications, size=64, tissue=0.5))


def test_two_slides_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'a'; rename one"):
        cut([tmp_path / "x/a.svs", tmp_path / "y/a.tif"], tmp_path / "out")


@pytest.mark.parametrize(
    "changes",
    [{"size": 4}, {"tissue": 70.0}, {"per_slide": 0}, {"seed": -1}, {"magnifications": (10.0, -20.0)}],
)
def test_settings_that_cannot_work(changes: dict[str, object]) -> None:
    name = next(iter(changes)).replace("_", "-")
    with pytest.raises(ConfigError, match=f"--{name} is .*; give "):
        TileSettings(**{"magnifications": (10.0,), **changes})


def test_a_stated_magnification_replaces_the_file_s(slides: list[Path], tmp_path: Path) -> None:
    arguments = ["tiles", str(slides[0]), "--out", str(tmp_path), "--size", "64", "--no-progress"]
    assert main([*arguments, "--magnification", "20", "--mpp", "0.5"]) == 2
    assert main([*arguments, "--magnification", "20"]) == 0
    assert {row.magnification for row in read_manifest(tmp_path)} == {10.0, 20.0}
    assert main([*arguments, "--mpp", "0.25"]) == 0  # looked at anew
    assert {row.magnification for row in read_manifest(tmp_path)} == {10.0, 20.0, 40.0}
    with (tmp_path / "manifest.csv").open(newline="") as file:
        assert next(csv.reader(file)) == ["slide", "level", "x", "y", "magnification", "tissue", "file"]


def test_a_slide_below_all_magnifications(
    slides: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cut(slides[1:], tmp_path, TileSettings((40.0,), size=64)) == 1
    assert "a slide of 20x has no tiles at 40x" in capsys.readouterr().err
    assert read_manifest(tmp_path) == []


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with Journal(path, {"bytes": 1}) as journal:
        journal.add(Place(40.0, 0, 1, 2, 0.5, False))
    path.write_text(path.read_text().replace('"x"', '"why"'))
    with pytest.raises(DataError, match=r"a\.jsonl: damaged.*delete it"):
        Journal(path, {"bytes": 1})


def test_the_folder_tells_its_settings(whole: Path) -> None:
    assert json.loads((whole / "tiles.json").read_text())["size"] == 64
