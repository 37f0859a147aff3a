"""Points and parts of nuclei after cutting or mirroring. Does not import albumentations, which takes a second."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from postproc.pixels.components import connected_components
from postproc.pixels.labels import LabelMap

BORDER = cv2.BORDER_REFLECT
"""Repeats the edge pixel, as `np.pad(mode="symmetric")` does."""


def inside(points: NDArray[np.float32], shape: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Select the points whose nearest pixel is in the image.

    Args:
        points: float32 (N, 2) as (x, y) in pixels.
        shape: (H, W) of the image.

    Returns:
        Those points, moved onto the outermost pixel centres if they are up to half a pixel beyond them, and
        their rows.
    """
    extent = np.array(shape[::-1], np.float32)
    rows = np.flatnonzero(((points >= -0.5) & (points < extent - 0.5)).all(axis=1))
    return np.clip(points[rows], 0, extent - 1).astype(np.float32), rows


def split_parts(
    labels: LabelMap, types: NDArray[np.int64] | None, least: int = 1
) -> tuple[LabelMap, NDArray[np.int64] | None]:
    """Give each 8-connected part of each nucleus its own id.

    A mirrored copy of a nucleus looks like another nucleus; HoVer-Net's training also renumbers such copies.

    Args:
        labels: int32 (H, W), gaps in the ids allowed.
        types: Row k belongs to id k + 1, or None.
        least: Parts smaller than this many pixels become background, except the largest part of each nucleus and
            parts at the border of the map: nearest-neighbour resampling tears off tips that are one pixel wide.

    Returns:
        The map with ids 1..N, in the order of the old ids, and their types.
    """
    parts, count = connected_components(labels, 8)
    owner = np.zeros(count + 1, np.int64)
    owner[parts.ravel()] = labels.ravel()
    area = np.bincount(parts.ravel(), minlength=count + 1)
    order = np.lexsort((area, owner))  # the last part of each owner is its largest
    keep = area >= least
    keep[order[np.append(np.diff(owner[order]) > 0, True)]] = True
    for edge in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
        keep[edge] = True
    keep[0] = False
    kept = order[keep[order]]
    number = np.zeros(count + 1, np.int32)
    number[kept] = np.arange(1, len(kept) + 1, dtype=np.int32)
    return number[parts], None if types is None else np.asarray(types)[owner[kept] - 1]
