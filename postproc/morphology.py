"""Greyscale reconstruction and regional maxima, over 8 neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from postproc.compiled import compiled

Image = NDArray[Any]


def h_maxima_transform(image: Image, h: float) -> Image:
    """Cut every regional maximum down by `h`, or to where it joins a higher one.

    The regional maxima of the result are those of `image` whose morphological dynamics exceed `h`.

    Args:
        image: (H, W), any real dtype.
        h: Height to cut, in the image's unit; for integer images truncated to a whole number, which changes
            no maximum, since their dynamics are whole.

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

    The hybrid algorithm of Vincent (1993): one raster scan, one backwards, then a queue of the pixels that
    can still change their neighbours. Equal to ``skimage.morphology.reconstruction(seed, mask, "dilation")``.

    Args:
        seed: (H, W), nowhere above `mask`.
        mask: (H, W), same dtype.

    Returns:
        (H, W), same dtype.

    Raises:
        ValueError: If shapes or dtypes differ, or `seed` is above `mask` somewhere.
    """
    if seed.shape != mask.shape or seed.dtype != mask.dtype:
        raise ValueError(f"seed is {seed.dtype} {seed.shape}, mask {mask.dtype} {mask.shape}: they must be alike")
    if (seed > mask).any():
        raise ValueError("the seed of a reconstruction by dilation must not exceed its mask")
    result = np.array(seed, order="C")
    if result.size:
        _reconstruct(result, np.ascontiguousarray(mask))
    return result


@compiled
def _reconstruct(result: Image, mask: Image) -> None:
    height, width = mask.shape
    for y in range(height):
        for x in range(width):
            value, top = result[y, x], mask[y, x]
            if value == top:
                continue
            if x > 0:
                value = max(value, result[y, x - 1])
            if y > 0:
                for nx in range(max(x - 1, 0), min(x + 2, width)):
                    value = max(value, result[y - 1, nx])
            result[y, x] = min(value, top)
    queue = [(0, 0) for _ in range(0)]
    for y in range(height - 1, -1, -1):
        for x in range(width - 1, -1, -1):
            value, top = result[y, x], mask[y, x]
            if value < top:
                if x < width - 1:
                    value = max(value, result[y, x + 1])
                if y < height - 1:
                    for nx in range(max(x - 1, 0), min(x + 2, width)):
                        value = max(value, result[y + 1, nx])
                value = min(value, top)
                result[y, x] = value
            if _raises_successor(result, mask, y, x, value):
                queue.append((y, x))
    head = 0
    while head < len(queue):
        y, x = queue[head]
        head += 1
        value = result[y, x]
        for ny in range(max(y - 1, 0), min(y + 2, height)):
            for nx in range(max(x - 1, 0), min(x + 2, width)):
                if result[ny, nx] < value and result[ny, nx] < mask[ny, nx]:
                    result[ny, nx] = min(value, mask[ny, nx])
                    queue.append((ny, nx))


@compiled
def _raises_successor(result: Image, mask: Image, y: int, x: int, value: Any) -> bool:
    """Tell whether a pixel can still raise one that the backward scan has passed."""
    height, width = mask.shape
    if x < width - 1 and result[y, x + 1] < value and result[y, x + 1] < mask[y, x + 1]:
        return True
    if y < height - 1:
        for nx in range(max(x - 1, 0), min(x + 2, width)):
            if result[y + 1, nx] < value and result[y + 1, nx] < mask[y + 1, nx]:
                return True
    return False


def regional_maxima(image: Image) -> NDArray[np.bool_]:
    """Mark the plateaus without a higher 8-neighbour; an image of one value is one plateau, and marked.

    Args:
        image: (H, W), any real dtype.
    """
    if image.size == 0:
        return np.zeros(image.shape, np.bool_)
    return _regional_maxima(np.ascontiguousarray(image))


@compiled
def _regional_maxima(image: Image) -> NDArray[np.bool_]:
    height, width = image.shape
    maxima = np.ones((height, width), np.bool_)
    stack = np.empty(height * width, np.int64)
    for y in range(height):
        for x in range(width):
            value = image[y, x]
            if not maxima[y, x] or not _has_higher(image, y, x, value):
                continue
            # No plateau with a higher neighbour is a maximum: strike all of it at once.
            maxima[y, x] = False
            stack[0] = y * width + x
            size = 1
            while size:
                size -= 1
                py, px = divmod(stack[size], width)
                for ny in range(max(py - 1, 0), min(py + 2, height)):
                    for nx in range(max(px - 1, 0), min(px + 2, width)):
                        if maxima[ny, nx] and image[ny, nx] == value:
                            maxima[ny, nx] = False
                            stack[size] = ny * width + nx
                            size += 1
    return maxima


@compiled
def _has_higher(image: Image, y: int, x: int, value: Any) -> bool:
    height, width = image.shape
    for ny in range(max(y - 1, 0), min(y + 2, height)):
        for nx in range(max(x - 1, 0), min(x + 2, width)):
            if image[ny, nx] > value:
                return True
    return False
