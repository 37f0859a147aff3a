"""Images read by region are those read whole; hostile files are refused."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from datamodules.reading import rasters
from datamodules.reading.files import read_instances, read_rgb, write_rgb
from datamodules.reading.rasters import NpyRaster, TiffRaster, image_raster, label_raster
from datamodules.synthetic.images import generate
from postproc.errors import DataError, InputWarning

PIXELS = generate((150, 210), np.random.default_rng(0))[0]

LAYOUTS = {
    "tiled": {"tile": (64, 48), "photometric": "rgb", "compression": "zlib"},
    "jpeg": {"tile": (64, 64), "photometric": "ycbcr", "compression": "jpeg", "compressionargs": {"level": 90}},
    "lzw-predictor": {"tile": (32, 32), "photometric": "rgb", "compression": "lzw", "predictor": True},
    "strips": {"rowsperstrip": 16, "photometric": "rgb", "compression": "zlib"},
    "plain": {"photometric": "rgb"},
    "planes": {"tile": (64, 64), "photometric": "rgb", "planarconfig": "separate"},
    "alpha": {"tile": (64, 64), "photometric": "rgb", "extrasamples": ["unassalpha"]},
    "grey": {"tile": (64, 64), "photometric": "minisblack", "compression": "zlib"},
    "inverted": {"tile": (64, 64), "photometric": "miniswhite"},
}


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_any_region_is_that_of_the_whole_image(layout: str, tmp_path: Path) -> None:
    array = PIXELS
    if layout == "planes":
        array = np.moveaxis(PIXELS, -1, 0)
    elif layout == "alpha":
        array = np.concatenate([PIXELS, PIXELS[..., :1]], axis=2)
    elif layout in ("grey", "inverted"):
        array = PIXELS[..., 0]
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, array, **LAYOUTS[layout])
    whole = read_rgb(path)
    image = TiffRaster(path)
    assert image.shape == (150, 210)
    np.testing.assert_array_equal(image.read(0, 0, 150, 210), whole)
    for box in ((0, 0, 1, 1), (149, 209, 150, 210), (10, 30, 100, 65), (63, 47, 65, 49), (0, 100, 150, 101)):
        np.testing.assert_array_equal(image.read(*box), whole[box[0] : box[2], box[1] : box[3]])
    image.close()


def test_the_first_level_of_a_pyramid_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(PIXELS, tile=(64, 64), photometric="rgb", subifds=1)
        writer.write(PIXELS[::2, ::2], tile=(64, 64), photometric="rgb", subfiletype=1)
    assert image_raster(path).shape == (150, 210)


def test_no_more_tiles_are_kept_than_the_cache_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, tile=(16, 16), photometric="rgb")
    monkeypatch.setattr(rasters, "CACHE", 5 * 16 * 16 * 3)
    image = TiffRaster(path)
    np.testing.assert_array_equal(image.read(0, 0, 150, 210), PIXELS)
    assert len(image._cache) == 5
    np.testing.assert_array_equal(image.read(0, 0, 33, 40), PIXELS[:33, :40])


def test_other_files_and_huge_strips_are_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rgb(tmp_path / "a.png", PIXELS)
    np.testing.assert_array_equal(image_raster(tmp_path / "a.png").read(5, 6, 70, 80), PIXELS[5:70, 6:80])
    tifffile.imwrite(tmp_path / "b.tif", PIXELS, photometric="rgb", rowsperstrip=150)
    monkeypatch.setattr(rasters, "MAX_SEGMENT", 1000)
    with pytest.raises(DataError, match="cannot be read by region"):
        TiffRaster(tmp_path / "b.tif")
    np.testing.assert_array_equal(image_raster(tmp_path / "b.tif").read(5, 6, 70, 80), PIXELS[5:70, 6:80])


@pytest.mark.parametrize("dtype", [np.int32, np.uint16, np.int64])
def test_label_maps_by_region(dtype: type, tmp_path: Path) -> None:
    labels = np.arange(60 * 70).reshape(60, 70).astype(dtype)
    np.save(tmp_path / "c.npy", labels)
    np.save(tmp_path / "f.npy", np.asfortranarray(labels))
    tifffile.imwrite(tmp_path / "t.tif", labels.astype(np.int32), tile=(16, 32), compression="zlib")
    for name in ("c.npy", "f.npy", "t.tif"):
        found = label_raster(tmp_path / name)
        assert found is not None
        assert found.shape == (60, 70)
        np.testing.assert_array_equal(found.read(7, 9, 50, 41), labels[7:50, 9:41])
        found.close()
    (tmp_path / "m.mat").write_bytes(b"x")
    assert label_raster(tmp_path / "m.mat") is None


def test_hostile_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, tile=(64, 64), photometric="rgb", compression="zlib")
    content = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        start, length = file.pages[0].dataoffsets[3], file.pages[0].databytecounts[3]
    damaged = tmp_path / "damaged.tif"
    damaged.write_bytes(content[:start] + b"\xff" * length + content[start + length :])
    image = TiffRaster(damaged)
    with pytest.raises(DataError, match=r"damaged\.tif: cannot be read"):
        image.read(0, 0, 150, 210)
    cut = tmp_path / "cut.tif"
    cut.write_bytes(content[:-100])
    with pytest.raises(DataError, match=r"cut\.tif"):
        TiffRaster(cut)
    (tmp_path / "noise.tif").write_bytes(b"II*\x00" + bytes(range(200)))
    with pytest.raises(DataError, match=r"noise\.tif"):
        image_raster(tmp_path / "noise.tif")
    (tmp_path / "empty.tif").touch()
    with pytest.raises(DataError, match="is empty"):
        image_raster(tmp_path / "empty.tif")
    with pytest.raises(DataError, match="no such file"):
        label_raster(tmp_path / "none.npy")
    tifffile.imwrite(tmp_path / "deep.tif", PIXELS.astype(np.uint16), tile=(64, 64), photometric="rgb")
    with pytest.raises(DataError, match="8 bits"):
        TiffRaster(tmp_path / "deep.tif")
    with pytest.raises(DataError, match="one whole number"):
        TiffRaster(path, labels=True)
    np.save(tmp_path / "pickled.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"pickled\.npy"):
        NpyRaster(tmp_path / "pickled.npy")
    np.save(tmp_path / "float.npy", np.zeros((3, 3)))
    with pytest.raises(DataError, match="whole numbers"):
        NpyRaster(tmp_path / "float.npy")


CHANNELS = {
    "ome": {"ome": True, "metadata": {"axes": "CYX"}, "photometric": "minisblack"},
    "ome-named": {
        "ome": True,
        "metadata": {"axes": "CYX", "Channel": {"Name": ["red", "green", "blue"]}},
        "photometric": "minisblack",
        "tile": (64, 48),
        "compression": "zlib",
    },
    "imagej": {"imagej": True, "metadata": {"axes": "CYX"}, "photometric": "minisblack"},
}


@pytest.mark.parametrize("kind", list(CHANNELS))
def test_pages_that_are_channels_are_one_image(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif" if kind.startswith("ome") else tmp_path / "a.tif"
    tifffile.imwrite(path, np.moveaxis(PIXELS, -1, 0).copy(), **CHANNELS[kind])
    with pytest.warns(InputWarning, match="red, green, blue"):
        np.testing.assert_array_equal(read_rgb(path), PIXELS)
    with pytest.warns(InputWarning, match="red, green, blue"):
        image = TiffRaster(path)
    np.testing.assert_array_equal(image.read(10, 30, 140, 205), PIXELS[10:140, 30:205])
    image.close()


@pytest.mark.parametrize("number", [2, 5])
def test_other_numbers_of_channels_are_refused(number: int, tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    stack = np.repeat(PIXELS[None, ..., 0], number, axis=0)
    names = [f"stain{k}" for k in range(number)]
    tifffile.imwrite(path, stack, ome=True, metadata={"axes": "CYX", "Channel": {"Name": names}})
    for read in (read_rgb, image_raster):
        with pytest.raises(DataError, match=rf"holds {number} channels \(stain0, .*convert it to RGB"):
            read(path)


def test_a_stack_is_read_from_its_first_page_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for number in range(3):
            writer.write(np.roll(PIXELS, number, axis=0), photometric="rgb")
    for read in (read_rgb, image_raster):
        with pytest.warns(InputWarning, match="only the first of 3 pages is read"):
            read(path)
    labels = tmp_path / "labels.tif"
    with tifffile.TiffWriter(labels) as writer:
        for _ in range(2):
            writer.write(np.eye(40, dtype=np.uint16))
    with pytest.warns(InputWarning, match="only the first of 2 pages is read"):
        read_instances(labels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotated_images_are_read_upright(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    with Image.open(tmp_path / "a.png") as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    for name in ("a.png", "a.tif"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            np.testing.assert_array_equal(read_rgb(tmp_path / name), upright)
            image = image_raster(tmp_path / name)
            np.testing.assert_array_equal(image.read(0, 0, *image.shape), upright)
            image.close()
        told = [w for w in caught if "is read upright" in str(w.message)]
        assert len(told) == (2 if orientation > 1 else 0)
