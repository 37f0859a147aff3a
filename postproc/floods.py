"""The compiled loops of `postproc.watershed`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from postproc.compiled import compiled

Image = NDArray[Any]
Seeds = NDArray[np.int64]


@compiled
def prepare(output: Image, components: Image, count: int) -> tuple[Seeds, Seeds]:
    """Fill the components that hold one marker, and list the seeds of those that hold several.

    Args:
        output: int32 (H, W), the markers inside the mask; filled in place.
        components: int32 (H, W), 4-connected components of the mask.
        count: Number of components.

    Returns:
        Flat positions of the seeds, ordered by component and raster position; and int64 (count + 2,), where
        the seeds of component c begin. A seed is a marker pixel with an unlabelled neighbour in the mask.
    """
    height, width = output.shape
    marker = np.zeros(count + 1, output.dtype)
    several = np.zeros(count + 1, np.bool_)
    for y in range(height):
        for x in range(width):
            label = output[y, x]
            if label != 0:
                component = components[y, x]
                if marker[component] == 0:
                    marker[component] = label
                elif marker[component] != label:
                    several[component] = True
    number = np.zeros(count + 2, np.int64)
    border = np.zeros((height, width), np.bool_)
    for y in range(height):
        for x in range(width):
            component = components[y, x]
            if component == 0:
                continue
            if not several[component]:
                output[y, x] = marker[component]
            elif output[y, x] != 0 and _has_free(output, components, y, x):
                border[y, x] = True
                number[component + 1] += 1
    first = np.cumsum(number)
    seeds = np.empty(first[-1], np.int64)
    place = first.copy()
    for y in range(height):
        for x in range(width):
            if border[y, x]:
                component = components[y, x]
                seeds[place[component]] = y * width + x
                place[component] += 1
    return seeds, first


@compiled
def _has_free(output: Image, components: Image, y: int, x: int) -> bool:
    height, width = output.shape
    return bool(
        (y > 0 and components[y - 1, x] != 0 and output[y - 1, x] == 0)
        or (x > 0 and components[y, x - 1] != 0 and output[y, x - 1] == 0)
        or (x < width - 1 and components[y, x + 1] != 0 and output[y, x + 1] == 0)
        or (y < height - 1 and components[y + 1, x] != 0 and output[y + 1, x] == 0)
    )


@compiled
def _neighbour(position: int, x: int, side: int, width: int, size: int) -> int:
    """Return the flat position of the neighbour above, left, right or below (side 0 to 3), -1 outside.

    The column `x` of `position` is an argument, since a division per neighbour would cost more than the rest.
    """
    if side == 0:
        return position - width if position >= width else -1
    if side == 1:
        return position - 1 if x > 0 else -1
    if side == 2:
        return position + 1 if x < width - 1 else -1
    return position + width if position < size - width else -1


@compiled
def flood_levels(values: Image, mask: Image, output: Image, seeds: Seeds, first: Seeds) -> None:
    """Flood the components with several markers of an 8-bit image; one queue per grey level.

    Args:
        values: uint8 (H, W).
        mask: bool (H, W).
        output: int32 (H, W), what `prepare` left; filled in place.
        seeds: What `prepare` listed.
        first: Where the seeds of each component begin.
    """
    width = values.shape[1]
    image, inside, label = values.ravel(), mask.ravel(), output.ravel()
    after = np.empty(image.size, np.int32)
    head = np.full(256, -1, np.int32)
    tail = np.full(256, -1, np.int32)
    for component in range(1, first.size - 1):
        here = seeds[first[component] : first[component + 1]]
        if here.size == 0:
            continue
        low, high = 255, 0
        for position in here:
            level = int(image[position])
            _append(head, tail, after, level, position)
            low, high = min(low, level), max(high, level)
        level = low
        while level <= high:
            position = int(head[level])
            if position < 0:
                level += 1
                continue
            head[level] = after[position]
            x = position % width
            for side in range(4):
                near = _neighbour(position, x, side, width, image.size)
                if near >= 0 and inside[near] and label[near] == 0:
                    label[near] = label[position]
                    up = max(level, int(image[near]))
                    _append(head, tail, after, up, near)
                    high = max(high, up)


@compiled
def _append(head: Image, tail: Image, after: Image, level: int, position: int) -> None:
    after[position] = -1
    if head[level] < 0:
        head[level] = position
    else:
        after[tail[level]] = position
    tail[level] = position


@compiled
def flood_heap(values: Image, mask: Image, output: Image, seeds: Seeds, first: Seeds, exact: bool) -> bool:
    """Flood the components with several markers of a floating-point image; one heap at a time.

    Args:
        values: float64 (H, W).
        mask: bool (H, W).
        output: int32 (H, W), what `prepare` left; filled in place.
        seeds: What `prepare` listed.
        first: Where the seeds of each component begin.
        exact: Stop where the order of equal seeds decides.

    Returns:
        True if it stopped.
    """
    width = values.shape[1]
    image, inside, label = values.ravel(), mask.ravel(), output.ravel()
    value = np.empty(1024, values.dtype)
    entry = np.empty((1024, 2), np.int32)  # time of entry, position
    for component in range(1, first.size - 1):
        here = seeds[first[component] : first[component + 1]]
        if here.size == 0:
            continue
        if exact and order_matters(values, mask, output, here):
            return True
        size = 0
        time = 0
        for position in here:
            if size == value.size:
                value, entry = _grown(value, entry)
            size = _push(value, entry, size, image[position], time, position)
            time += 1
        while size:
            level, position = value[0], int(entry[0, 1])
            size = _pop(value, entry, size)
            x = position % width
            for side in range(4):
                near = _neighbour(position, x, side, width, image.size)
                if near >= 0 and inside[near] and label[near] == 0:
                    label[near] = label[position]
                    if size == value.size:
                        value, entry = _grown(value, entry)
                    size = _push(value, entry, size, max(level, image[near]), time, near)
                    time += 1
    return False


@compiled
def _grown(value: Image, entry: Image) -> tuple[Image, Image]:
    more_value = np.empty(2 * value.size, value.dtype)
    more_entry = np.empty((2 * value.size, 2), entry.dtype)
    more_value[: value.size] = value
    more_entry[: value.size] = entry
    return more_value, more_entry


@compiled
def _push(value: Image, entry: Image, size: int, new: Any, time: int, position: int) -> int:
    """Insert an element; it is younger than all others, so equal values stay above it."""
    child = size
    while child > 0:
        parent = (child - 1) >> 1
        if not new < value[parent]:
            break
        value[child] = value[parent]
        entry[child, 0], entry[child, 1] = entry[parent, 0], entry[parent, 1]
        child = parent
    value[child] = new
    entry[child, 0], entry[child, 1] = time, position
    return size + 1


@compiled
def _pop(value: Image, entry: Image, size: int) -> int:
    """Remove the first element by (value, time).

    The hole at the top sinks to a leaf, one comparison a level, and the last element rises from there.
    """
    size -= 1
    hole = 0
    while True:
        child = 2 * hole + 1
        if child >= size:
            break
        right = child + 1
        if right < size and (
            value[right] < value[child] or (value[right] == value[child] and entry[right, 0] < entry[child, 0])
        ):
            child = right
        value[hole] = value[child]
        entry[hole, 0], entry[hole, 1] = entry[child, 0], entry[child, 1]
        hole = child
    last, time = value[size], entry[size, 0]
    while hole > 0:
        parent = (hole - 1) >> 1
        if value[parent] < last or (value[parent] == last and entry[parent, 0] < time):
            break
        value[hole] = value[parent]
        entry[hole, 0], entry[hole, 1] = entry[parent, 0], entry[parent, 1]
        hole = parent
    value[hole] = last
    entry[hole, 0], entry[hole, 1] = time, entry[size, 1]
    return size


@compiled
def order_matters(values: Image, mask: Image, output: Image, here: Seeds) -> bool:
    """Tell whether the order of seeds of equal value may change the watershed of one component.

    Seeds of one value leave the queue one after the other, before whatever they add. Their order decides at
    most where two of them, of different labels, add pixels of equal priority: elements of different priority
    never compare their times, and elements of one label that stand together in the queue may be permuted
    (what they add stands together again, and is the same set).

    Args:
        values: (H, W).
        mask: bool (H, W).
        output: int32 (H, W), the markers.
        here: Flat positions of the seeds of the component.
    """
    width = values.shape[1]
    image, inside, label = values.ravel(), mask.ravel(), output.ravel()
    seeds = here[np.argsort(image[here])]
    start = 0
    while start < seeds.size:
        level = image[seeds[start]]
        stop = start + 1
        mixed = False
        while stop < seeds.size and image[seeds[stop]] == level:
            mixed |= label[seeds[stop]] != label[seeds[start]]
            stop += 1
        if mixed:
            added = np.empty(4 * (stop - start), values.dtype)
            owner = np.empty(4 * (stop - start), label.dtype)
            size = 0
            for position in seeds[start:stop]:
                x = position % width
                for side in range(4):
                    near = _neighbour(position, x, side, width, image.size)
                    if near >= 0 and inside[near] and label[near] == 0:
                        added[size], owner[size] = max(level, image[near]), label[position]
                        size += 1
            order = np.argsort(added[:size])
            for k in range(1, size):
                one, other = order[k - 1], order[k]
                if added[one] == added[other] and owner[one] != owner[other]:
                    return True
        start = stop
    return False


@compiled
def flood_like_skimage(values: Image, mask: Image, markers: Image) -> Image:
    """Flood a whole image as scikit-image (to 0.26) does, equal seeds included.

    That order follows from every comparison in the heap's history, so all marker pixels enter one textbook
    binary heap in raster order, with time 0.

    Args:
        values: (H, W).
        mask: bool (H, W).
        markers: int32 (H, W), 0 outside of the mask.

    Returns:
        int32 (H, W).
    """
    width = values.shape[1]
    output = markers.copy()
    image, inside, label = values.ravel(), mask.ravel(), output.ravel()
    value = np.empty(1024, values.dtype)
    entry = np.empty((1024, 2), np.int32)
    size = 0
    time = 0
    for position in range(label.size):
        if label[position] != 0:
            if size == value.size:
                value, entry = _grown(value, entry)
            size = _push(value, entry, size, image[position], 0, position)
    while size:
        level, position = value[0], int(entry[0, 1])
        size = _pop_by_swaps(value, entry, size)
        x = position % width
        for side in range(4):
            near = _neighbour(position, x, side, width, image.size)
            if near >= 0 and inside[near] and label[near] == 0:
                label[near] = label[position]
                if size == value.size:
                    value, entry = _grown(value, entry)
                time += 1
                size = _push(value, entry, size, max(level, image[near]), time, near)
    return output


@compiled
def _pop_by_swaps(value: Image, entry: Image, size: int) -> int:
    """Remove the first element: the last one takes its place and sinks while a child is strictly smaller."""
    size -= 1
    last, time, position = value[size], entry[size, 0], entry[size, 1]
    hole = 0
    while True:
        left, right = 2 * hole + 1, 2 * hole + 2
        if left >= size:
            break
        child = hole
        best, best_time = last, time
        if value[left] < best or (value[left] == best and entry[left, 0] < best_time):
            child, best, best_time = left, value[left], entry[left, 0]
        if right < size and (value[right] < best or (value[right] == best and entry[right, 0] < best_time)):
            child = right
        if child == hole:
            break
        value[hole] = value[child]
        entry[hole, 0], entry[hole, 1] = entry[child, 0], entry[child, 1]
        hole = child
    value[hole] = last
    entry[hole, 0], entry[hole, 1] = time, position
    return size
