"""Read and write images and label maps.

Every failure is a `DataError` that names the file; no file can execute code.
"""

from __future__ import annotations

import os
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import tifffile
from numpy.typing import NDArray
from PIL import ExifTags, Image

from datamodules.reading.matfile import read_arrays
from datamodules.reading.matlab import instances_of_arrays, integral
from datamodules.reading.sense import Sense
from datamodules.reading.temporary import new_file
from datamodules.reading.tiff_pages import first_page, image_pages
from postproc.errors import DataError, InputWarning
from postproc.instances import Instances
from postproc.pixels.labels import LabelMap, relabel

MAX_PIXELS = 150_000_000
"""Largest image that is decoded, in pixels; larger files are treated as decompression bombs."""

IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
"""File name endings that `read_rgb` reads."""

TO_8_BITS = "Convert it, for example in Fiji: set the display range, then Image > Type > RGB Color"
"""Remedy for images with more bits."""

SLIDE_CROPS = (".svs",)
"""Further endings that `read_rgb` reads, for datasets of small pieces of slides; they are not listed as images."""

_TIFF = (".tif", ".tiff", *SLIDE_CROPS)
_PILLOW_RGB = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "PA": "RGB", "RGB": "RGB", "RGBA": "RGB"}
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def check_name(path: Path) -> None:
    """Raise a DataError if a file's name cannot be part of a line of text in tables, lists and terminals."""
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in path.name):
        raise DataError(
            f"{str(path)!r}: its name has a line break, a control character or bytes that are not UTF-8; rename it"
        )


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read a PNG, TIFF, JPEG or BMP file as RGB.

    Alpha is dropped, greyscale repeated, a palette resolved, and a rotated image turned upright. Of a TIFF with several
    pages, the first is read, which is the full resolution of a pyramid, or one page per channel, see `tiff_pages`.
    Images with more than 8 bits per channel are refused, because no scaling rule fits every scanner. An
    `InputWarning` states what was assumed.

    Args:
        path: The image file.

    Returns:
        uint8 (H, W, 3), contiguous.

    Raises:
        DataError: If the file is missing, truncated, empty, larger than `MAX_PIXELS` or of another kind.
    """
    path = Path(path)
    if path.suffix.lower() not in (*IMAGE_SUFFIXES, *SLIDE_CROPS):
        raise DataError(f"{path}: image files end in {', '.join(IMAGE_SUFFIXES)}; convert it to one of them")
    array = _decode(path, _read_tiff_image if path.suffix.lower() in _TIFF else _read_pillow_rgb)
    if array.dtype != np.uint8:
        raise DataError(f"{path}: {array.dtype} pixels; images must have 8 bits per channel. {TO_8_BITS}")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4):
        raise DataError(f"{path}: shape {array.shape} is not a greyscale, RGB or RGBA image; convert it to RGB")
    if array.shape[2] < 3:
        array = np.repeat(array[..., :1], 3, axis=2)
    return np.ascontiguousarray(array[..., :3])


def read_instances(path: Path, sense: Sense | None = None) -> Instances:
    """Read a label map, with types if the file has them.

    ``.png`` (one channel of 8 or 16 bits, or a palette whose index is the id) and ``.tif`` contain only the map, and so
    does ``.npy`` unless it has two channels, ids and types, like CoNIC's maps. ``.mat`` (MATLAB 5)
    contains ``inst_map`` and optionally ``inst_type``, ``inst_id``, ``type_map``, like HoVer-Net's label files, or the
    output of `write_mat`; `datamodules.reading.matlab.instances_of_arrays` describes how types are matched with ids.
    Ids may have gaps and are renumbered 1..N. A map of one value in many parts is a mask, see `Sense`.

    Args:
        path: The file.
        sense: Checks the ids and collects assumptions; None = check by the default rules and warn immediately.

    Returns:
        The nuclei; `types` is None if the file has none.

    Raises:
        DataError: If the file is unreadable, the map is not 2-D with whole numbers, or types do not match.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if sense is None:
        own = Sense()
        nuclei = read_instances(path, own)
        own.tell()
        return nuclei
    if suffix == ".mat":
        return instances_of_arrays(path, read_mat(path), sense)
    array = read_label_array(path)
    if suffix == ".npy" and array.ndim == 3 and array.shape[2] == 2:
        both = {"inst_map": array[..., 0], "type_map": array[..., 1]}
        return instances_of_arrays(path, {name: np.ascontiguousarray(half) for name, half in both.items()}, sense)
    raw = integral(array, path)
    labels = sense.check(relabel(raw)[0], array, path)
    return Instances((labels.shape[0], labels.shape[1]), labels=labels)


