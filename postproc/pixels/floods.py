"""The compiled loops of `postproc.pixels.watershed`: one component of the mask at a time."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from postproc.pixels.compiled import compiled
from postproc.pixels.spans import Spans

Image = NDArray[Any]
Numbers = NDArray[np.int64]

_OUTSIDE = np.int32(-(2**31))  # not an id: marks the part of a crop that must not be flooded
_SIGN = np.int32(-(2**31))  # the sign bit of a float32
_MAGNITUDE = np.int32(2**31 - 1)  # its other bits


class Crop(NamedTuple):
    """Buffer for one component of the mask and a margin of 1 px, so that loops need no bounds checks and stay in cache.

    Attributes:
        label: int32, ids; 0 = free, `_OUTSIDE` = not in the component. All `_OUTSIDE` between components.
        level: int32, priorities.
        queue: int64, elements that wait to be flooded.
        place: int32, positions in the order of entry into the queue.
    """

    label: NDArray[np.int32]
    level: NDArray[np.int32]
    queue: Numbers
    place: NDArray[np.int32]


@compiled
def flood_components(
    image: Image, markers: Image, output: Image, spans: Spans, component: Image, count: int, exact: bool
) -> bool:
    """Flood every component of a mask from the markers inside it.

    Args:
        image: int32 (H, W), priorities of 0 and more, or the bits of float32 numbers.
        markers: int32 (H, W), 0 = none.
        output: int32 (H, W) of zeros; filled in place.
        spans: Spans of the mask.
        component: int32 (R,), 4-connected component of each span.
        count: Number of components.
        exact: Stop if the order of seeds of equal level affects the result.

    Returns:
        True if it stopped.
    """
    only, several = _only_marker(markers, spans, component, count)
    members, first = _by_component(component, several)
    _fill(output, spans, component, only)
    crop = _new_crop(0)
    for c in range(1, count + 1):
        if not several[c]:
            continue
        own = members[first[c] : first[c + 1]]
        left, right = _extent(spans, own)
        top, stride = spans.place[own[0], 0], right - left + 2
        need = (spans.place[own[-1], 0] - top + 3) * stride + 1
        if need > crop.label.size:
            crop = _new_crop(2 * need)
        origin = (1 - top) * stride + 1 - left  # position of pixel (0, 0)
        free = _load(image, markers, spans, own, origin, stride, crop)
        seeds = _list_seeds(spans, own, origin, stride, crop)
        if exact and order_matters(crop.label, crop.level, stride, crop.place[:seeds]):
            return True
        _flood(crop, stride, seeds, free)
        _store(output, spans, own, origin, stride, crop)
    return False


@compiled
def _only_marker(markers: Image, spans: Spans, component: Image, count: int) -> tuple[Image, Image]:
    """Return the first marker of each component (0 = none), and whether it contains others."""
    place, _, _ = spans
    only = np.zeros(count + 1, np.int32)
    several = np.zeros(count + 1, np.bool_)
    for span in range(component.size):
        own = component[span]
        label = only[own]
        for marker in markers[place[span, 0], place[span, 1] : place[span, 2]]:
            if marker != label and marker != 0:
                if label == 0:
                    only[own] = label = marker
                else:
                    several[own] = True
                    break
    return only, several


@compiled
def _fill(output: Image, spans: Spans, component: Image, label: Image) -> None:
    """Write the label of each component to its pixels."""
    place, _, _ = spans
    for span in range(component.size):
        for x in range(place[span, 1], place[span, 2]):
            output[place[span, 0], x] = label[component[span]]


@compiled
def _by_component(component: Image, chosen: Image) -> tuple[Numbers, Numbers]:
    """Return the spans of each chosen component in raster order, and the start of each component's list."""
    first = np.zeros(chosen.size + 1, np.int64)
    for own in component:
        if chosen[own]:
            first[own + 1] += 1
    first = np.cumsum(first)
    place = first.copy()
    members = np.empty(first[-1], np.int64)
    for span in range(component.size):
        own = component[span]
        if chosen[own]:
            members[place[own]] = span
            place[own] += 1
    return members, first


@compiled
def _extent(spans: Spans, own: Numbers) -> tuple[int, int]:
    """Return the first column of some spans and the column after the last."""
    left, right = spans.place[own[0], 1], spans.place[own[0], 2]
    for span in own:
        left, right = min(left, spans.place[span, 1]), max(right, spans.place[span, 2])
    return left, right


@compiled
def _new_crop(size: int) -> Crop:
    label = np.full(size, _OUTSIDE, np.int32)
    return Crop(label, np.empty(size, np.int32), np.empty(size, np.int64), np.empty(size, np.int32))


@compiled
def _load(image: Image, markers: Image, spans: Spans, own: Numbers, origin: int, stride: int, crop: Crop) -> int:
    """Copy a component into the crop and return the number of its free pixels."""
    free = 0
    for span in own:
        y, start, stop = spans.place[span]
        here = origin + y * stride
        label, level = crop.label[here + start : here + stop], crop.level[here + start : here + stop]
        values, ids = image[y, start:stop], markers[y, start:stop]
        for i in range(label.size):
            label[i] = ids[i]
            free += ids[i] == 0
            level[i] = _rank(values[i])
    return free


