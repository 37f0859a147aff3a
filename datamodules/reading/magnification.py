"""The magnification that an image file states: objective power, or the size of its pixels."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tifffile
from PIL import Image

from datamodules.reading.tiff_pages import ome_elements
from postproc.errors import DataError

MPP_AT_1X = 10.0
"""Microns per pixel at 1x: scanners give 0.25 at 40x and 0.5 at 20x."""
PLAUSIBLE = (1.0, 100.0)
"""Smallest and largest magnification that is accepted from a file."""
MISMATCH = 1.5
"""Factor by which objective power and microns per pixel may differ: scanners with another camera differ by up to a
fifth; a factor of two is an error."""
REMEDY = "State it: --magnification 40, or --mpp 0.25"

_MICRONS = {"\N{MICRO SIGN}m": 1.0, "\N{GREEK SMALL LETTER MU}m": 1.0, "\\u00b5m": 1.0, "um": 1.0, "micron": 1.0}
_MICRONS |= {"microns": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4}
_MICRONS_PER_UNIT = {2: 25_400.0, 3: 10_000.0}
"""ResolutionUnit of TIFF: inch and centimetre."""


def stated_magnification(path: Path) -> float | None:
    """Return the objective magnification that an image file states; None if it states none that is plausible.

    Sources: Aperio's description (``AppMag``, ``MPP``), OME-XML (``NominalMagnification``, ``PhysicalSizeX``), ImageJ's
    unit and the resolution tags of TIFF, PNG and JPEG. Print resolutions (72 or 300 dpi) are far from any
    microscope's and are ignored.

    Args:
        path: Image file.

    Raises:
        DataError: If objective power and microns per pixel contradict each other.
    """
    try:
        power, sides = _of_tiff(path) if path.suffix.lower() in (".tif", ".tiff") else (None, _of_picture(path))
    except Exception:  # decoders may raise anything on damaged files; reading the pixels reports the problem
        return None
    if power is not None and not is_plausible(power):
        power = None
    found = combine(path, power, sides)
    return found if found is not None and is_plausible(found) else None


def stated_by(path: Path) -> float | None:
    """Return the magnification that a file states; None if it states none, or contradicts itself."""
    try:
        return stated_magnification(path)
    except DataError:
        return None


def is_plausible(magnification: float) -> bool:
    """Return whether a magnification is accepted from a file, see `PLAUSIBLE`."""
    return PLAUSIBLE[0] <= magnification <= PLAUSIBLE[1]


def differs(one: float | None, other: float | None, factor: float = MISMATCH) -> bool:
    """Return whether two magnifications differ by more than a factor; False if one is unknown."""
    return one is not None and other is not None and max(one, other) / min(one, other) > factor


def combine(path: Path, power: float | None, sides: Sequence[float]) -> float | None:
    """Return the magnification by the objective power, otherwise by the size of pixels; None if neither is known.

    Args:
        path: File, for messages.
        power: Objective power.
        sides: Width and height of a pixel in microns, if known.

    Raises:
        DataError: If they contradict each other, or the pixels are not square.
    """
    implied = MPP_AT_1X / (sum(sides) / len(sides)) if sides else None
    if power is None:
        if len(sides) == 2 and max(sides) > 1.05 * min(sides):
            raise DataError(f"{path}: its pixels are {sides[0]:g} x {sides[1]:g} microns, not square. {REMEDY}")
        return implied
    if implied is not None and is_plausible(implied) and differs(power, implied):
        raise DataError(
            f"{path}: it states {power:g}x and {MPP_AT_1X / implied:g} microns per pixel, which contradict each "
            f"other. {REMEDY}"
        )
    return power


def positive(value: Any) -> float | None:
    """Return a value of metadata as a number; None unless it is a positive finite one."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def all_positive(values: Iterable[Any]) -> list[float]:
    """Return the positive finite numbers among values of metadata."""
    return [number for value in values if (number := positive(value)) is not None]


def _of_tiff(path: Path) -> tuple[float | None, list[float]]:
    """Return the objective power and the sides of a pixel in microns."""
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        tags = {name: page.tags[name].value for name in ("XResolution", "YResolution") if name in page.tags}
        density = [value[0] / value[1] for value in tags.values() if len(value) == 2 and value[0] and value[1]]
        if file.is_svs:
            known = dict(re.findall(r"\b(AppMag|MPP)\s*=\s*([0-9.]+)", page.description))
            return positive(known.get("AppMag")), all_positive([known.get("MPP")])
        if file.is_ome:
            power, sides = ome_scale(file)
            if power or sides:
                return power, sides
        if file.is_imagej:
            microns = _MICRONS.get(str((file.imagej_metadata or {}).get("unit", "")))
        else:
            unit = int(page.tags["ResolutionUnit"].value) if "ResolutionUnit" in page.tags else 2
            microns = _MICRONS_PER_UNIT.get(unit)
        return None, _plausible(microns / each for each in density) if microns else []


def ome_scale(file: tifffile.TiffFile) -> tuple[float | None, list[float]]:
    """Return the objective power and the sides of a pixel in microns as OME-XML states them.

    The first objective counts, and the first image with sides that a microscope can have.
    """
    powers = all_positive(element.get("NominalMagnification") for element in ome_elements(file, "Objective"))
    sides: list[float] = []
    for pixels in ome_elements(file, "Pixels"):
        for axis in "XY":
            microns = _MICRONS.get(pixels.get(f"PhysicalSize{axis}Unit", "um"))
            side = positive(pixels.get(f"PhysicalSize{axis}"))
            sides += [microns * side] if microns and side else []
        if sides:
            break
    return next(iter(powers), None), _plausible(sides)


def _of_picture(path: Path) -> list[float]:
    """Return the sides of a pixel in microns as a PNG or JPEG states them."""
    with Image.open(path, formats=("PNG", "JPEG", "BMP")) as image:
        return _plausible(25_400.0 / dots for dots in all_positive(image.info.get("dpi", ())))


def _plausible(sides: Iterable[float]) -> list[float]:
    """Remove pixel sizes that no microscope has."""
    return [side for side in sides if is_plausible(MPP_AT_1X / side)]


__all__ = [
    "MISMATCH", "MPP_AT_1X", "PLAUSIBLE", "REMEDY", "all_positive", "combine", "differs", "is_plausible",
    "ome_scale", "positive", "stated_magnification",
]  # fmt: skip
