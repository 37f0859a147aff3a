"""Connected components, holes and small objects."""

from __future__ import annotations

from typing import Any, Literal

import cc3d
import cv2
import numpy as np
from numpy.typing import NDArray

from postproc.compiled import compiled
from postproc.instances import LabelMap

Connectivity = Literal[4, 8]


def connected_components(
    image: NDArray[np.bool_] | NDArray[np.integer[Any]], connectivity: Connectivity = 8
) -> tuple[LabelMap, int]:
    """Number the connected components of a mask, or of each label of a label map.

    Args:
        image: (H, W), bool or integer; 0 = background. Pixels of different labels never join.
        connectivity: 4 or 8 neighbours.

    Returns:
        int32 (H, W), components 1..N in an order that depends on the image alone, and N.
    """
    if image.size == 0:
        return np.zeros(image.shape, np.int32), 0
    array = np.ascontiguousarray(image)
    if array.dtype == np.bool_:
        # cc3d 4.1.1 mislabels bool images over 8 neighbours (even background pixels); integers take another path.
        array = array.view(np.uint8)
    labels, count = cc3d.connected_components(array, connectivity=connectivity, out_dtype=np.uint32, return_N=True)
    return np.asarray(labels).view(np.int32), int(count)


def remove_small(labels: LabelMap, minimum: int) -> LabelMap:
    """Drop objects of fewer than `minimum` px and number the rest anew, in the order of their ids.

    Args:
        labels: int32 (H, W), 0 = background, ids not far above the number of objects.
        minimum: Smallest area that is kept, in px.

    Returns:
        int32 (H, W), ids 1..N without gaps.
    """
    return _renumbered(np.ascontiguousarray(labels), int(labels.max(initial=0)), minimum)


@compiled
def _renumbered(labels: LabelMap, count: int, minimum: int) -> LabelMap:
    area = np.zeros(count + 1, np.int64)
    for own in labels.ravel():
        area[own] += 1
    new = np.zeros(count + 1, np.int32)
    kept = 0
    for label in range(1, count + 1):
        if area[label] >= max(minimum, 1):
            kept += 1
            new[label] = kept
    result = np.empty_like(labels)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            result[y, x] = new[labels[y, x]]
    return result


def compact(labels: LabelMap) -> LabelMap:
    """Number objects 1..N without gaps, in the order of their ids."""
    return remove_small(labels, 1)


def fill_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill the background that no path over 4 neighbours joins to the border of the image.

    Equal to ``scipy.ndimage.binary_fill_holes``.
    """
    height, width = mask.shape
    padded = np.zeros((height + 2, width + 2), np.uint8)
    padded[1:-1, 1:-1] = mask
    cv2.floodFill(padded, None, (0, 0), 2, flags=4)
    return np.asarray(padded[1:-1, 1:-1] != 2)


@compiled
def separate(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Mark the nuclear pixels that have no pixel of another nucleus among their 8 neighbours, bool (H, W)."""
    height, width = labels.shape
    alone = np.zeros((height, width), np.bool_)
    for y in range(height):
        for x in range(width):
            label = labels[y, x]
            if label == 0:
                continue
            touching = False
            for ny in range(max(y - 1, 0), min(y + 2, height)):
                for nx in range(max(x - 1, 0), min(x + 2, width)):
                    touching |= labels[ny, nx] != 0 and labels[ny, nx] != label
            alone[y, x] = not touching
    return alone