def read_label_array(path: Path) -> NDArray[Any]:
    """Read the array of a label map (.npy, .png, .tif) as stored; only its file is checked.

    Raises:
        DataError: If the file is unreadable, of another kind, or a .png has several channels.
    """
    readers: dict[str, Callable[[Path], NDArray[Any]]] = {
        ".npy": _read_npy,
        ".png": _read_pillow_labels,
        ".tif": _read_tiff_labels,
        ".tiff": _read_tiff_labels,
    }
    if path.suffix.lower() not in readers:
        raise DataError(f"{path}: label maps end in .mat, .npy, .png or .tif; convert it to one of them")
    array: NDArray[Any] = _decode(path, readers[path.suffix.lower()])
    return array


def read_mat(path: Path) -> dict[str, NDArray[Any]]:
    """Read the numeric arrays of a MATLAB 5 file and skip everything else.

    Raises:
        DataError: If the file is missing, damaged, of version 7.3 or holds more than `MAX_PIXELS` values.
    """
    arrays: dict[str, NDArray[Any]] = _decode(Path(path), _load_mat)
    return arrays


def check_size(image: NDArray[np.uint8], truth: Instances, path: Path) -> None:
    """Raise a DataError that names the annotation file `path` if its (H, W) differs from the image's."""
    if image.shape[:2] != truth.shape:
        raise DataError(f"{path}: annotation of {truth.shape} px (H, W) for an image of {image.shape[:2]} px")


def write_rgb(path: Path, image: NDArray[np.uint8]) -> None:
    """Write a uint8 image, (H, W, 3 or 4) or grey (H, W), as .png, .bmp or .tif, atomically."""
    with replacing(path) as temporary:
        if Path(path).suffix.lower() in _TIFF:
            photometric = "rgb" if image.ndim == 3 else "minisblack"
            tifffile.imwrite(temporary, image, photometric=photometric, compression="lzw")
        else:
            Image.fromarray(image).save(temporary)


def write_label_png(path: Path, labels: LabelMap) -> None:
    """Write a label map (H, W) as a PNG of 16 bits, atomically.

    Raises:
        DataError: If an id exceeds 65535.
    """
    if labels.max(initial=0) > 65535:
        raise DataError(f"{path}: id {labels.max()} does not fit 16 bits; write .npy or .mat instead")
    with replacing(path) as temporary:
        Image.fromarray(labels.astype(np.uint16)).save(temporary)


def write_npy(path: Path, labels: LabelMap) -> None:
    """Write a label map (H, W) as .npy, atomically."""
    with replacing(path) as temporary:
        np.save(temporary, labels, allow_pickle=False)


