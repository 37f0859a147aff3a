"""Whole slides give the nuclei of the same pixels in a plain image, in little memory, also after an interruption."""

from __future__ import annotations

import csv
import gzip
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from command_line import environment, nucbench, start, wait_until
from shapely import STRtree
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from benchmark.commands.cli import main
from benchmark.forward.scaling import rescale
from benchmark.inference.large import LargeImage, found_nuclei, predict_large
from benchmark.inference.nuclei import Nuclei
from benchmark.inference.slides import SlideOptions, predict_slide, reduced
from datamodules.reading.files import read_rgb, write_rgb
from datamodules.reading.rasters import ArrayRaster
from datamodules.reading.slide_files import OpenSlideFile, TiffSlideFile
from datamodules.reading.slides import Slide
from datamodules.synthetic.images import generate
from models.dist import DIST
from tests.helpers.eager import SETTINGS, eager
from tests.helpers.sparse_slide import write_sparse_slide

Write = Callable[..., None]
IMAGE = generate((500, 580), np.random.default_rng(4), density=8e-4)[0]
ALL = SlideOptions(mask=False)


@pytest.fixture(scope="module")
def method() -> DIST:
    return eager()


def predicted(method: DIST, path: Path, out: Path, options: SlideOptions = ALL, **how: Any) -> list[dict[str, Any]]:
    """Predict a slide and return its features."""
    how = {"trained": 40.0, "given": None, "workers": 0, **how}
    predict_slide(method, "dist", method.codec.defaults(), path, SETTINGS, out, options=options, **how)
    return features(out / f"{path.stem}.geojson")


def features(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text())["features"]
    return found


def as_plain_image(method: DIST, out: Path, factor: float = 1.0) -> list[dict[str, Any]]:
    """Predict the pixels of the slide as those of a large image."""
    raster, params = ArrayRaster(IMAGE), method.codec.defaults()
    predict_large(method, "dist", params, raster, SETTINGS, out, "plain", factor=factor, workers=0)
    return features(out / "plain.geojson")


def outlines(found: list[dict[str, Any]]) -> list[Any]:
    return [each["geometry"] for each in found]


