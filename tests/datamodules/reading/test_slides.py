"""Whole slides: magnification from odd metadata, exact tiles, little memory, hostile files."""

from __future__ import annotations

import struct
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

from datamodules.reading.slides import Slide, tissue_share
from datamodules.synthetic.images import generate
from postproc.errors import ConfigError, DataError

Write = Callable[..., None]
IMAGE = generate((1000, 1300), np.random.default_rng(0))[0]


@pytest.fixture(scope="module")
def slide(write_slide: Write, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slide]:
    path = tmp_path_factory.mktemp("slides") / "TCGA-AA-0001-01Z-00-DX1.svs"
    write_slide(path, IMAGE)
    with Slide(path) as opened:
        yield opened


def test_facts(slide: Slide) -> None:
    assert (slide.name, slide.size, slide.magnification) == ("TCGA-AA-0001-01Z-00-DX1", (1300, 1000), 40.0)
    assert [slide.grid(level, 200) for level in (40, 20, 10, 5)] == [(6, 5), (3, 2), (1, 1), (0, 0)]
    assert [slide.level(level) for level in (40, 20, 10, 5)] == [0, 0, 1, 1]
    assert [slide.has(level) for level in (80, 40, 10)] == [False, True, True]


@pytest.mark.parametrize(("magnification", "difference"), [(40, 0), (20, 0), (10, 1)])
def test_tiles_are_the_mean_over_the_area_of_each_px(slide: Slide, magnification: int, difference: int) -> None:
    step = 40 // magnification
    for column, row in ((0, 0), (1, 1)):
        if magnification == 10 and column:
            continue  # one tile is all that fits
        corner = slide.corner(magnification, 200, column, row)
        tile = slide.tile(magnification, 200, corner)
        x, y = corner
        window = IMAGE[y : y + 200 * step, x : x + 200 * step]
        expected = cv2.resize(window, (200, 200), interpolation=cv2.INTER_AREA)
        # at 10x the level was rounded once before
        assert np.abs(tile.astype(int) - expected).max() <= difference


def test_every_tile_of_the_grid_is_whole(write_slide: Write, tmp_path: Path) -> None:
    write_slide(tmp_path / "odd.svs", np.full((1001, 1303, 3), 200, np.uint8))
    with Slide(tmp_path / "odd.svs") as slide:
        for magnification in (37, 13, 9.3):  # no px of a level falls on a px of the tile
            columns, rows = slide.grid(magnification, 96)
            for column, row in ((0, 0), (columns - 1, 0), (0, rows - 1), (columns - 1, rows - 1)):
                tile = slide.tile(magnification, 96, slide.corner(magnification, 96, column, row))
                assert tile.shape == (96, 96, 3)
                assert tile.min() == 200  # padding would be black


@pytest.mark.parametrize(
    ("about", "magnification"),
    [
        ("|AppMag = 20|MPP = 0.5", 20.0),
        ("|AppMag = 40", 40.0),
        ("|MPP = 0.5", 20.0),
        ("|AppMag = 40|MPP = 0.2325", 40.0),  # another camera: the objective counts
        ("|AppMag = 20|MPP = 9000", 20.0),  # resolutions of printers are no size of px
    ],
)
def test_magnification(write_slide: Write, tmp_path: Path, about: str, magnification: float) -> None:
    write_slide(tmp_path / "a.svs", IMAGE[:300, :300], about=about)
    with Slide(tmp_path / "a.svs") as slide:
        assert slide.magnification == pytest.approx(magnification)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ("", "neither objective power nor microns"),
        ("|AppMag = unknown|MPP = nan", "neither objective power nor microns"),
        ("|AppMag = 20|MPP = 0.25", "contradict each other"),
        ("|AppMag = 4000", "is 4000x, not between"),
        ("|MPP = 300", "300 microns per pixel mean a magnification that is 0.0333333x"),
    ],
)
def test_odd_metadata_is_an_error_with_a_remedy(write_slide: Write, tmp_path: Path, about: str, message: str) -> None:
    path = tmp_path / "odd.svs"
    write_slide(path, IMAGE[:300, :300], about=about)
    with pytest.raises(DataError, match=message) as caught:
        Slide(path)
    assert "odd.svs" in str(caught.value)
    assert "--magnification 40, or --mpp 0.25" in str(caught.value)
    with Slide(path, magnification=20.0) as slide:
        assert slide.magnification == 20.0
    with pytest.raises(DataError, match="the magnification given is 5000x"):
        Slide(path, magnification=5000)


def test_generic_tiff_states_its_resolution_in_tags(tmp_path: Path) -> None:
    path = tmp_path / "generic.tif"
    tifffile.imwrite(path, IMAGE, photometric="rgb", resolution=(20_000, 20_000), resolutionunit="CENTIMETER")
    with Slide(path) as slide:
        assert slide.magnification == 20.0
        np.testing.assert_array_equal(slide.tile(20, 64, (64, 0)), IMAGE[:64, 64:128])


def test_px_that_are_not_square(tmp_path: Path) -> None:
    path = tmp_path / "flat.tif"
    tifffile.imwrite(path, IMAGE, photometric="rgb", resolution=(20_000, 40_000), resolutionunit="CENTIMETER")
    with pytest.raises(DataError, match=r"0\.5 x 0\.25 microns, not square"):
        Slide(path)


