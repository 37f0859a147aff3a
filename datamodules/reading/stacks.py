"""Read single images from stacks (.npy) that hold all images of a split; only what is read is in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.reading import files
from datamodules.reading.files import read_rgb
from datamodules.reading.records import Record
from postproc.errors import DataError


def open_stack(path: Path, axes: tuple[int | None, ...], kinds: str = "biuf") -> NDArray[Any]:
    """Map a stack into memory without reading it.

    Args:
        path: A .npy file.
        axes: Expected size of each axis after the first, None = any. ``(None, None, 3)`` for images (N, H, W, 3).
        kinds: Permitted kinds of dtype, as in `numpy.dtype.kind`.

    Raises:
        DataError: If the file is missing, damaged or truncated, or has another shape or dtype.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy may raise anything on a damaged header, including tokenize.TokenError
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(f"{path}: cannot be read, it may be damaged ({reason}); copy or download it again") from error
    if not isinstance(array, np.memmap):
        raise DataError(f"{path}: holds several arrays; expected one")
    expected = " x ".join(["N", *("any" if size is None else str(size) for size in axes)])
    sizes = array.shape[1:]
    if len(sizes) != len(axes) or any(want not in (None, size) for want, size in zip(axes, sizes, strict=True)):
        raise DataError(f"{path}: holds {' x '.join(map(str, array.shape)) or 'one'} values; expected {expected}")
    if array.dtype.kind not in kinds:
        raise DataError(f"{path}: holds values of type {array.dtype}, not numbers of images or annotations")
    if 0 in sizes or np.prod(sizes, dtype=np.float64) > files.MAX_PIXELS:
        raise DataError(f"{path}: claims images of {' x '.join(map(str, sizes))} values")
    return array


def read_plane(path: Path, index: int, axes: tuple[int | None, ...]) -> NDArray[Any]:
    """Read one image or annotation of a stack; see `open_stack`.

    Raises:
        DataError: If the stack has no such image, or as for `open_stack`.
    """
    stack = open_stack(path, axes)
    if not 0 <= index < len(stack):
        raise DataError(f"{path}: holds {len(stack)} images, no image {index}; copy or download it again")
    return np.array(stack[index])


def whole_numbers(path: Path, index: int, plane: NDArray[Any], largest: int = 2**31 - 1) -> NDArray[np.int64]:
    """Return a plane as int64; stacks are often stored as floating-point numbers.

    Raises:
        DataError: If a value is not a whole number from 0 to `largest`.
    """
    if plane.dtype.kind == "f":
        valid = np.isfinite(plane) & (plane == np.floor(np.where(np.isfinite(plane), plane, 0)))
        if not valid.all():
            raise DataError(f"{path}: image {index} has the value {plane[~valid][0]}; expected whole numbers")
    if plane.size and (plane.min() < 0 or plane.max() > largest):
        raise DataError(
            f"{path}: image {index} has values from {plane.min()} to {plane.max()}; expected 0 to {largest}"
        )
    return plane.astype(np.int64)


def read_image_of(record: Record) -> NDArray[np.uint8]:
    """Read the image of a record, from its own file or from a stack (N, H, W, 3).

    Raises:
        DataError: If it cannot be read.
    """
    if record.index is None:
        return read_rgb(record.image)
    plane = read_plane(record.image, record.index, (None, None, 3))
    return whole_numbers(record.image, record.index, plane, 255).astype(np.uint8)


def write_stack(path: Path, planes: NDArray[Any]) -> None:
    """Write a stack as .npy, atomically."""
    with files.replacing(path) as temporary:
        np.save(temporary, planes, allow_pickle=False)