def write_ome(path: Path, image: np.ndarray[Any, Any], mpp: float) -> None:
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        sizes = {"PhysicalSizeX": mpp, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": mpp, "PhysicalSizeYUnit": "µm"}
        kinds: dict[str, Any] = {"tile": (128, 128), "photometric": "rgb", "compression": "zlib"}
        file.write(image, subifds=1, metadata={"axes": "YXS", **sizes}, **kinds)
        file.write(image[::2, ::2], subfiletype=1, **kinds)


@pytest.mark.parametrize("mpp", [0.25, 0.5])  # the model is of 0.25: as it is, and enlarged
@pytest.mark.parametrize("kind", ["svs", "ome.tif"])
def test_nuclei_are_those_of_the_same_px_in_a_plain_image(
    write_slide: Write, method: DIST, tmp_path: Path, kind: str, mpp: float
) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "svs":
        write_slide(path, IMAGE, about=f"|MPP = {mpp}")
    else:
        write_ome(path, IMAGE, mpp)
    found = predicted(method, path, tmp_path)
    assert outlines(found) == outlines(as_plain_image(method, tmp_path, mpp / 0.25))
    assert len(found) > 50
    with (tmp_path / f"{path.stem}.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found)
    for row, feature in zip(rows, found, strict=True):
        polygon = shape(feature["geometry"])
        assert polygon.is_valid
        assert float(row["x"]) == pytest.approx(polygon.centroid.x - 0.5, abs=0.006)
        assert float(row["y"]) == pytest.approx(polygon.centroid.y - 0.5, abs=0.006)
        assert int(row["area"]) == polygon.area == feature["properties"]["measurements"]["Area px^2"]
        assert float(row["area_um2"]) == pytest.approx(polygon.area * mpp**2, abs=1e-3)
        assert feature["properties"]["measurements"]["Area µm^2"] == pytest.approx(polygon.area * mpp**2, abs=1e-3)
        assert float(row["perimeter_um"]) == pytest.approx(float(row["perimeter"]) * mpp, abs=0.01)
    assert sorted(p.name for p in tmp_path.glob(".*")) == []  # nothing is left of the work


@pytest.mark.parametrize(("factor", "difference"), [(1.0, 0), (0.5, 1), (0.25, 2), (0.2, 4)])
def test_regions_are_reduced_from_the_best_level(
    write_slide: Write, tmp_path: Path, factor: float, difference: float
) -> None:
    write_slide(tmp_path / "a.svs", IMAGE)
    with Slide(tmp_path / "a.svs") as slide:
        level, small = slide.raster(factor), reduced(slide, factor)
        assert level.shape == (IMAGE.shape[:2] if factor > 0.25 else (IMAGE.shape[0] // 4, IMAGE.shape[1] // 4))
        found = small.read(0, 0, *small.shape)
    expected = rescale(IMAGE, factor, 1.0)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() <= difference


def test_only_tiles_with_tissue_are_computed(write_slide: Write, method: DIST, tmp_path: Path) -> None:
    write_slide(tmp_path / "a.svs", IMAGE, about="|MPP = 0.25")
    mask = np.zeros((50, 58, 3), np.uint8)
    mask[:, :24] = 255  # the left 240 px
    write_rgb(tmp_path / "tissue.png", mask)
    everything = outlines(predicted(method, tmp_path / "a.svs", tmp_path))
    some = outlines(predicted(method, tmp_path / "a.svs", tmp_path, SlideOptions(tissue=tmp_path / "tissue.png")))
    left = [each for each in everything if shape(each).bounds[2] < 240]
    assert len(left) > 20
    assert sum(each in some for each in left) >= len(left) - 2  # none or few touch nuclei beyond the last tile
    assert max(shape(each).bounds[2] for each in some) < 400
    assert 0.3 * len(everything) < len(some) < 0.8 * len(everything)


def test_glass_is_left_out_and_the_picture_shows_the_tissue(
    write_slide: Write, method: DIST, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    canvas = np.full((2048, 2048, 3), (243, 241, 244), np.uint8)
    canvas[200:700, 300:880] = IMAGE
    write_slide(tmp_path / "a.svs", canvas, about="|MPP = 0.5", levels=(1, 4, 16))
    found = predicted(method, tmp_path / "a.svs", tmp_path, SlideOptions(gzip=False), trained=20.0)
    assert len(found) > 50
    bounds = np.array([shape(each).bounds for each in outlines(found)])
    assert bounds.min() > 100
    assert bounds.max() < 1500
    share = 500 * 580 / 2048**2
    said = capsys.readouterr().out
    assert "a.svs: 2,048 x 2,048 px at 0.5 microns per px; " in said
    assert share < float(said.split("; ")[1].split("%")[0]) / 100 < 1.6 * share  # with a margin of 2 px of 16 microns
    picture = cv2.imread(str(tmp_path / "a_overlay.png"))[..., ::-1].astype(int)
    assert max(picture.shape) == 2000
    drawn = np.abs(picture - cv2.resize(canvas, picture.shape[1::-1], interpolation=cv2.INTER_AREA)).sum(axis=2) > 60
    assert drawn[200:680, 290:860].mean() > 0.01  # dots of nuclei
    assert drawn[:, 1500:].mean() == 0


def test_compressed_outlines_are_the_same(write_slide: Write, method: DIST, tmp_path: Path) -> None:
    write_slide(tmp_path / "a.svs", IMAGE[:256, :256], about="|MPP = 0.25")
    predicted(method, tmp_path / "a.svs", tmp_path)
    options = SlideOptions(mask=False, gzip=True)
    how: dict[str, Any] = {"trained": 40.0, "given": None, "workers": 0}
    params = method.codec.defaults()
    predict_slide(method, "dist", params, tmp_path / "a.svs", SETTINGS, tmp_path, options=options, **how)
    assert gzip.decompress((tmp_path / "a.geojson.gz").read_bytes()) == (tmp_path / "a.geojson").read_bytes()


def test_openslide_reads_the_same_px(write_slide: Write, tmp_path: Path) -> None:
    pytest.importorskip("openslide")
    write_slide(tmp_path / "a.svs", IMAGE, about="|AppMag = 20|MPP = 0.46")
    one, other = TiffSlideFile(tmp_path / "a.svs"), OpenSlideFile(tmp_path / "a.svs")
    assert (one.sizes, one.power, one.sides) == (other.sizes, other.power, other.sides)
    np.testing.assert_allclose(one.downsamples, other.downsamples, rtol=0.01)
    for level, scale in enumerate((1, 4)):
        where = (40 * scale, 20 * scale), level, (60, 50)
        np.testing.assert_array_equal(one.read(*where), other.read(*where))
    one.close()
    other.close()


class TestInterrupted:
    """The same call takes up the work, and ends with the same nuclei."""

    @staticmethod
    def work(method: DIST, folder: Path, name: str = "a", most: int | None = None) -> tuple[list[str], np.ndarray]:
        image = LargeImage("a", ArrayRaster(IMAGE), IMAGE.shape[:2], about={"image": name})
        with found_nuclei(method, "dist", method.codec.defaults(), image, SETTINGS, folder, workers=0) as (found, _):
            texts, sizes = list(found.texts()), found.sizes[found.order]
            if most is not None:
                raise KeyboardInterrupt
        return texts, sizes

    def test_tiles_and_regions_are_not_computed_again(self, tmp_path: Path) -> None:
        method, folder = eager(), tmp_path / "work"
        expected = self.work(method, folder)
        assert not folder.exists()
        with pytest.raises(KeyboardInterrupt):
            self.work(method, folder, most=0)
        tiles, regions = folder / "tiles.jsonl", folder / "regions.jsonl"
        kept = tiles.read_text().splitlines(keepends=True)
        assert len(kept) == len(set(kept)) > 6
        tiles.write_text("".join(kept[:-2]) + kept[-2][:5])  # killed while it wrote a line
        assert regions.read_text().count("\n") == 1
        regions.write_text(regions.read_text()[:-20])
        passes = []
        method.register_forward_hook(lambda *_: passes.append(1))
        texts, sizes = self.work(method, folder)
        assert len(passes) == 1  # both tiles that were not recorded, in one batch
        assert texts == expected[0]
        np.testing.assert_array_equal(sizes, expected[1])
        assert not folder.exists()

    def test_regions_that_are_recorded_are_read_back(self, tmp_path: Path) -> None:
        method, folder = eager(), tmp_path / "work"
        expected = self.work(method, folder)
        with pytest.raises(KeyboardInterrupt):
            self.work(method, folder, most=0)
        recorded = (folder / "regions.jsonl").read_text()
        with (folder / "outlines.jsonl").open("a") as file:
            file.write("killed before the region was recorded")
        stored = Nuclei(folder)
        stored.finish()
        assert list(stored.texts()) == expected[0]
        np.testing.assert_array_equal(stored.sizes[stored.order], expected[1])
        stored.close()
        assert self.work(method, folder)[0] == expected[0]
        assert recorded.count("\n") == 1

    @pytest.mark.parametrize("change", ["image", "head"])
    def test_work_on_something_else_is_not_taken_up(self, tmp_path: Path, change: str) -> None:
        method, folder = eager(), tmp_path / "work"
        expected = self.work(method, folder)[0]
        with pytest.raises(KeyboardInterrupt):
            self.work(method, folder, name="b" if change == "image" else "a", most=0)
        if change == "head":
            (folder / "work.json").write_text("{")
        passes = []
        method.register_forward_hook(lambda *_: passes.append(1))
        assert self.work(method, folder)[0] == expected
        assert len(passes) > 1

    @pytest.mark.slow
    def test_a_killed_command(self, write_slide: Write, tmp_path: Path) -> None:
        canvas = np.full((2400, 2400, 3), (243, 241, 244), np.uint8)
        canvas[700:1200, 700:1280] = canvas[1500:2000, 1500:2080] = IMAGE
        write_slide(tmp_path / "a.svs", canvas, levels=(1, 4, 16))
        words = ("predict", "default", "a.svs", "--no-progress", "--out")
        nucbench(*words, "whole", folder=tmp_path)
        process = start(*words, "killed", folder=tmp_path)
        tiles = tmp_path / "killed/.nucbench-work-a/tiles.jsonl"
        wait_until(lambda: tiles.exists() and bool(tiles.read_text()), process)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        assert not (tmp_path / "killed/a.geojson").exists()
        assert tiles.exists()
        nucbench(*words, "killed", folder=tmp_path)
        assert not tiles.exists()
        results = ["a.csv", "a.geojson", "a_overlay.png", "summary.csv"]
        assert sorted(p.name for p in (tmp_path / "whole").iterdir() if p.name[0] != ".") == results
        for name in results:
            assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()


class TestErrors:
    """They name the file and the remedy, and leave nothing."""

    @staticmethod
    def run(folder: Path, *words: str | Path) -> int:
        return main(["predict", "default", *map(str, words), "--out", str(folder / "out"), "--no-progress"])

    @pytest.mark.parametrize("about", ["", "|MPP = 0", "|MPP = 1.0", "|MPP = 6", "|MPP = 352.8", "|MPP = -0.25"])
    def test_the_size_of_px_is_missing_or_nonsense(
        self, write_slide: Write, tmp_path: Path, about: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_slide(tmp_path / "a.svs", IMAGE[:256, :256], about=about)
        assert self.run(tmp_path, tmp_path / "a.svs") == 1
        said = capsys.readouterr().err
        assert "a.svs: " in said
        assert "--magnification 40, or --mpp 0.25" in said
        left = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert left == [".lock", ".predictions.json"]
        if about == "|MPP = 1.0":
            assert self.run(tmp_path, tmp_path / "a.svs", "--mpp", "0.25") == 0
            with (tmp_path / "out/a.csv").open() as file:
                first = next(csv.DictReader(file))
            assert float(first["area_um2"]) == pytest.approx(int(first["area"]) / 16, abs=1e-3)

    def test_a_damaged_slide(self, write_slide: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write_slide(tmp_path / "a.svs", IMAGE)
        whole = (tmp_path / "a.svs").read_bytes()
        (tmp_path / "short.svs").write_bytes(whole[: len(whole) // 2])
        with tifffile.TiffFile(tmp_path / "a.svs") as file:
            page = file.pages.first
            middle, size = page.dataoffsets[5], page.databytecounts[5]
        (tmp_path / "spoilt.svs").write_bytes(whole[:middle] + bytes(size) + whole[middle + size :])
        (tmp_path / "text.svs").write_text("not a slide")
        (tmp_path / "a.svs").unlink()
        assert self.run(tmp_path, tmp_path) == 1
        said = capsys.readouterr().err
        for name in ("short.svs", "spoilt.svs", "text.svs"):
            assert f"{name}: " in said
        assert said.count("copy or download it again") == 3
        assert len(said.splitlines()) == 4  # one each, and how many failed: nothing of the libraries
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".lock", ".predictions.json"]

    def test_mirax_without_openslide(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        monkeypatch.setitem(sys.modules, "openslide", None)  # as if it were not installed
        (tmp_path / "a.mrxs").write_bytes(b"1")
        assert self.run(tmp_path, tmp_path / "a.mrxs") != 0
        assert "pip install 'nucbench[openslide]'" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--tissue", "none.png"], "none.png does not exist"),
            (["--tissue", "flat.png"], "do not have the proportions of the slide"),
            (["--tissue", "torn.png"], "torn.png: "),
            (["--tissue", "flat.png", "--no-tissue-mask"], "either --tissue or --no-tissue-mask"),
        ],
    )
    def test_masks(
        self, write_slide: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
    ) -> None:
        write_slide(tmp_path / "a.svs", IMAGE[:256, :256])
        write_rgb(tmp_path / "flat.png", np.full((20, 40, 3), 255, np.uint8))
        (tmp_path / "torn.png").write_bytes((tmp_path / "flat.png").read_bytes()[:40])
        assert self.run(tmp_path, tmp_path / "a.svs", words[0], tmp_path / words[1], *words[2:]) != 0
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()  # found before the model is loaded


@pytest.mark.real_data
@pytest.mark.slow
def test_real_images_as_a_slide(write_slide: Write, data_root: Path, tmp_path: Path) -> None:
    path = sorted((data_root / "kumar/test_same/Images").glob("*.tif"))[0]
    image = read_rgb(path)
    canvas = np.full((1600, 1700, 3), (243, 241, 244), np.uint8)
    canvas[300 : 300 + image.shape[0], 400 : 400 + image.shape[1]] = image
    write_slide(tmp_path / "a.svs", canvas, levels=(1, 4, 16))
    write_rgb(tmp_path / "b.png", canvas)
    assert main(["predict", "default", str(tmp_path), "--out", str(tmp_path / "out"), "--no-progress"]) == 0
    slide, plain = ([shape(each) for each in outlines(features(tmp_path / f"out/{stem}.geojson"))] for stem in "ab")
    assert len(slide) == len(plain) > 200
    # tiles differ, and thus the last bits of bf16 maps: pixels at the edges of some nuclei
    found = np.sort([max(iou(each, plain[near]) for near in STRtree(plain).query(each)) for each in slide])
    assert found[0] > 0.5
    assert np.quantile(found, 0.1) > 0.95
    assert np.median(found) > 0.99


def iou(one: BaseGeometry, other: BaseGeometry) -> float:
    """Return the intersection over union of two polygons."""
    shared = one.intersection(other).area
    return float(shared / (one.area + other.area - shared))


ROOT = Path(__file__).parents[3]
LIMIT = 4 << 30
"""Bytes of memory of all processes together for a slide of 106,496 x 81,920 px."""
MEASURED = """
import resource, sys
from dataclasses import replace
from pathlib import Path
from benchmark.inference.slides import SlideOptions, predict_slide
from tests.helpers.eager import SETTINGS, eager

method, settings = eager(), replace(SETTINGS, tile=None)
found = predict_slide(
    method, "dist", method.codec.defaults(), Path(sys.argv[1]), settings, Path(sys.argv[2]), options=SlideOptions(),
    trained=40.0, given=None, workers=1,
)
status = Path("/proc/self/status").read_text()
own = int(status.split("VmHWM:")[1].split()[0])
print(found.nuclei, own + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_bounded_for_a_whole_slide(tmp_path: Path) -> None:
    spot = generate((1400, 1400), np.random.default_rng(0), density=8e-4)[0]
    write_sparse_slide(tmp_path / "a.svs", (81_920, 106_496), {(8192, 8192): spot, (73_728, 98_304): spot}, 0.25)
    words = [sys.executable, "-c", MEASURED, str(tmp_path / "a.svs"), str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), cwd=ROOT, check=True)
    nuclei, kilobytes = map(int, done.stdout.split()[-2:])
    assert 1024 * kilobytes < LIMIT
    found = features(tmp_path / "out/a.geojson")
    assert len(found) == nuclei > 0
    corners = np.array([shape(each).bounds[:2] for each in outlines(found)])
    first = (corners < 12_000).all(axis=1)
    second = (corners > [98_000, 73_000]).all(axis=1)
    assert first.any()
    assert second.any()
    assert (first | second).all()
