"""Whole images through any method: tiles, precision, magnification."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.precision import autocast_dtype
from postproc.codec import Maps
from postproc.instances import Instances, relabel
from postproc.tiles import Geometry, Window

if TYPE_CHECKING:
    from models.base import NucleiMethod

CPU_TILE = 1024
"""Side of the largest output tile on a CPU, in px: it bounds the memory of networks that compute at full resolution
(HoVer-Net: about 6 KB a px)."""
GPU_TILE = 2048
"""Side of the largest output tile on a GPU, in px."""


@dataclass(frozen=True)
class InferenceSettings:
    """How images go through a network.

    Attributes:
        precision: Lightning precision, ``auto`` = the fastest of the hardware.
        tile: Side of the largest output tile in px; None = as large as is safe on the device.
        batch_size: Tiles per forward pass.
    """

    precision: str = "auto"
    tile: int | None = None
    batch_size: int = 1


def windows(shape: tuple[int, int], geometry: Geometry, largest: int) -> Iterator[Window]:
    """Cover an image with tiles of one size.

    Args:
        shape: (H, W) of the image in px.
        geometry: Of the network.
        largest: Side in px that no tile's output exceeds, unless the network takes no smaller input.

    Yields:
        Windows whose kept parts tile the image.
    """
    if geometry.whole_image:
        yield Window(0, 0, *shape, keep=(0, 0, *shape))
        return
    spans = [_spans(extent, geometry, largest) for extent in shape]
    for top, height, first_row, last_row in spans[0]:
        for left, width, first_column, last_column in spans[1]:
            yield Window(top, left, height, width, keep=(first_row, first_column, last_row, last_column))


def _spans(extent: int, geometry: Geometry, largest: int) -> list[tuple[int, int, int, int]]:
    """Cover one axis: (start, size, first kept, last kept) of each tile; all tiles have one size.

    Starts are multiples of `Geometry.multiple`, so that every tile pools the same px together as one pass over the
    whole image would; the last tile may reach beyond the image.
    """

    def output(size: int) -> int:
        return geometry.output(geometry.valid_input(size + 2 * geometry.margin))

    size = output(largest)
    if size > largest:  # the next smaller valid output, if there is one
        size = output(max(largest - geometry.multiple + 1, 1))
    if size <= 2 * geometry.context:  # nothing would be kept
        size = output(4 * geometry.context)
    if extent <= size:
        return [(0, output(extent), 0, extent)]
    step = max((size - 2 * geometry.context) // geometry.multiple, 1) * geometry.multiple
    count = -(-(extent - size) // step) + 1
    step = -(-(extent - size) // ((count - 1) * geometry.multiple)) * geometry.multiple
    starts = [i * step for i in range(count)]
    seams = [(before + size + after) // 2 for before, after in itertools.pairwise(starts)]
    bounds = [0, *seams, extent]
    return [(start, size, bounds[i], bounds[i + 1]) for i, start in enumerate(starts)]


def predict_maps(method: NucleiMethod, image: NDArray[np.uint8], settings: InferenceSettings | None = None) -> Maps:
    """Run a whole image through a network.

    Args:
        method: In eval mode, on its device.
        image: uint8 (H, W, 3).
        settings: Precision and tiles.

    Returns:
        The maps that the method's codecs decode, of the image's size.
    """
    settings = settings or InferenceSettings()
    device = method.device
    largest = settings.tile or (GPU_TILE if device.type == "cuda" else CPU_TILE)
    shape = (image.shape[0], image.shape[1])
    whole = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    stitcher = method.stitcher(shape)
    dtype = autocast_dtype(settings.precision)
    plan = list(windows(shape, method.geometry, largest))
    with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        statistics = method.statistics(whole.to(device).float() / 255)
        for start in range(0, len(plan), settings.batch_size):
            group = plan[start : start + settings.batch_size]
            tiles = np.stack([_cut(image, window, method.geometry.margin) for window in group])
            batch = torch.from_numpy(tiles.transpose(0, 3, 1, 2).copy())
            prepared = method.prepare(batch, statistics.expand(len(group), 2, 3))
            for window, maps in zip(group, method.predict_batch(prepared), strict=True):
                stitcher.add(window, maps)
    return stitcher.finish()


def _cut(image: NDArray[np.uint8], window: Window, margin: int) -> NDArray[np.uint8]:
    """Cut the input of a tile out of an image, mirrored where it reaches beyond the border."""
    top, left = window.top - margin, window.left - margin
    bottom, right = window.top + window.height + margin, window.left + window.width + margin
    height, width = image.shape[:2]
    rows = _mirror(np.arange(top, bottom), height)
    columns = _mirror(np.arange(left, right), width)
    if rows[-1] - rows[0] == bottom - top - 1 and columns[-1] - columns[0] == right - left - 1:
        return image[top:bottom, left:right]
    return image[rows][:, columns]


def _mirror(index: NDArray[np.int64], extent: int) -> NDArray[np.int64]:
    """Reflect indices into 0..extent - 1, without repeating the border px; any distance beyond the border."""
    if extent == 1:
        return np.zeros_like(index)
    period = 2 * (extent - 1)
    folded = np.abs(index) % period
    return np.where(folded >= extent, period - folded, folded)


def rescale(image: NDArray[np.uint8], trained: float | None, own: float | None) -> NDArray[np.uint8]:
    """Resize an image to the training magnification (area down, cubic up); as it is where one is unknown.

    Args:
        image: uint8 (H, W, 3).
        trained: Magnification of the training images.
        own: Magnification of this image.
    """
    factor = trained / own if trained and own else 1.0
    if factor == 1.0:
        return image
    size = (max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor)))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)


def restore(instances: Instances, shape: tuple[int, int]) -> Instances:
    """Map nuclei found in a rescaled image back to the size of the original.

    Args:
        instances: Nuclei at the training magnification.
        shape: (H, W) of the original image in px.

    Returns:
        The nuclei in the original's px; those that vanish when a map shrinks are left out.
    """
    if instances.shape == shape:
        return instances
    fields: dict[str, Any] = {"types": instances.types, "scores": instances.scores}
    if instances.labels is not None:
        small = cv2.resize(instances.labels.astype(np.float32), shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        labels, _, kept = relabel(small.astype(np.int32))
        rows = kept - 1
        fields = {name: None if value is None else value[rows] for name, value in fields.items()}
        points = None
    else:
        labels = None
        scale = np.array(shape[::-1], np.float32) / np.array(instances.shape[::-1], np.float32)
        points = None if instances.points is None else ((instances.points + 0.5) * scale - 0.5).astype(np.float32)
    return Instances(shape, labels=labels, points=points, **fields)
