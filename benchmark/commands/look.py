"""`nucbench look`: draw one image with its nuclei."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmark.host.outputs import check_outputs
from benchmark.results.legend import entries_of, with_legend
from benchmark.results.pictures import is_look, overlay, write_look
from benchmark.results.scoring import LABEL_SUFFIXES, find_label_maps, read_label_map
from datamodules.reading.files import MAX_PIXELS, read_rgb
from datamodules.reading.magnification import MPP_AT_1X, stated_by
from datamodules.reading.outlines import OUTLINE_SUFFIXES, draw, read_outlines
from datamodules.reading.sense import Sense
from datamodules.reading.slide_files import is_slide
from postproc.errors import ConfigError, DataError
from postproc.instances import Instances

LARGEST = 100_000_000
"""Largest picture in pixels."""


def draw_look(
    image: Path,
    nuclei: Path,
    out: Path,
    *,
    window: Sequence[int] | None,
    zoom: int,
    types: Sequence[str],
    magnification: float | None,
) -> Path:
    """Draw an image with its nuclei.

    Args:
        image: Image file.
        nuclei: Label map, outlines, folder of such files, or model.
        out: Output PNG.
        window: Left, top, width and height of the part to draw, in pixels; None = the whole image.
        zoom: Factor by which the picture is enlarged, 1 to 16.
        types: Names of the types 1, 2, ... of a label map.
        magnification: Magnification of the image; None = what the file states.

    Returns:
        The output.

    Raises:
        ConfigError: If an argument is invalid, or a file that this command did not write would be replaced.
        DataError: If a file is unreadable, or the nuclei are those of an image of another size.
    """
    if not 1 <= zoom <= 16:
        raise ConfigError(f"--zoom is {zoom}; give 1 to 16")
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out {out}: the picture is a PNG; give a name that ends in .png")
    if not image.exists():
        raise ConfigError(f"{image}: no such file")
    check_outputs([out], [image, nuclei])
    if out.exists() and not is_look(out):
        raise ConfigError(f"{out} exists and is not a picture of `nucbench look`; give another --out")
    if is_slide(image, MAX_PIXELS):
        raise ConfigError(
            f"{image} is a whole slide; look draws images of up to {LARGEST:,} px. "
            f"`nucbench predict default {image}` finds the nuclei of a slide and draws an overview"
        )
    pixels = read_rgb(image)
    part = _part(window, (pixels.shape[0], pixels.shape[1]))
    if (part[0].stop - part[0].start) * (part[1].stop - part[1].start) * zoom**2 > LARGEST:
        raise ConfigError(f"the picture would have more than {LARGEST:,} px; choose a smaller --window or --zoom")
    magnification = magnification or stated_by(image)
    found, names = _nuclei(nuclei, image, pixels, types, magnification)
    if types and (found.types is None or names is not types):
        reason = "have no types" if found.types is None else f"have types of their own ({', '.join(map(str, names))})"
        raise ConfigError(f"--types {' '.join(types)}: the nuclei of {nuclei} {reason}; leave --types out")
    if found.shape != pixels.shape[:2]:
        raise DataError(
            f"{nuclei} has {found.shape[0]} x {found.shape[1]} px, but {image} has "
            f"{pixels.shape[0]} x {pixels.shape[1]} px; give the nuclei of this image"
        )
    shown = _cut(found, part)
    picture = np.repeat(np.repeat(pixels[part], zoom, axis=0), zoom, axis=1)
    drawn = with_legend(
        overlay(picture, _enlarged(shown, zoom), thickness=max(1, zoom - 1)),
        entries_of(shown, names),
        MPP_AT_1X / magnification / zoom if magnification else None,
    )
    write_look(out, drawn)
    kinds = ", ".join(entry.text for entry in entries_of(shown, names)) or "0 nuclei"
    print(f"{image.name}: {kinds}")
    if not magnification:
        print("no scale bar: the file states no magnification (give --magnification or --mpp)")
    print(f"written to {out}")
    return out


def _nuclei(
    nuclei: Path, image: Path, pixels: NDArray[np.uint8], types: Sequence[str], magnification: float | None
) -> tuple[Instances, Sequence[str]]:
    """Return the nuclei, and the names of their types."""
    from benchmark.results.model_folder import is_model_folder

    if nuclei.is_dir() and not is_model_folder(nuclei) and not (nuclei / "spec.json").exists():
        files = find_label_maps(nuclei, outlines=True)
        if image.stem not in files:
            raise DataError(f"{nuclei}: no file for image {image.stem!r}; it has {', '.join(list(files)[:5])}")
        nuclei = files[image.stem]
    suffix = nuclei.suffix.lower()
    if suffix in OUTLINE_SUFFIXES:
        outlines = read_outlines(nuclei)
        kinds = [each.kind for each in outlines.nuclei]
        known = sorted({kind for kind in kinds if kind is not None}, key=str)
        names = [outlines.names.get(kind, f"type {kind}") if isinstance(kind, int) else kind for kind in known]
        numbers = [0 if kind is None else known.index(kind) + 1 for kind in kinds] if known else None
        return draw(outlines, (pixels.shape[0], pixels.shape[1]), numbers), names
    if suffix in LABEL_SUFFIXES:
        sense = Sense()
        found = read_label_map(nuclei, sense)
        sense.tell()
        return found, types
    from benchmark.runs.trained import load_trained

    trained = load_trained(nuclei)
    return trained.segment(pixels, magnification), trained.method.task.types


def _part(window: Sequence[int] | None, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Return the rows and columns of a window."""
    if window is None:
        return slice(0, shape[0]), slice(0, shape[1])
    if len(window) != 4 or min(window[:2]) < 0 or min(window[2:]) < 1:
        raise ConfigError(
            f"--window {' '.join(map(str, window))}: give left, top, width and height in pixels, "
            "for example --window 0 0 500 500"
        )
    left, top, width, height = window
    if left >= shape[1] or top >= shape[0]:
        raise ConfigError(
            f"--window {left} {top} {width} {height} is outside the image, which is {shape[1]} px wide and "
            f"{shape[0]} px high"
        )
    return slice(top, min(top + height, shape[0])), slice(left, min(left + width, shape[1]))


def _cut(found: Instances, part: tuple[slice, slice]) -> Instances:
    """Return the nuclei with pixels, or points, in a window."""
    rows, columns = part
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    if found.labels is not None:
        labels = found.labels[part]
        ids = np.unique(labels[labels > 0])
        numbers = np.zeros(found.count + 1, np.int32)
        numbers[ids] = np.arange(1, len(ids) + 1)
        kinds = None if found.types is None else found.types[ids - 1]
        return Instances(shape, labels=numbers[labels], types=kinds)
    points = found.centroids() - np.array([columns.start, rows.start], np.float32)
    inside = ((points > -0.5) & (points < np.array(shape[::-1]) - 0.5)).all(axis=1)
    return Instances(shape, points=points[inside], types=None if found.types is None else found.types[inside])


def _enlarged(found: Instances, zoom: int) -> Instances:
    """Return nuclei of an image whose pixels are repeated `zoom` times."""
    shape = (found.shape[0] * zoom, found.shape[1] * zoom)
    if found.labels is not None:
        labels = cv2.resize(found.labels, shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        return Instances(shape, labels=labels, types=found.types)
    return Instances(shape, points=(found.centroids() + 0.5) * zoom - 0.5, types=found.types)


__all__ = ["draw_look"]
