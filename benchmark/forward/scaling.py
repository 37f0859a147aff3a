"""Rescale images to the magnification of the training images, and nuclei back; does not import torch."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from datamodules.reading.magnification import MPP_AT_1X
from datamodules.reading.rasters import Raster
from postproc.codec import Codec, Maps, Params
from postproc.errors import ConfigError
from postproc.instances import Instances
from postproc.pixels.labels import relabel

LEAST, MOST = 1.0, 200.0
"""Minimum and maximum objective magnification."""


def given_magnification(magnification: float | None, mpp: float | None) -> float | None:
    """Return the magnification that the options --magnification and --mpp state; None if neither is given.

    Args:
        magnification: Objective magnification.
        mpp: Microns per pixel.

    Raises:
        ConfigError: If both are given, or one is not that of a microscope.
    """
    if magnification is not None and mpp is not None:
        raise ConfigError("give either --magnification or --mpp, not both")
    if mpp is not None:
        least, most = MPP_AT_1X / MOST, MPP_AT_1X / LEAST
        if not least <= mpp <= most:  # NaN is not
            raise ConfigError(
                f"--mpp is {mpp:g}; give the microns per pixel, {least:g} to {most:g}, for example 0.25 at 40x"
            )
        return MPP_AT_1X / mpp
    check_magnification(magnification)
    return magnification


def check_magnification(magnification: float | None) -> None:
    """Raise a ConfigError if a magnification is not that of a microscope."""
    if magnification is not None and not LEAST <= magnification <= MOST:  # NaN is not
        raise ConfigError(
            f"--magnification is {magnification:g}; give that of the objective, {LEAST:g} to {MOST:g}, for example 40"
        )


def scale_factor(trained: float | None, own: float | None) -> float:
    """Return pixels at the training magnification per pixel of an image; 1 if either magnification is unknown."""
    return trained / own if trained and own else 1.0


def rescale(image: NDArray[np.uint8], trained: float | None, own: float | None) -> NDArray[np.uint8]:
    """Resize an image to the training magnification: by area to smaller, by cubic interpolation to larger sizes.

    Args:
        image: uint8 (H, W, 3).
        trained: Magnification of the training images; None = unknown, the image is not resized.
        own: Magnification of this image; None likewise.
    """
    factor = scale_factor(trained, own)
    if factor == 1.0:
        return image
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)


def restore(instances: Instances, shape: tuple[int, int]) -> Instances:
    """Map nuclei of a rescaled image back to the size of the original.

    Args:
        instances: Nuclei at the training magnification.
        shape: (H, W) of the original image in pixels.

    Returns:
        Nuclei in pixels of the original; nuclei that vanish when a map shrinks are dropped.
    """
    if instances.shape == shape:
        return instances
    fields: dict[str, Any] = {"types": instances.types, "scores": instances.scores}
    if instances.labels is not None:
        rows_of, columns_of = (nearest(size, given) for size, given in zip(instances.shape, shape, strict=True))
        labels, _, kept = relabel(np.ascontiguousarray(instances.labels[rows_of][:, columns_of]))
        rows = kept - 1
        fields = {name: None if value is None else value[rows] for name, value in fields.items()}
        points = None
    else:
        labels = None
        scale = np.array(shape[::-1], np.float32) / np.array(instances.shape[::-1], np.float32)
        points = None if instances.points is None else ((instances.points + 0.5) * scale - 0.5).astype(np.float32)
    return Instances(shape, labels=labels, points=points, **fields)


def decode(codec: Codec[Any], maps: Maps, params: Params, shape: tuple[int, int]) -> Instances:
    """Decode the maps of one image, and map the nuclei to the size of the image."""
    return restore(codec.decode(maps, params), shape)


def nearest(size: int, original: int) -> NDArray[np.int64]:
    """Return the index among `size` pixels at the centre of each of `original` pixels of the same extent.

    Args:
        size: Length of a row or column in pixels at the training magnification.
        original: Length in pixels in the original image.

    Returns:
        int64 (original,), ascending: indices with which `restore` resizes label maps.
    """
    return ((np.arange(original) + 0.5) * size / original).astype(np.int64)


class ScaledRaster(Raster):
    """An image at another magnification that can be read by region.

    Interpolation is that of `rescale` and depends only on the position in the image, so that regions fit together
    without seams. Values differ from those of `rescale` by at most 1, because OpenCV rounds its weights.

    Args:
        image: Original image.
        factor: Pixels of the result per pixel of the image.
        original: (H, W) of the image to which the factor refers, if `image` is a smaller level of its pyramid.
    """

    def __init__(self, image: Raster, factor: float, original: tuple[int, int] | None = None) -> None:
        self._image = image
        height, width = original or image.shape
        self.shape = (max(1, round(height * factor)), max(1, round(width * factor)))
        self._area = factor < 1 if original is None else self.shape < image.shape

    def read(self, top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
        """Return a region, uint8 (h, w, 3)."""
        weigh = _area_weights if self._area else _cubic_weights
        first_row, rows = weigh(top, bottom, self.shape[0], self._image.shape[0])
        first_column, columns = weigh(left, right, self.shape[1], self._image.shape[1])
        part = self._image.read(first_row, first_column, first_row + rows.shape[1], first_column + columns.shape[1])
        result = np.empty((bottom - top, right - left, 3), np.uint8)
        for channel in range(3):
            values = (columns @ (rows @ part[..., channel].astype(np.float32)).T).T
            result[..., channel] = np.clip(np.rint(values), 0, 255)
        return result

    def close(self) -> None:
        """Close the image."""
        self._image.close()


def _area_weights(start: int, stop: int, size: int, source: int) -> tuple[int, csr_array]:
    """Return the first source pixel, and the weights of source pixels, (stop - start, source pixels)."""
    scale = source / size
    low = np.arange(start, stop) * scale
    taps = int(np.ceil(scale)) + 1
    index = np.floor(low).astype(np.int64)[:, None] + np.arange(taps)
    share = np.minimum(low[:, None] + scale, index + 1) - np.maximum(low[:, None], index)
    return _matrix(index, np.clip(share, 0, None) / scale, source)


def _cubic_weights(start: int, stop: int, size: int, source: int) -> tuple[int, csr_array]:
    """Return the same for cubic interpolation (Keys 1981, a = -0.75 as in OpenCV) with repeated border pixels."""
    place = (np.arange(start, stop) + 0.5) * source / size - 0.5
    index = np.floor(place).astype(np.int64)[:, None] + np.arange(-1, 3)
    far = np.abs(place[:, None] - index)
    near = (1.25 * far - 2.25) * far**2 + 1
    away = ((-0.75 * far + 3.75) * far - 6) * far + 3
    return _matrix(index, np.where(far <= 1, near, away), source)


def _matrix(index: NDArray[np.int64], weights: NDArray[np.float64], source: int) -> tuple[int, csr_array]:
    inside = np.clip(index, 0, source - 1)
    first = int(inside.min())
    rows = np.repeat(np.arange(len(index)), index.shape[1])
    shape = (len(index), int(inside.max()) + 1 - first)
    entries = (weights.astype(np.float32).ravel(), (rows, (inside - first).ravel()))
    return first, csr_array(coo_array(entries, shape=shape))