class TestHostile:
    @pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
    def test_truncated(self, slide: Slide, tmp_path: Path, share: float) -> None:
        content = slide.path.read_bytes()
        (tmp_path / "cut.svs").write_bytes(content[: int(share * len(content))])
        with pytest.raises(DataError, match=r"cut\.svs.*download it again"):
            Slide(tmp_path / "cut.svs")

    @pytest.mark.parametrize(
        ("side", "message"), [(2**31 - 5, "claims 2147483643 x 2147483643 px"), (60_000, "truncated")]
    )
    def test_absurd_size(self, slide: Slide, tmp_path: Path, side: int, message: str) -> None:
        content = bytearray(slide.path.read_bytes())
        with tifffile.TiffFile(slide.path) as file:
            for name in ("ImageWidth", "ImageLength"):
                tag = file.pages.first.tags[name]
                assert tag.dtype == tifffile.DATATYPE.LONG
                content[tag.valueoffset : tag.valueoffset + 4] = struct.pack("<I", side)
        (tmp_path / "absurd.svs").write_bytes(content)
        with pytest.raises(DataError, match=rf"absurd\.svs.*{message}"):
            Slide(tmp_path / "absurd.svs")

    @pytest.mark.parametrize("compression", ["jpeg", "deflate"])
    def test_damaged_tile(self, write_slide: Write, tmp_path: Path, compression: str) -> None:
        path = tmp_path / "damaged.svs"
        write_slide(path, IMAGE[:480, :480], compression=compression)
        with tifffile.TiffFile(path) as file:
            offset, count = file.pages.first.dataoffsets[3], file.pages.first.databytecounts[3]
        content = bytearray(path.read_bytes())
        content[offset : offset + count] = bytes(count)
        path.write_bytes(content)
        with Slide(path) as opened:
            assert opened.tile(40, 200, (0, 0)).shape == (200, 200, 3)
            with pytest.raises(DataError, match=r"damaged\.svs: cannot be read"):
                opened.tile(40, 200, (260, 260))

    @pytest.mark.parametrize("content", [b"", b"hello", bytes(range(256)) * 20])
    def test_no_slide_at_all(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "x.svs").write_bytes(content)
        with pytest.raises(DataError, match=r"x\.svs: not a readable slide"):
            Slide(tmp_path / "x.svs")
        with pytest.raises(DataError, match=r"gone\.svs: no such file"):
            Slide(tmp_path / "gone.svs")

    def test_pixels_of_another_kind(self, tmp_path: Path) -> None:
        for name, array in (("grey.tif", IMAGE[..., 0]), ("deep.tif", IMAGE.astype(np.uint16))):
            tifffile.imwrite(tmp_path / name, array, photometric="rgb" if array.ndim == 3 else "minisblack")
            with pytest.raises(DataError, match="convert it to RGB of 8 bits"):
                Slide(tmp_path / name, magnification=40)

    def test_one_huge_strip(self, tmp_path: Path) -> None:
        path = tmp_path / "strip.tif"
        strip = np.zeros((9500, 9500, 3), np.uint8)
        tifffile.imwrite(path, strip, photometric="rgb", rowsperstrip=9500, compression="zstd")
        with pytest.raises(DataError, match="parts of 9500 x 9500 px, too large"):
            Slide(path, magnification=40)

    def test_no_level_near_the_magnification(self, write_slide: Write, tmp_path: Path) -> None:
        write_slide(tmp_path / "flat.svs", IMAGE[:240, :240], levels=(1,))
        with Slide(tmp_path / "flat.svs") as opened, pytest.raises(DataError, match="convert it to a pyramidal TIFF"):
            opened.tile(0.5, 224, (0, 0))


def test_without_tiffslide_the_error_says_what_to_install(slide: Slide, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiffslide", None)
    with pytest.raises(ConfigError, match=r"pip install 'nucbench\[slides\]'"):
        Slide(slide.path)


def test_memory_does_not_grow_with_the_slide(tmp_path: Path) -> None:
    side, tile = 12_288, 512  # 453 MB of px
    block = np.full((tile, tile, 3), 200, np.uint8)
    about: dict[str, Any] = {"description": "Aperio Image Library v12\r\n1x1|AppMag = 40", "metadata": None}
    path = tmp_path / "large.svs"
    with tifffile.TiffWriter(path) as file:
        blocks = (block for _ in range((side // tile) ** 2))
        shape = (side, side, 3)
        file.write(
            blocks, shape=shape, dtype=np.uint8, tile=(tile, tile), photometric="rgb", compression="zstd", **about
        )
    tracemalloc.start()
    with Slide(path) as opened:
        for k in range(12):
            assert (opened.tile(40, 224, (k * 1000, k * 900)) == 200).all()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40e6


def test_tissue_is_what_has_colour() -> None:
    white = np.full((10, 10, 3), 240, np.uint8)
    pale = np.full((10, 10, 3), (240, 228, 236), np.uint8)  # stained glass: saturation 0.05
    eosin = np.full((10, 10, 3), (230, 180, 210), np.uint8)
    black = np.full((10, 10, 3), (8, 0, 6), np.uint8)  # saturated, but nearly black
    assert [tissue_share(image) for image in (white, pale, eosin, black)] == [0, 0, 1, 0]
    assert tissue_share(np.concatenate([white, eosin, eosin, eosin])) == 0.75
    hsv = cv2.cvtColor(IMAGE.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    assert tissue_share(IMAGE) == pytest.approx(((hsv[..., 1] >= 0.08) & (hsv[..., 2] >= 0.05)).mean(), abs=1e-4)
