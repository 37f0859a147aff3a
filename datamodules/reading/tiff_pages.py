"""Which pages of a TIFF make up its first image: one page, or one page per channel."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError  # types only; defusedxml parses

import defusedxml.ElementTree as ElementTree
import numpy as np
import tifffile
from defusedxml.common import DefusedXmlException
from PIL import ExifTags

from postproc.errors import DataError, InputWarning, short

MOST_PAGES = 64
"""Number of pages that are searched for further images."""

_RGB = 3


@dataclass(frozen=True)
class ImagePages:
    """The first image of a TIFF.

    Attributes:
        pages: One page with all channels, or one page of the same size and dtype per channel, in the order R, G, B.
        note: Readable note on what was assumed or left out; empty if nothing was.
    """

    pages: tuple[Any, ...]
    note: str

    @property
    def orientation(self) -> int:
        """Orientation of the stored rows and columns, 1 to 8 as in EXIF; 1 = upright."""
        tag = self.pages[0].tags.get(ExifTags.Base.Orientation)
        return int(tag.value) if tag is not None and tag.value in range(1, 9) else 1

    def tell(self, path: Path) -> None:
        """Warn of what was assumed or left out.

        Args:
            path: The file, for the warning.
        """
        if self.note:
            warnings.warn(f"{path}: {self.note}", InputWarning, stacklevel=2)


def image_pages(file: tifffile.TiffFile, path: Path) -> ImagePages:
    """Find the pages of an RGB or greyscale image.

    OME-TIFF and ImageJ's TIFF name their axes, so that pages can be told apart: three or four pages of a channel axis
    are the channels of one image. Pages of other sizes are levels of a pyramid, thumbnails or labels of the slide.

    Args:
        file: An open file.
        path: Its path, for messages.

    Raises:
        DataError: If the channels are neither greyscale nor RGB, or do not have one page each.
    """
    first = file.pages.first
    if first.samplesperpixel == 1 and (file.is_ome or file.is_imagej):
        channels = _channels(file, path)
        if channels:
            names = _names(file, len(channels))
            note = f"its pages are the channels {names}; the first three are read as red, green, blue"
            return ImagePages(tuple(channels[:_RGB]), note)
    return first_page(file)


def first_page(file: tifffile.TiffFile) -> ImagePages:
    """Return the first page, with a note if others have the same size, like those of a stack."""
    first = file.pages.first
    size = first.imagelength, first.imagewidth
    number = min(len(file.pages), MOST_PAGES)
    further = sum((page.imagelength, page.imagewidth) == size for page in map(file.pages.get, range(1, number)))
    note = ""
    if further:
        many = "at least " if len(file.pages) > MOST_PAGES else ""
        note = f"only the first of {many}{further + 1} pages is read; save another page as a file to use it"
    return ImagePages((first,), note)


def _channels(file: tifffile.TiffFile, path: Path) -> list[Any]:
    """Return the pages of the channels at the first position of all other axes; empty if there is one channel."""
    level = file.series[0].levels[0]
    axes = level.axes.replace("Y", "").replace("X", "")
    sizes = tuple(size for axis, size in zip(level.axes, level.shape, strict=True) if axis not in "YX")
    number = dict(zip(axes, sizes, strict=True)).get("C", 1)
    if number == 1:
        return []
    if number not in (_RGB, _RGB + 1):
        raise DataError(
            f"{path}: holds {number} channels {_names(file, number)}; convert it to RGB, or save one as greyscale"
        )
    places = [tuple(channel if axis == "C" else 0 for axis in axes) for channel in range(number)]
    paged = len(level.pages) == math.prod(sizes)
    frames = [level.pages[int(np.ravel_multi_index(place, sizes))] for place in places] if paged else [None]
    if any(frame is None for frame in frames):
        raise DataError(f"{path}: its channels do not have one page each; save it as RGB")
    return [frame.aspage() for frame in frames if frame is not None]


def _names(file: tifffile.TiffFile, number: int) -> str:
    """Return the names of the channels in brackets, if ImageJ's labels or OME's channels name them."""
    if file.is_imagej:
        names = (file.imagej_metadata or {}).get("Labels") or []
    else:
        names = [channel.get("Name", "") for channel in ome_elements(file, "Channel")]
    known = [str(name) for name in names[:number]]
    return f"({short(', '.join(known), quoted=False)})" if known and all(known) else f"1 to {number}"


def ome_elements(file: tifffile.TiffFile, name: str) -> list[Element]:
    """Return the elements of a name in the OME-XML of a file, in its order; none if the XML is missing or damaged."""
    try:
        root = ElementTree.fromstring(file.ome_metadata or "<OME/>")
    except (ParseError, DefusedXmlException, ValueError):
        return []
    return [element for element in root.iter() if element.tag.rpartition("}")[2] == name]


__all__ = ["ImagePages", "first_page", "image_pages", "ome_elements"]