def write_mat(path: Path, instances: Instances) -> None:
    """Write nuclei as a MATLAB 5 file with the array names of HoVer-Net's label files, atomically.

    ``inst_map`` (H, W), ``inst_id`` (N, 1) and ``inst_centroid`` (N, 2; x, y), and, if known,
    ``inst_type`` and ``inst_score`` (N, 1). Nuclei without outline have ``image_shape`` (1, 2) instead of
    ``inst_map``.
    """
    arrays: dict[str, NDArray[Any]] = {
        "inst_id": np.arange(1, instances.count + 1, dtype=np.int32)[:, None],
        "inst_centroid": instances.centroids().astype(np.float64),
    }
    if instances.labels is not None:
        arrays["inst_map"] = instances.labels
    else:
        arrays["image_shape"] = np.array([instances.shape], np.int32)
    for name, values in (("inst_type", instances.types), ("inst_score", instances.scores)):
        if values is not None:
            arrays[name] = values[:, None]
    with replacing(path) as temporary:
        scipy.io.savemat(temporary, arrays, do_compression=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path` that replaces it when the block ends without an error.

    Readers never see a partial file, and an interrupted run leaves the old file. Missing folders are created.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # keep the suffix, because writers choose the format by it
    handle, temporary = new_file(path.parent, f".{path.stem}-", path.suffix)
    os.close(handle)
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


# ---- decoders may raise anything, `_decode` turns it into a DataError ------------


def _decode(path: Path, reader: Callable[[Path], Any]) -> Any:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty; copy or download it again")
    try:
        return reader(path)
    except DataError:
        raise
    except Exception as error:  # decoders may raise anything on damaged files, from struct.error to MemoryError
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        raise DataError(f"{path}: cannot be read, it may be damaged ({reason}); copy or download it again") from error


def _check_pixels(path: Path, *shape: int) -> None:
    count = 1
    for extent in shape:
        count *= int(extent)
    if count == 0:
        raise DataError(f"{path}: claims to hold no pixel ({' x '.join(map(str, shape))})")
    if count > MAX_PIXELS:
        raise DataError(f"{path}: claims {' x '.join(map(str, shape))} values, more than the limit of {MAX_PIXELS}")


@contextmanager
def _pillow(path: Path) -> Iterator[Image.Image]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is checked next
        opened = Image.open(path, formats=("PNG", "JPEG", "BMP"))
    with opened as image:
        _check_pixels(path, image.height, image.width)
        yield image


def _read_pillow_rgb(path: Path) -> NDArray[Any]:
    with path.open("rb") as file:
        head = file.read(25)
    # Pillow silently converts 16-bit RGB to 8 bits: the depth is in byte 24 of a PNG
    if head.startswith(_PNG_SIGNATURE) and len(head) == 25 and head[24] == 16:
        raise DataError(f"{path}: 16 bits per channel; images must have 8. {TO_8_BITS}")
    with _pillow(path) as image:
        if image.mode not in _PILLOW_RGB:
            raise DataError(f"{path}: pixels of mode {image.mode}; convert it to RGB with 8 bits per channel")
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        return upright(np.asarray(image.convert(_PILLOW_RGB[image.mode])), orientation, path)


def upright(array: NDArray[Any], orientation: int, path: Path) -> NDArray[Any]:
    """Turn an image upright by its EXIF or TIFF orientation, and warn about it.

    Args:
        array: (H, W) or (H, W, C) as stored.
        orientation: 1 to 8; 1 and values out of range leave the image unchanged.
        path: The file, for the warning.
    """
    if orientation not in range(2, 9):
        return array
    warnings.warn(
        f"{path}: stored rotated or mirrored (orientation {orientation}); it is read upright, as viewers show it",
        InputWarning,
        stacklevel=2,
    )
    if orientation >= 5:  # rows and columns are swapped
        array = np.swapaxes(array, 0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def _read_pillow_labels(path: Path) -> NDArray[Any]:
    with _pillow(path) as image:
        if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B"):  # in a palette image, the index is the id
            raise DataError(
                f"{path}: a label map of mode {image.mode}; colours are not ids; "
                "write one channel of 8 or 16 bits with the id of the nucleus at each pixel"
            )
        return np.asarray(image)


def _read_tiff_image(path: Path) -> NDArray[Any]:
    with tifffile.TiffFile(path) as file:
        found = image_pages(file, path)
        planes = [_read_page(page, path) for page in found.pages]
        found.tell(path)
    array = np.stack(planes, axis=-1) if len(planes) > 1 else planes[0]
    return upright(array, found.orientation, path)


def _read_tiff_labels(path: Path) -> NDArray[Any]:
    with tifffile.TiffFile(path) as file:
        found = first_page(file)
        array = _read_page(found.pages[0], path)
        found.tell(path)
    return array


def _read_page(page: Any, path: Path) -> NDArray[Any]:
    size = path.stat().st_size
    _check_pixels(path, page.imagelength, page.imagewidth)
    if page.photometric not in (0, 1, 2, 6):  # white is zero, black is zero, RGB, YCbCr
        raise DataError(f"{path}: colours stored as {page.photometric!r}; convert it to RGB or greyscale")
    # tifffile fills missing strips with zeros
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if not segments or any(count == 0 or offset + count > size for offset, count in segments):
        raise DataError(f"{path}: the file is truncated; copy or download it again")
    array: NDArray[Any] = page.asarray()
    if page.photometric == 0 and array.dtype == np.uint8:
        array = 255 - array
    if array.ndim == 3 and page.planarconfig == 2:  # one plane per channel
        array = np.moveaxis(array, 0, -1)
    return array


def _read_npy(path: Path) -> NDArray[Any]:
    lazy = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(lazy, np.ndarray):
        raise DataError(f"{path}: an archive of arrays; expected one array")
    _check_pixels(path, *lazy.shape)
    return np.array(lazy)


def _load_mat(path: Path) -> dict[str, NDArray[Any]]:
    return read_arrays(path, MAX_PIXELS)
