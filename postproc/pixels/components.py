"""Connected components, holes and small objects."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from postproc.pixels.compiled import compiled
from postproc.pixels.labels import LabelMap
from postproc.pixels.spans import Spans, areas, draw_spans, find_spans, join_spans

Connectivity = Literal[4, 8]
Mask = NDArray[np.bool_]


def connected_components(
    image: Mask | NDArray[np.integer[Any]], connectivity: Connectivity = 8
) -> tuple[LabelMap, int]:
    """Label the connected components of a mask, or of each label of a label map.

    Args:
        image: (H, W), bool or integer; 0 = background. Pixels of different labels never join.
        connectivity: 4 or 8 neighbours.

    Returns:
        int32 (H, W), components 1..N in raster order of their first pixel, and N.
    """
    spans = find_spans(image)
    component, count = join_spans(spans, connectivity)
    return draw_spans(spans, component, image.shape[1]), count


def large_components(mask: Mask, minimum: int) -> tuple[LabelMap, int]:
    """Number the 4-connected components of at least `minimum` px, in raster order of their first pixel.

    Equal to `remove_small` of `connected_components`.

    Args:
        mask: bool (H, W).
        minimum: Smallest area that is kept, in pixels.

    Returns:
        int32 (H, W), components 1..N, and N.
    """
    spans, component, count = _large(mask, minimum)
    return draw_spans(spans, component, mask.shape[1]), count


def without_small(mask: Mask, minimum: int, connectivity: Connectivity = 4) -> Mask:
    """Return a mask without its components, of 4 or 8 neighbours, of fewer than `minimum` px."""
    spans, component, _ = _large(mask, minimum, connectivity)
    kept = np.array(mask, order="C")
    _write(kept, spans, component == 0, False)
    return kept


def _large(mask: Mask, minimum: int, connectivity: Connectivity = 4) -> tuple[Spans, NDArray[np.int32], int]:
    """Return the spans of a mask, the large component of each span (0 = small), and the number of large components."""
    spans = find_spans(mask)
    component, count = join_spans(spans, connectivity)
    new, kept = _numbers(areas(spans, component, count), minimum)
    return spans, new[component], kept


def remove_small(labels: LabelMap, minimum: int) -> LabelMap:
    """Drop objects of fewer than `minimum` px and renumber the rest in the order of their ids.

    Args:
        labels: int32 (H, W), 0 = background, ids not far above the number of objects.
        minimum: Smallest area that is kept, in pixels.

    Returns:
        int32 (H, W), ids 1..N without gaps.
    """
    spans = find_spans(labels)
    new, _ = _numbers(areas(spans, spans.value, int(spans.value.max(initial=0))), minimum)
    return draw_spans(spans, new[spans.value], labels.shape[1])


def compact(labels: LabelMap) -> LabelMap:
    """Renumber objects 1..N without gaps, in the order of their ids."""
    return remove_small(labels, 1)


def _numbers(area: NDArray[np.int64], minimum: int) -> tuple[NDArray[np.int32], int]:
    """Return the new id of each object (0 = dropped), int32 (N + 1,), and the number of objects kept."""
    kept = area >= max(minimum, 1)
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0).astype(np.int32), int(kept.sum())


def fill_holes(mask: Mask) -> Mask:
    """Fill background that is not 4-connected to the border of the image.

    Equal to ``scipy.ndimage.binary_fill_holes``.
    """
    filled = np.array(mask, order="C")
    spans = find_spans(~filled)
    component, count = join_spans(spans, 4)
    outside = _on_border(spans, component, count, mask.shape[1])
    _write(filled, spans, ~outside[component], True)
    return filled


@compiled
def _on_border(spans: Spans, component: NDArray[np.int32], count: int, width: int) -> Mask:
    """Mark the components with a pixel on the border of the image, bool (count + 1,)."""
    place, _, first = spans
    found = np.zeros(count + 1, np.bool_)
    for span in range(component.size):
        y, start, stop = place[span]
        if y == 0 or y == first.size - 2 or start == 0 or stop == width:
            found[component[span]] = True
    return found


@compiled
def _write(mask: Mask, spans: Spans, chosen: Mask, value: bool) -> None:
    place, _, _ = spans
    for span in range(chosen.size):
        if chosen[span]:
            mask[place[span, 0], place[span, 1] : place[span, 2]] = value


@compiled
def separate(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Mark the nuclear pixels without a pixel of another nucleus among their 8 neighbours, bool (H, W)."""
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


def fill_object_holes(labels: LabelMap) -> LabelMap:
    """Fill the holes of each object.

    A hole is a 4-connected part of the background that does not touch the border of the image and whose 4 neighbours
    all belong to one object. Background between several objects is not a hole, and objects inside others are kept.

    Args:
        labels: int32 (H, W), 0 = background.
    """
    pieces, count = connected_components(labels == 0, 4)
    return _fill_objects(np.ascontiguousarray(labels), pieces, count)


@compiled
def _fill_objects(labels: LabelMap, pieces: LabelMap, count: int) -> LabelMap:
    # The first pass finds the only object around each background component, the second one paints the holes.
    height, width = labels.shape
    owner = np.zeros(count + 1, np.int32)  # 0 = not yet known, -1 = not a hole
    for y in range(height):
        for x in range(width):
            piece = pieces[y, x]
            if piece == 0:
                continue
            if y == 0 or x == 0 or y == height - 1 or x == width - 1:
                owner[piece] = -1
                continue
            for ny, nx in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                near = labels[ny, nx]
                if near != 0 and owner[piece] != near:
                    owner[piece] = near if owner[piece] == 0 else -1
    filled = labels.copy()
    for y in range(height):
        for x in range(width):
            if owner[pieces[y, x]] > 0:
                filled[y, x] = owner[pieces[y, x]]
    return filled
