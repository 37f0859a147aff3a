"""Read the numeric arrays of MATLAB 5 files (MATLAB's ``-v6`` and ``-v7``, `scipy.io.savemat`).

The format is published by MathWorks ("MAT-File Format", level 5). `scipy.io.loadmat` reads all of it, but a damaged
file can crash the process with a segmentation fault (scipy 1.17). This reader only reads dense real arrays. Cells,
structs, text, sparse and complex arrays, objects and functions are skipped without being parsed.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from postproc.errors import DataError

_MATRIX, _COMPRESSED = 14, 15
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
# data type of an element -> numpy dtype
_NUMERIC = range(6, 16)
# classes of arrays: double, single, then integers of 8 to 64 bits
_COMPLEX = 0x0800
_HEAD = 4096
# most bytes for flags, shape and name of an array


@dataclass(frozen=True)
class _Element:
    """A data element: its type, the start and size of its content in bytes, and the start of the next element."""

    kind: int
    start: int
    size: int
    end: int


def read_arrays(path: Path, most: int) -> dict[str, NDArray[Any]]:
    """Read the dense real arrays of a file, each with its stored data type.

    Args:
        path: The file.
        most: Maximum number of values of an array; compressed arrays may have twice as many in total.

    Returns:
        Name -> array, with at least two dimensions.

    Raises:
        DataError: If the file is damaged, has another version, or has a larger array.
    """
    content = path.read_bytes()
    if 0 in content[:4]:
        raise DataError(f"{path}: not a MATLAB 5 file; save it with '-v7' in MATLAB or with scipy.io.savemat")
    if len(content) < 128:
        raise _damaged(path, "no header")
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None:
        raise _damaged(path, "no byte order")
    (version,) = struct.unpack_from(f"{order}H", content, 124)
    if version == 0x0200:
        raise DataError(f"{path}: MATLAB 7.3; save it with '-v7' in MATLAB or with scipy.io.savemat")
    if version != 0x0100:
        raise _damaged(path, f"version {version:#x}")
    reader = _Reader(path, order, most)
    return dict(reader.arrays(content))


class _Reader:
    """Reader of the arrays of one file.

    Args:
        path: The file, for messages.
        order: Byte order in the notation of `struct`.
        most: Maximum number of values of an array.
    """

    def __init__(self, path: Path, order: str, most: int) -> None:
        self._path = path
        self._order = order
        self._most = most
        self._left = 2 * most

    def arrays(self, content: bytes) -> Iterator[tuple[str, NDArray[Any]]]:
        """Yield name and array of each element that is a dense real array."""
        at = 128
        while at < len(content):
            element = self._element(content, at)
            inside = content[element.start : element.start + element.size]
            if element.kind == _COMPRESSED:
                found = self._compressed(inside)
            elif element.kind == _MATRIX:
                found = self._array(inside, inside)
            else:
                raise _damaged(self._path, f"an element of type {element.kind}")
            if found is not None:
                yield found
            # compressed elements are not padded to 8 bytes, and matrices need no padding
            at = element.start + element.size

    def _compressed(self, content: bytes) -> tuple[str, NDArray[Any]] | None:
        """Read a compressed array; only its header is expanded before its size is checked."""
        unpack = zlib.decompressobj()
        try:
            head = unpack.decompress(content, 8 + _HEAD)
            if len(head) < 8:
                raise _damaged(self._path, "an empty element")
            kind, size = struct.unpack_from(f"{self._order}II", head)
            if kind != _MATRIX:
                raise _damaged(self._path, f"a compressed element of type {kind}")
            described = self._describe(head[8:])
            if described is None:
                return None
            self._claim(*described, size)
            rest = unpack.decompress(unpack.unconsumed_tail, max(1, size + 8 - len(head)))
            beyond = unpack.decompress(unpack.unconsumed_tail, 1)  # the end, where the checksum is verified
        except zlib.error as error:
            raise _damaged(self._path, str(error)) from error
        whole = head + rest
        if len(whole) != size + 8 or beyond or not unpack.eof:
            raise _damaged(self._path, "a compressed element whose length differs from the stated one")
        return self._array(whole[8 : 8 + _HEAD], memoryview(whole)[8:])

    def _claim(self, name: str, shape: tuple[int, ...], at: int, size: int) -> None:
        """Check the size of an array before it is expanded: a file of zeros expands to a thousand times its size."""
        count = math.prod(shape)
        if size > at + 16 + 8 * count:
            raise _damaged(self._path, f"array {name!r} has {size} bytes for a shape of {shape}")
        self._left -= count
        if self._left < 0:
            raise DataError(
                f"{self._path}: its arrays hold more than {2 * self._most} values together; "
                "save only inst_map and the types"
            )

    def _array(self, head: bytes, content: bytes | memoryview) -> tuple[str, NDArray[Any]] | None:
        described = self._describe(head)
        if described is None:
            return None
        name, shape, at = described
        element = self._element(content, at)
        stored = _STORED.get(element.kind)
        if stored is None:
            raise _damaged(self._path, f"array {name!r} of type {element.kind}")
        dtype = np.dtype(f"{self._order}{stored}")
        if element.size != math.prod(shape) * dtype.itemsize:
            raise _damaged(self._path, f"array {name!r} has {element.size} bytes for a shape of {shape}")
        flat: NDArray[Any] = np.frombuffer(content, dtype, math.prod(shape), element.start)
        return name, flat.reshape(shape, order="F").astype(dtype.newbyteorder("="))

    def _describe(self, head: bytes) -> tuple[str, tuple[int, ...], int] | None:
        """Read name, shape and start of the values of an array; None if it is not a dense real array."""
        flags = self._element(head, 0)
        if flags.kind != 6 or flags.size != 8:
            raise _damaged(self._path, "an array without flags")
        (word,) = struct.unpack_from(f"{self._order}I", head, flags.start)
        if word & 0xFF not in _NUMERIC or word & _COMPLEX:
            return None
        extents = self._element(head, flags.end)
        if extents.kind != 5 or not 8 <= extents.size <= 128 or extents.size % 4:
            raise _damaged(self._path, "an array without a shape")
        shape = struct.unpack_from(f"{self._order}{extents.size // 4}i", head, extents.start)
        label = self._element(head, extents.end)
        if label.kind not in (1, 2, 16):
            raise _damaged(self._path, "an array without a name")
        name = head[label.start : label.start + label.size].decode("latin-1")
        if min(shape) < 0:
            raise _damaged(self._path, f"array {name!r} of shape {shape}")
        if math.prod(shape) > self._most:
            raise DataError(
                f"{self._path}: claims {' x '.join(map(str, shape))} values, more than the limit of {self._most}"
            )
        return (name, shape, label.end) if name else None

    def _element(self, content: bytes | memoryview, at: int) -> _Element:
        """Read the tag of an element."""
        if at + 8 > len(content):
            raise _damaged(self._path, "it ends early")
        kind, size = struct.unpack_from(f"{self._order}II", content, at)
        if kind >> 16:  # up to four bytes are stored in the tag
            kind, size = kind & 0xFFFF, kind >> 16
            element = _Element(kind, at + 4, size, at + 8)
            if size > 4:
                raise _damaged(self._path, "a short element that is long")
        else:
            element = _Element(kind, at + 8, size, at + 8 + -(-size // 8) * 8)
        if element.start + size > len(content):
            raise _damaged(self._path, "it ends early")
        return element


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(f"{path}: cannot be read, it may be damaged ({reason}); copy or download it again")


__all__ = ["read_arrays"]
