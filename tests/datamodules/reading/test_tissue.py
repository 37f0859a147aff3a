"""Tissue of slides: what has colour, without specks and small holes, extended a little."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.reading.files import write_rgb
from datamodules.reading.rasters import ArrayRaster
from datamodules.reading.tissue import MARGIN, Tissue, find_tissue, read_tissue
from postproc.errors import DataError

GLASS, EOSIN, DARK = (243, 241, 244), (226, 180, 205), (110, 60, 130)


def slide(glass: tuple[int, int, int] = GLASS) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 2, (300, 400, 3))
    image = np.full((300, 400, 3), glass, np.float64) + noise
    image[60:200, 80:300] = EOSIN + noise[60:200, 80:300]
    image[100:140, 100:200] = DARK
    return np.clip(image, 0, 255).astype(np.uint8)


def test_pale_and_dark_tissue_are_found_with_a_margin() -> None:
    found = find_tissue(ArrayRaster(slide()), 16.0)
    assert found[60:200, 80:300].all()
    outside = found.copy()
    outside[60 - MARGIN - 2 : 200 + MARGIN + 2, 80 - MARGIN - 2 : 300 + MARGIN + 2] = False
    assert not outside.any()


def test_specks_are_removed_and_small_holes_are_filled() -> None:
    image = slide()
    image[20:24, 20:24] = DARK  # 64 microns
    image[160:164, 150:154] = GLASS
    image[70:95, 220:290] = GLASS  # a lumen of 0.45 mm2 remains glass
    image[250:290, 20:60] = (4, 2, 5)  # a pen or the edge of the scan is black
    found = find_tissue(ArrayRaster(image), 16.0)
    assert not found[10:34, 10:34].any()
    assert found[155:170, 145:160].all()
    assert not found[76:89, 226:284].any()
    assert not found[240:, :].any()


@pytest.mark.parametrize("level", [255, 243, 128])
def test_a_slide_of_glass_has_no_tissue(level: int) -> None:
    noise = np.random.default_rng(0).normal(0, 1, (200, 200, 3))
    assert not find_tissue(ArrayRaster(np.clip(level + noise, 0, 255).astype(np.uint8)), 16.0).any()
    assert not find_tissue(ArrayRaster(np.full((200, 200, 3), level, np.uint8)), 16.0).any()


def test_tissue_everywhere_is_not_divided() -> None:
    image = np.full((200, 200, 3), EOSIN, np.uint8)
    image[:, 100:] = DARK  # Otsu's threshold lies between the two
    assert find_tissue(ArrayRaster(image), 16.0).all()


def test_boxes_are_asked_in_pixels_of_the_image() -> None:
    mask = np.zeros((10, 20), np.bool_)
    mask[3, 5] = True  # rows 300 to 399 and columns 500 to 599 of the image
    tissue = Tissue(mask, (1000, 2000))
    assert tissue.share == 1 / 200
    rng = np.random.default_rng(0)
    for top, left, height, width in rng.integers(1, [900, 1900, 300, 300], (400, 4)).tolist():
        box = top, left, min(top + height, 1000), min(left + width, 2000)
        expected = top < 400 and box[2] > 300 and left < 600 and box[3] > 500
        assert tissue.touches(box) == expected


def test_masks_of_users(tmp_path: Path) -> None:
    mask = np.zeros((30, 40, 3), np.uint8)
    mask[5:10, 5:10, 1] = 1  # anything but black
    write_rgb(tmp_path / "mask.png", mask)
    found = read_tissue(tmp_path / "mask.png", (3010, 4000))
    assert found.sum() == 25
    assert found[5:10, 5:10].all()
    with pytest.raises(DataError, match=r"mask\.png: 30 x 40 px do not have the proportions"):
        read_tissue(tmp_path / "mask.png", (4000, 3000))
