"""Greyscale reconstruction and regional maxima, over 8 neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from postproc.pixels.compiled import compiled
from postproc.pixels.spans import Spans, find_spans

Image = NDArray[Any]


def h_maxima_transform(image: Image, h: float) -> Image:
    """Lower every regional maximum by `h`, or to the level at which it joins a higher one.

    The regional maxima of the result are those of `image` whose morphological dynamics exceed `h`.

    Args:
        image: (H, W), any real dtype.
        h: Height to cut, in the image's unit; truncated to an integer for integer images, which changes no maximum,
            since their dynamics are integers.

    Returns:
        (H, W) of the image's dtype.
    """
    if np.issubdtype(image.dtype, np.integer):
        depth = min(int(h), int(np.iinfo(image.dtype).max))
        low = int(np.iinfo(image.dtype).min)
        seed = np.where(image >= low + depth, image - image.dtype.type(depth), image.dtype.type(low))
        return reconstruct(seed.astype(image.dtype), image)
    return reconstruct((image - image.dtype.type(h)).astype(image.dtype), image)


def reconstruct(seed: Image, mask: Image) -> Image:
    """Reconstruct `mask` from `seed` by dilation over 8 neighbours.

    Uses the hybrid algorithm of Vincent (1993): one forward and one backward raster scan, then a queue of the pixels
    that can still change their neighbours. Equal to ``skimage.morphology.reconstruction(seed, mask, "dilation")``.

    Args:
        seed: (H, W), nowhere above `mask`.
        mask: (H, W), same dtype.

    Returns:
        (H, W), same dtype.

    Raises:
        ValueError: If shapes or dtypes differ, or `seed` is above `mask` somewhere.
    """
    if seed.shape != mask.shape or seed.dtype != mask.dtype:
        raise ValueError(f"seed is {seed.dtype} {seed.shape}, mask {mask.dtype} {mask.shape}: they must be equal")
    if (seed > mask).any():
        raise ValueError("the seed of a reconstruction by dilation must not exceed its mask")
    result = np.array(seed, order="C")
    mask = np.ascontiguousarray(mask)
    spans = find_spans(result < mask)  # nothing else can change
    _scan(result, mask, spans, down=True)
    _scan(result, mask, spans, down=False)
    _propagate(result, mask, spans)
    return result


@compiled
def _scan(result: Image, mask: Image, spans: Spans, down: bool) -> None:
    """Raise the pixels of the spans to their neighbours in the preceding and the same row, downwards or upwards."""
    place, _, _ = spans
    height, width = mask.shape
    near = np.empty(width, mask.dtype)
    step = 1 if down else -1
    for k in range(place.shape[0]):
        y, start, stop = place[k if down else place.shape[0] - 1 - k]
        row, top = result[y, start:stop], mask[y, start:stop]
        near[: row.size] = row
        if 0 <= y - step < height:
            _raise_to_row(near[: row.size], result[y - step], start, stop)
        if down:
            last = result[y, max(start - 1, 0)]
            for i in range(row.size):
                last = min(max(last, near[i]), top[i])
                row[i] = last
        else:
            last = result[y, min(stop, width - 1)]
            for k in range(row.size):
                i = row.size - 1 - k
                last = min(max(last, near[i]), top[i])
                row[i] = last


@compiled
def _raise_to_row(near: Image, row: Image, start: int, stop: int) -> None:
    """Raise the values of the columns `start` to `stop` to the three nearest in another row."""
    for shift in (-1, 0, 1):
        low, high = max(start + shift, 0), min(stop + shift, row.size)
        theirs, own = row[low:high], near[low - start - shift : high - start - shift]
        for i in range(own.size):  # loops from 0 over slices become vector instructions
            own[i] = max(own[i], theirs[i])


@compiled
def _propagate(result: Image, mask: Image, spans: Spans) -> None:
    """Propagate the remaining changes with a queue until nothing changes."""
    place, _, _ = spans
    height, width = mask.shape
    near = np.empty(width, mask.dtype)
    queue = [(0, 0) for _ in range(0)]
    for span in range(place.shape[0]):
        y, start, stop = place[span]
        top = near[: stop - start]
        top[:] = result[y, start:stop]
        for other in range(max(y - 1, 0), min(y + 2, height)):
            _raise_to_row(top, result[other], start, stop)
        for i in range(top.size):
            value = min(top[i], mask[y, start + i])
            if value > result[y, start + i]:
                result[y, start + i] = value
                queue.append((y, start + i))
    while len(queue):
        y, x = queue.pop()
        value = result[y, x]
        for ny in range(max(y - 1, 0), min(y + 2, height)):
            for nx in range(max(x - 1, 0), min(x + 2, width)):
                if result[ny, nx] < value and result[ny, nx] < mask[ny, nx]:
                    result[ny, nx] = min(value, mask[ny, nx])
                    queue.append((ny, nx))


def regional_maxima(image: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Mark the plateaus without a higher 8-neighbour; a constant image is one marked plateau.

    These are the pixels that a reconstruction from one level below does not reach.

    Args:
        image: (H, W), any integer dtype.
    """
    if image.size and image.min() == image.max():
        return np.ones(image.shape, np.bool_)
    return image > h_maxima_transform(image, 1)
