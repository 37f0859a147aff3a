"""The magnification that files state: each place where writers put it, placeholders, contradictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from datamodules.reading.magnification import stated_magnification
from postproc.errors import DataError

PIXELS = np.full((32, 40, 3), 200, np.uint8)

TIFFS: dict[str, tuple[dict[str, Any], float | None]] = {
    "aperio": ({"description": "Aperio Image Library v1 |AppMag = 20|MPP = 0.4990"}, 20.0),
    "aperio without power": ({"description": "Aperio Image Library v1 |MPP = 0.5"}, 20.0),
    "aperio nonsense": ({"description": "Aperio Image Library v1 |AppMag = x|MPP = 250"}, None),
    "ome": ({"ome": True, "metadata": {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}}, 40.0),
    "ome in nm": ({"ome": True, "metadata": {"PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm"}}, 20.0),
    "ome in unknown units": ({"ome": True, "metadata": {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "pixel"}}, None),
    "imagej": ({"imagej": True, "metadata": {"unit": "micron"}, "resolution": (4.0, 4.0)}, 40.0),
    "imagej without a unit": ({"imagej": True, "resolution": (4.0, 4.0)}, None),
    "per centimetre": ({"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}, 20.0),
    "per inch": ({"resolution": (50_800, 50_800), "resolutionunit": "INCH"}, 20.0),
    "printer": ({"resolution": (300, 300), "resolutionunit": "INCH"}, None),
    "nothing": ({}, None),
}


@pytest.mark.parametrize("kind", list(TIFFS))
def test_tiff(kind: str, tmp_path: Path) -> None:
    how, expected = TIFFS[kind]
    path = tmp_path / ("a.ome.tif" if "ome" in how else "a.tif")
    tifffile.imwrite(path, PIXELS, photometric="rgb", **how)
    assert stated_magnification(path) == (None if expected is None else pytest.approx(expected, rel=1e-3))


@pytest.mark.parametrize(("dpi", "expected"), [(None, None), (72, None), (300, None), (101_600, 40.0)])
@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_pictures(dpi: int | None, expected: float | None, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(PIXELS).save(path, **({} if dpi is None else {"dpi": (dpi, dpi)}))
    found = stated_magnification(path)
    assert found == (None if expected is None else pytest.approx(expected, rel=1e-3))


def test_contradictions(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PIXELS, photometric="rgb", description="Aperio Image Library v1 |AppMag = 40|MPP = 0.5")
    with pytest.raises(DataError, match=r"states 40x and 0\.5 microns per pixel.*--mpp"):
        stated_magnification(path)
    tifffile.imwrite(path, PIXELS, photometric="rgb", resolution=(20_000, 40_000), resolutionunit="CENTIMETER")
    with pytest.raises(DataError, match=r"0\.5 x 0\.25 microns, not square"):
        stated_magnification(path)


@pytest.mark.parametrize("content", [b"", b"II*\0", b"not an image"])
def test_damaged_files_state_nothing(content: bytes, tmp_path: Path) -> None:
    for name in ("a.tif", "a.png"):
        (tmp_path / name).write_bytes(content)
        assert stated_magnification(tmp_path / name) is None
