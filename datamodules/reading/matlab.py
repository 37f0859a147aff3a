"""Interpret the arrays of a HoVer-Net label file (MATLAB): outlines, ids, types, centres."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.reading.sense import Sense
from postproc.errors import DataError, InputWarning
from postproc.instances import Instances
from postproc.pixels.labels import LabelMap, relabel

TYPE_KEYS = ("inst_type", "class")
"""Arrays with the type of each nucleus, in HoVer-Net's and Lizard's files."""
ID_KEYS = ("inst_id", "inst_uid", "id")
"""Arrays with the id of each row, in later copies of CoNSeP and our files, HoVer-Net's output, and Lizard."""
MAP_KEYS = ("type_map", "class_map")
"""Arrays with the type of each pixel."""
MOST_TYPES = 255
"""Largest accepted type; scores have a row and a column per type."""
MAX_SIDE = 1 << 20
"""Longest accepted side of an image, in pixels."""

_LIKE_TYPES = re.compile(r"type|class|categor", re.IGNORECASE)


def integral(array: NDArray[Any], path: Path) -> NDArray[np.integer]:
    """Return a label map as integers after checking that it is (H, W) with whole numbers in 0..2**31 - 1.

    Args:
        array: The map as read, of any numeric dtype.
        path: The file, for the message.

    Raises:
        DataError: If the check fails.
    """
    if array.ndim != 2:
        raise DataError(f"{path}: label map has shape {array.shape}, expected one channel (H, W)")
    if array.size == 0:
        raise DataError(f"{path}: label map is empty ({array.shape})")
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path}: label map of dtype {array.dtype}, expected integers")
    if not (np.isfinite(array).all() and array.min() >= 0 and array.max() < 2**31):
        raise DataError(f"{path}: label map has values outside 0..2**31 - 1 ({array.min()} to {array.max()})")
    if array.dtype.kind in "iu":
        return array
    whole = array.astype(np.int32)
    if array.dtype.kind == "f" and not np.array_equal(whole, array):
        raise DataError(f"{path}: label map holds fractions; expected one whole number per nucleus")
    return whole


def instances_of_arrays(path: Path, arrays: dict[str, NDArray[Any]], sense: Sense | None = None) -> Instances:
    """Build nuclei from the arrays of a label file.

    The types (rows of ``inst_type``, or ``class`` in Lizard) are assigned to the ids of ``inst_map`` as follows:

    - with ``inst_id`` (``inst_uid`` in HoVer-Net's output, ``id`` in Lizard), row k belongs to id ``inst_id[k]``, in
      any order; ids without a row have no type;
    - otherwise, if there are as many rows as ids in the map, row k belongs to the k-th smallest id;
    - otherwise, if there are at least as many rows as the largest id, row k belongs to id k + 1 (HoVer-Net's
      convention);
    - without rows, ``type_map`` (``class_map``) gives each nucleus the majority type of its pixels.

    The second and third rule agree if ids have no gaps, and exclude each other otherwise.

    Args:
        path: The file, for messages.
        arrays: ``inst_map`` (H, W) and optionally ``inst_type``, ``inst_score``, ``inst_id`` (N, 1 each) and
            ``type_map`` (H, W); or, for nuclei without outline, ``image_shape`` (1, 2) and ``inst_centroid``
            (N, 2; x, y).
        sense: Checks maps whose ids are in no row; None = use the ids unchanged.

    Returns:
        The nuclei, renumbered 1..N in the order of their ids.

    Raises:
        DataError: If the map is not 2-D, not integral or negative, or the rows match no rule.
    """
    if "inst_map" not in arrays:
        return _points_of_mat(path, arrays)
    raw = integral(arrays["inst_map"], path)
    labels, _, ids = relabel(raw)
    shape = (labels.shape[0], labels.shape[1])
    key, type_map = _first(TYPE_KEYS, arrays), _first(MAP_KEYS, arrays)
    rows = _rows(path, arrays, ids, key)
    if rows is None and sense is not None:
        labels = sense.check(labels, arrays["inst_map"], path)
    scores = types = None
    if rows is not None and "inst_score" in arrays:
        scores = _by_row(arrays["inst_score"].ravel().astype(np.float32), rows)
    if rows is not None and key is not None:
        types = _by_row(_whole_types(path, key, arrays[key]), rows)
    elif type_map is not None:
        drawn = arrays[type_map]
        types = majority_types(labels, _whole_types(path, type_map, drawn).reshape(drawn.shape), path)
    else:
        _name_foreign_types(path, arrays)
    return Instances(shape, labels=labels, types=types, scores=scores)


def _first(keys: tuple[str, ...], arrays: dict[str, NDArray[Any]]) -> str | None:
    return next((key for key in keys if key in arrays), None)