@compiled
def _rank(value: Any) -> Any:
    """Map a level, or the bits of a float32, to an int32 of the same order; -0.0 equals 0.0."""
    bits = np.int32(value)
    if bits >= 0:
        return bits
    return np.int32(0) if bits == _SIGN else bits ^ _MAGNITUDE


@compiled
def _store(output: Image, spans: Spans, own: Numbers, origin: int, stride: int, crop: Crop) -> None:
    """Copy the labels of a component back and clear the crop."""
    for span in own:
        y, start, stop = spans.place[span]
        here = origin + y * stride
        for x in range(start, stop):
            output[y, x] = crop.label[here + x]
            crop.label[here + x] = _OUTSIDE


@compiled
def _has_free(label: Image, position: int, stride: int) -> bool:
    return bool(
        label[position - stride] == 0
        or label[position - 1] == 0
        or label[position + 1] == 0
        or label[position + stride] == 0
    )


@compiled
def _list_seeds(spans: Spans, own: Numbers, origin: int, stride: int, crop: Crop) -> int:
    """Enter the marker pixels with a free neighbour in raster order, and return their number."""
    size = 0
    for span in own:
        y, start, stop = spans.place[span]
        here = origin + y * stride
        for position in range(here + start, here + stop):
            if crop.label[position] != 0 and _has_free(crop.label, position, stride):
                crop.place[size] = position
                size += 1
    return size


@compiled
def _flood(crop: Crop, stride: int, seeds: int, free: int) -> None:
    """Flood the free pixels of a crop in the order (level, time of entry).

    An element of the queue stores its level in the upper half and its time in the lower half, so one comparison orders
    two elements. The queue is a binary heap. A pixel without free neighbours never enters it.
    """
    label, level, heap, place = crop
    for time in range(seeds):
        heap[time] = (np.int64(level[place[time]]) << 32) | time
    heap[:seeds].sort()  # a sorted list is a heap
    size = entered = seeds
    while free > 0 and size > 0:
        now = heap[0] >> 32
        position = place[heap[0] & 0xFFFFFFFF]
        own = label[position]
        waiting = True  # the first element is processed but not yet removed
        for side in (-stride, -1, 1, stride):
            near = position + side
            if label[near] != 0:
                continue
            label[near] = own
            free -= 1
            if not _has_free(label, near, stride):
                continue
            element = (max(now, np.int64(level[near])) << 32) | entered
            place[entered] = near
            entered += 1
            if waiting:
                _sink(heap, size, element)
                waiting = False
            else:
                _rise(heap, size, element)
                size += 1
        if waiting:
            size -= 1
            if size > 0:
                _sink(heap, size, heap[size])


@compiled
def _sink(heap: Numbers, size: int, element: int) -> None:
    """Replace the first element of a binary heap."""
    hole, child = 0, 1
    while child < size:
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if element <= heap[child]:
            break
        heap[hole] = heap[child]
        hole = child
        child = 2 * hole + 1
    heap[hole] = element


@compiled
def _rise(heap: Numbers, size: int, element: int) -> None:
    """Append an element to a binary heap of `size` elements."""
    hole = size
    while hole > 0:
        parent = (hole - 1) >> 1
        if heap[parent] <= element:
            break
        heap[hole] = heap[parent]
        hole = parent
    heap[hole] = element


@compiled
def order_matters(label: Image, level: Image, stride: int, seeds: Image) -> bool:
    """Return whether the order of seeds of equal level may change the watershed of one component.

    Seeds of one level leave the queue one after the other, before the pixels that they add. Their order matters only if
    two of them, of different labels, add pixels of equal priority: elements of different priority never compare their
    times, and adjacent elements of one label can be permuted (the pixels they add are again adjacent and form the same
    set).

    Args:
        label: Flat crop of the ids; 0 = free.
        level: Flat crop of the priorities.
        stride: Columns of the crop.
        seeds: Positions of the seeds.
    """
    keys = np.empty(seeds.size, np.int64)
    for k in range(seeds.size):
        keys[k] = (np.int64(level[seeds[k]]) << 32) | seeds[k]
    keys.sort()
    ordered = keys & 0xFFFFFFFF
    start = 0
    while start < ordered.size:
        stop = start + 1
        mixed = False
        while stop < ordered.size and keys[stop] >> 32 == keys[start] >> 32:
            mixed |= label[ordered[stop]] != label[ordered[start]]
            stop += 1
        if mixed and _adds_equal(label, level, stride, ordered[start:stop]):
            return True
        start = stop
    return False


@compiled
def _adds_equal(label: Image, level: Image, stride: int, seeds: Image) -> bool:
    """Return whether two seeds of different labels add pixels of equal priority; all seeds have the same level."""
    added = np.empty(4 * seeds.size, np.int64)
    size = 0
    for position in seeds:
        for side in (-stride, -1, 1, stride):
            near = position + side
            if label[near] == 0:
                priority = np.int64(max(level[position], level[near]))
                added[size] = (priority << 32) | np.int64(label[position])
                size += 1
    pairs = added[:size]
    pairs.sort()
    for k in range(1, size):  # noqa: SIM110 -- compiled
        if pairs[k] != pairs[k - 1] and pairs[k] >> 32 == pairs[k - 1] >> 32:
            return True
    return False
