"""Hashes of decoded images, which find the same image in another dataset, file or format.

The first is exact: SHA-256 of the shape and the RGB values. The second describes the appearance: signs of the lowest
frequencies of the grey image, which survive JPEG and rescaling (Zauner 2010, "Implementation and benchmarking of
perceptual image hash functions", section 3.2). Crops, rotations and mirrored images are not recognised by either.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 32
"""Side in pixels to which the grey image is reduced before the cosine transform."""
FREQUENCIES = 8
"""Frequencies per axis whose signs make the hash: 64 bits, of which that of the mean is always 0."""
CLOSE = 8
"""Most bits in which two hashes of one image differ.

Measured on 131 real images (Kumar, MoNuSeg, TNBC, CoNSeP, CPM-15, Ki67): copies (JPEG of quality 30 to 95, scales 0.25
to 2) differ in at most 4 bits, distinct images in at least 14.
"""
ASPECT = 0.02
"""Largest relative difference of the ratios of height to width of two copies of an image, which rounding explains."""
FLAT = 0.5
"""Standard deviation of the reduced grey image (0 to 255) below which it shows nothing that could be compared."""


@dataclass(frozen=True)
class ImageHash:
    """Hashes of one image.

    Attributes:
        pixels: SHA-256 of the shape and the RGB values, in hexadecimal.
        appearance: 64 bits; None for images of one colour, which have no appearance to compare.
        height: Rows of the image.
        width: Columns of the image.
    """

    pixels: str
    appearance: int | None
    height: int
    width: int


def hash_image(image: NDArray[np.uint8]) -> ImageHash:
    """Return the hashes of an image.

    Args:
        image: uint8 (H, W, 3), RGB.
    """
    height, width = image.shape[:2]
    digest = hashlib.sha256(f"{height}x{width}x3\n".encode())
    digest.update(np.ascontiguousarray(image).data)
    return ImageHash(digest.hexdigest(), _appearance(image), height, width)


def _appearance(image: NDArray[np.uint8]) -> int | None:
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    if small.std() < FLAT:
        return None
    lowest = cv2.dct(small)[:FREQUENCIES, :FREQUENCIES].ravel()
    bits = lowest > np.median(lowest[1:])
    bits[0] = False  # the mean, which says nothing about the content
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def look_alike(image: ImageHash, others: NDArray[np.uint64], ratios: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the indices of the images that are likely copies of one image, the closest first.

    Args:
        image: The image.
        others: uint64 (N,), `ImageHash.appearance` of the others.
        ratios: float64 (N,), height / width of the others.
    """
    if image.appearance is None or not len(others):
        return np.zeros(0, np.intp)
    differing = np.bitwise_xor(others, np.uint64(image.appearance))
    distances = np.unpackbits(differing.view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1)
    same_form = np.abs(ratios / (image.height / image.width) - 1) <= ASPECT
    found = np.flatnonzero((distances <= CLOSE) & same_form)
    return found[np.argsort(distances[found], kind="stable")]


__all__ = ["CLOSE", "ImageHash", "hash_image", "look_alike"]
