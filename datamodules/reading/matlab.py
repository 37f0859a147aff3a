"""What the arrays of a HoVer-Net label file (MATLAB) mean: outlines, ids, types, centres."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from postproc.errors import DataError
from postproc.instances import Instances
from postproc.pixels.labels import LabelMap, relabel


def integral(array: NDArray[Any], path: Path) -> NDArray[np.integer]:
    """Return a label map as integers, having checked that it is (H, W) of whole numbers in 0..2**31 - 1.

    Args:
        array: The map as read, of any numeric dtype.
        path: The file, for the message.

    Raises:
        DataError: If it does not.
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


def instances_of_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> Instances:
    """Build nuclei from the arrays of a label file.

    The types (rows of ``inst_type``) go to the ids of ``inst_map`` so:

    - with ``inst_id``, row k belongs to id ``inst_id[k]``;
    - otherwise, with as many rows as the map has ids, row k belongs to the k-th smallest id;
    - otherwise, with at least as many rows as the largest id, row k belongs to id k + 1 (HoVer-Net's
      convention);
    - without ``inst_type``, ``type_map`` gives each nucleus the type of most of its pixels.

    The second and third rule agree where ids have no gaps and exclude each other where they have.

    Args:
        path: The file, for messages.
        arrays: ``inst_map`` (H, W) and perhaps ``inst_type``, ``inst_score``, ``inst_id`` (N, 1 each) and
            ``type_map`` (H, W); or, for nuclei without outline, ``image_shape`` (1, 2) and ``inst_centroid``
            (N, 2; x, y).

    Returns:
        The nuclei, numbered 1..N anew in the order of their ids.

    Raises:
        DataError: If the map is not 2-D, not integral or negative, or the rows fit no rule.
    """
    if "inst_map" not in arrays:
        return _points_of_mat(path, arrays)
    raw = integral(arrays["inst_map"], path)
    labels, _, ids = relabel(raw)
    shape = (labels.shape[0], labels.shape[1])
    rows = _rows(path, arrays, ids)
    scores = arrays["inst_score"].ravel()[rows].astype(np.float32) if "inst_score" in arrays else None
    if "inst_type" in arrays:
        types = _whole_types(path, arrays["inst_type"])[rows]
    elif "type_map" in arrays:
        types = majority_types(labels, _whole_types(path, arrays["type_map"]).reshape(arrays["type_map"].shape), path)
    else:
        return Instances(shape, labels=labels, scores=scores)
    return Instances(shape, labels=labels, types=types, scores=scores)


def _rows(path: Path, arrays: dict[str, NDArray[Any]], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Find the row of ``inst_type`` (and ``inst_score``) of each id of the map, see `read_instances`."""
    lengths = {arrays[name].size for name in ("inst_type", "inst_score") if name in arrays}
    if not lengths:
        return np.zeros(0, np.int64)
    if len(lengths) > 1:
        raise DataError(f"{path}: inst_type and inst_score have {sorted(lengths)} rows, expected the same number")
    (length,) = lengths
    if "inst_id" in arrays:
        return _rows_by_id(path, arrays["inst_id"].ravel(), ids, length)
    if length == len(ids):
        return np.arange(length)
    if length >= ids.max(initial=0):
        return ids - 1
    raise DataError(
        f"{path}: inst_type has {length} rows for {len(ids)} ids up to {ids.max()}; "
        "give one row per id, one row up to the largest id, or inst_id"
    )


def _rows_by_id(path: Path, known: NDArray[Any], ids: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    if len(known) != length or len(np.unique(known)) != length:
        raise DataError(f"{path}: inst_id has {len(known)} rows for {length} of inst_type, or an id twice")
    missing = np.setdiff1d(ids, known)
    if missing.size:
        raise DataError(f"{path}: inst_map has the id {missing[0]}, which is not in inst_id")
    order = np.argsort(known)
    return order[np.searchsorted(known, ids, sorter=order)]


def _points_of_mat(path: Path, arrays: dict[str, NDArray[Any]]) -> Instances:
    points, shape = arrays.get("inst_centroid"), arrays.get("image_shape")
    if points is None or shape is None or shape.size != 2:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise DataError(f"{path}: no inst_map (H, W); the file holds {found}")
    points = points.reshape(-1, 2).astype(np.float32)
    types, scores = arrays.get("inst_type"), arrays.get("inst_score")
    for name, values in (("inst_type", types), ("inst_score", scores)):
        if values is not None and values.size != len(points):
            raise DataError(f"{path}: {name} has {values.size} rows for {len(points)} centroids")
    return Instances(
        (int(shape.ravel()[0]), int(shape.ravel()[1])),
        points=points,
        types=None if types is None else _whole_types(path, types),
        scores=None if scores is None else scores.ravel().astype(np.float32),
    )


def _whole_types(path: Path, values: NDArray[Any]) -> NDArray[np.int64]:
    flat = values.ravel()
    if not (np.isfinite(flat).all() and (flat >= 0).all() and np.array_equal(flat, np.floor(flat))):
        raise DataError(f"{path}: nucleus types must be whole numbers from 0")
    return flat.astype(np.int64)


def majority_types(labels: LabelMap, type_map: NDArray[np.int64], path: Path) -> NDArray[np.int64]:
    """Give each nucleus the type of most of its pixels (the lower one of two that tie).

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
    count, kinds = int(labels.max(initial=0)), int(type_map.max(initial=0)) + 1
    inside = labels > 0
    votes = np.bincount((labels[inside] - 1) * np.int64(kinds) + type_map[inside], minlength=count * kinds)
    types: NDArray[np.int64] = votes.reshape(count, kinds).argmax(axis=1)
    return types