def _by_row(values: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return the value of each id, 0 if it has no row (-1)."""
    return np.concatenate([values, np.zeros(1, values.dtype)])[rows]


def _name_foreign_types(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Warn about arrays that look like types if the file has none of the supported ones."""
    alike = [name for name in arrays if _LIKE_TYPES.search(name)]
    if alike:
        warnings.warn(
            f"{path}: read without types; {', '.join(map(repr, alike))} may hold them, but only "
            f"{', '.join((*TYPE_KEYS, *MAP_KEYS))} are read. Rename the array",
            InputWarning,
            stacklevel=4,
        )


def _rows(
    path: Path, arrays: dict[str, NDArray[Any]], ids: NDArray[np.int64], key: str | None
) -> NDArray[np.int64] | None:
    """Find the row of types (and ``inst_score``) of each id of the map, -1 = none; None if the file has no rows."""
    columns = [name for name in (key, "inst_score") if name is not None and name in arrays]
    if not columns:
        return None
    lengths = [arrays[name].size for name in columns]
    if len(set(lengths)) > 1:
        raise DataError(f"{path}: {key} and inst_score have {sorted(lengths)} rows, expected the same number")
    name, length = columns[0], lengths[0]
    named = _first(ID_KEYS, arrays)
    if named == "id" and arrays["id"].size != length:  # possibly the id of the image
        named = None
    if named is not None:
        return _rows_by_id(path, (named, name), arrays[named].ravel(), ids, length)
    if length == len(ids):
        return np.arange(length)
    if length >= ids.max(initial=0):
        return ids - 1
    raise DataError(
        f"{path}: {name} has {length} rows for {len(ids)} ids up to {ids.max()}; "
        "give one row per id, one row up to the largest id, or inst_id"
    )


def _rows_by_id(
    path: Path, names: tuple[str, str], known: NDArray[Any], ids: NDArray[np.int64], length: int
) -> NDArray[np.int64]:
    """Find the row of each id among the ids of the rows, -1 if there is none."""
    if len(known) != length or len(np.unique(known)) != length:
        raise DataError(f"{path}: {names[0]} has {len(known)} rows for {length} of {names[1]}, or an id twice")
    if len(ids) and not np.isin(ids, known).any():
        raise DataError(f"{path}: none of the {len(ids)} ids of inst_map is in {names[0]} ({length} rows)")
    if length == 0:
        return np.full(len(ids), -1)
    order = np.argsort(known)
    place = order[np.minimum(np.searchsorted(known, ids, sorter=order), length - 1)]
    return np.where(known[place] == ids, place, -1)


def _points_of_mat(path: Path, arrays: dict[str, NDArray[Any]]) -> Instances:
    points, shape = arrays.get("inst_centroid"), arrays.get("image_shape")
    if points is None or shape is None or shape.size != 2:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise DataError(f"{path}: no inst_map (H, W); the file holds {found}. Rename the label map to inst_map")
    sides = shape.ravel().astype(np.float64)
    if not (np.isfinite(sides).all() and (sides == np.floor(sides)).all() and sides.min() >= 1):
        raise DataError(f"{path}: image_shape is {sides.tolist()}, expected height and width in px")
    if sides.max() > MAX_SIDE:
        raise DataError(f"{path}: image_shape claims {sides[0]:g} x {sides[1]:g} px")
    if points.size % 2 or not np.isfinite(points).all():
        raise DataError(f"{path}: inst_centroid of shape {points.shape}; expected (N, 2), finite x and y in px")
    points = points.reshape(-1, 2).astype(np.float32)
    key = _first(TYPE_KEYS, arrays)
    types, scores = None if key is None else arrays[key], arrays.get("inst_score")
    for name, values in ((key, types), ("inst_score", scores)):
        if values is not None and values.size != len(points):
            raise DataError(f"{path}: {name} has {values.size} rows for {len(points)} centroids")
    return Instances(
        (int(sides[0]), int(sides[1])),
        points=points,
        types=None if types is None else _whole_types(path, key or "", types),
        scores=None if scores is None else scores.ravel().astype(np.float32),
    )


def _whole_types(path: Path, name: str, values: NDArray[Any]) -> NDArray[np.int64]:
    flat = values.ravel()
    if not (np.isfinite(flat).all() and (flat >= 0).all() and np.array_equal(flat, np.floor(flat))):
        raise DataError(f"{path}: {name}: nucleus types must be whole numbers from 0")
    if flat.max(initial=0) > MOST_TYPES:
        raise DataError(f"{path}: {name} holds the type {flat.max():g}; types are 0 (none) to {MOST_TYPES}")
    return flat.astype(np.int64)


def majority_types(labels: LabelMap, type_map: NDArray[np.int64], path: Path) -> NDArray[np.int64]:
    """Return the majority type of the pixels of each nucleus (the lower type on a tie).

    Args:
        labels: int32 (H, W), ids 1..N.
        type_map: int64 (H, W), type of each pixel.
        path: The file, for the message.

    Returns:
        int64 (N,).

    Raises:
        DataError: If the maps differ in size.
    """
    if type_map.shape != labels.shape:
        raise DataError(f"{path}: type_map is {type_map.shape}, inst_map {labels.shape}")
    kinds = int(type_map.max(initial=0)) + 1
    inside = labels > 0
    # only existing pairs, since a file could make a table of all nuclei and types arbitrarily large
    pairs, votes = np.unique((labels[inside] - 1) * np.int64(kinds) + type_map[inside], return_counts=True)
    nucleus, kind = np.divmod(pairs, kinds)
    types = np.zeros(int(labels.max(initial=0)), np.int64)
    # the last pair of a nucleus has the most votes, and on a tie the lower type
    order = np.lexsort((-kind, votes, nucleus))
    types[nucleus[order]] = kind[order]
    return types
