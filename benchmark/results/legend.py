"""A legend below a picture: scale bar, and the number of nuclei of each type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmark.results.pictures import color
from postproc.instances import Instances

ROUND = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)
"""Lengths of scale bars in microns."""
WIDEST = 0.3
"""Largest share of the picture's width that a scale bar takes."""
LETTERS = 60
"""Height of the letters: this part of the picture's width, within `SIZES`."""
SIZES = (11, 40)
"""Smallest and largest height of the letters in pixels."""

Box = tuple[int, int, int, int]
RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Entry:
    """One entry of a legend.

    Attributes:
        text: Its text.
        color: RGB of its square.
    """

    text: str
    color: RGB


def entries_of(nuclei: Instances, types: Sequence[str]) -> list[Entry]:
    """Return an entry with the number of nuclei for each type that occurs, or one for all nuclei without types.

    Args:
        nuclei: The nuclei.
        types: Names of the types 1..T; other numbers are named by their number.
    """
    if nuclei.types is None:
        return [Entry(_counted("nuclei" if nuclei.count != 1 else "nucleus", nuclei.count), color(0))]
    found = np.bincount(nuclei.types.astype(np.int64)).tolist()
    names = {0: "no type"} | dict(enumerate(types, start=1))
    return [
        Entry(_counted(names.get(kind, f"type {kind}"), count), color(kind))
        for kind, count in enumerate(found)
        if count
    ]


def with_legend(picture: NDArray[np.uint8], entries: Sequence[Entry], mpp: float | None = None) -> NDArray[np.uint8]:
    """Return a picture with a white strip below it, which holds the scale bar and the entries.

    The pixels of the picture are unchanged.

    Args:
        picture: uint8 (H, W, 3).
        entries: Entries of the legend, in as many rows as they need.
        mpp: Microns per pixel of the picture; None = no scale bar.

    Returns:
        uint8 (H + strip, W, 3).
    """
    width = picture.shape[1]
    size = int(np.clip(width // LETTERS, *SIZES))
    font = ImageFont.load_default(size)
    gap, line = size, 2 * size
    bar = scale_bar(width, mpp) if mpp else None
    items: list[tuple[str, int, Entry | None]] = []
    if bar:
        items.append((length_text(bar[0]), max(bar[1], _text_width(font, length_text(bar[0]))), None))
    items += [(entry.text, size + size // 2 + _text_width(font, entry.text), entry) for entry in entries]
    places, x, y = [], gap, 0
    for _, wide, _ in items:
        if x > gap and x + wide + gap > width:
            x, y = gap, y + 1
        places.append((x, y * line))
        x += wide + 2 * gap
    strip = Image.new("RGB", (width, (y + 1) * line + gap), "white")
    draw = ImageDraw.Draw(strip)
    for (text, _, entry), (left, top) in zip(items, places, strict=True):
        middle = top + gap // 2 + size
        if entry is None and bar:
            draw.rectangle((left, middle + size // 3, left + bar[1] - 1, middle + size // 2), fill="black")
            draw.text((left, middle + size // 8), text, font=font, fill="black", anchor="ls")
        elif entry is not None:
            draw.rectangle((left, middle - size // 2, left + size - 1, middle + size // 2 - 1), fill=entry.color)
            draw.text((left + size + size // 2, middle), text, font=font, fill="black", anchor="lm")
    return np.concatenate([picture, np.asarray(strip, np.uint8)])


def scale_bar(width: int, mpp: float, share: float = WIDEST) -> tuple[int, int] | None:
    """Return the length of the longest round scale bar that fits, in microns and pixels; None if none fits.

    Args:
        width: Width of the picture in pixels.
        mpp: Microns per pixel.
        share: Largest share of the width.
    """
    fitting = [length for length in ROUND if length / mpp <= share * width]
    return (fitting[-1], max(1, round(fitting[-1] / mpp))) if fitting else None


def length_text(microns: int) -> str:
    """Return a length with its unit."""
    # spelt out, since the font has no Greek letter
    return f"{microns} microns" if microns < 1000 else f"{microns // 1000} mm"


def _counted(name: str, count: int) -> str:
    return f"{name} ({count:,})"


def _text_width(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, text: str) -> int:
    return int(np.ceil(font.getlength(text)))


__all__ = ["Entry", "entries_of", "length_text", "scale_bar", "with_legend"]
