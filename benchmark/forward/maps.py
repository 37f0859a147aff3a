"""Whole images through any method: tiles, precision, magnification."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.forward.memory import PROBES, largest_window
from benchmark.forward.network import Network
from benchmark.host.precision import autocast_dtype
from datamodules.reading.rasters import ArrayRaster, Raster
from postproc.codec import Maps
from postproc.errors import DataError
from postproc.windows import Geometry, Stitcher, Window

SAMPLE = 4096
"""Side in px up to which an image's own statistics are computed from all of its px; of larger ones every k-th row and
column is taken."""


@dataclass(frozen=True)
class InferenceSettings:
    """How images go through a network.

    Attributes:
        precision: Lightning precision, ``auto`` = the fastest of the hardware.
        tile: Side of the largest output tile in px; None = as large as the device's free memory allows
            (`benchmark.forward.memory.largest_window`).
        batch_size: Tiles per forward pass.
        compile: Compile the network with torch.compile. It takes from seconds to minutes, anew for each size of tile,
            and pays where many images have one size.
        published: Tile as the methods' own code does, for comparison: inputs of the size of the training crops, whose
            outputs lie side by side from the upper left corner; nothing overlaps and no context is dropped. `tile`
            has no say then.
    """

    precision: str = "auto"
    tile: int | None = None
    batch_size: int = 1
    published: bool = False
    compile: bool = False


def windows(
    shape: tuple[int, int], geometry: Geometry, largest: int, *, side_by_side: bool = False
) -> Iterator[Window]:
    """Cover an image with tiles of one size.

    Args:
        shape: (H, W) of the image in px.
        geometry: Of the network.
        largest: Side in px that no tile's output exceeds, unless the network takes no smaller input.
        side_by_side: Step by the whole output: the context that the geometry asks for is not dropped, and tiles need
            not start where the network pools.

    Yields:
        Windows whose kept parts tile the image.
    """
    if geometry.whole_image:
        yield Window(0, 0, *shape, keep=(0, 0, *shape))
        return
    cover = _side_by_side if side_by_side else _spans
    spans = [cover(extent, geometry, largest) for extent in shape]
    for top, height, first_row, last_row in spans[0]:
        for left, width, first_column, last_column in spans[1]:
            yield Window(top, left, height, width, keep=(first_row, first_column, last_row, last_column))


def _spans(extent: int, geometry: Geometry, largest: int) -> list[tuple[int, int, int, int]]:
    """Cover one axis: (start, size, first kept, last kept) of each tile; all tiles have one size.

    As few tiles as the largest size allows, and these as small as that number allows. Starts are multiples of
    `Geometry.multiple`, so that every tile pools the same px together as one pass over the whole image would; the last
    tile may reach beyond the image.
    """

    def output(size: int) -> int:
        return geometry.output(geometry.valid_input(size + 2 * geometry.margin))

    size = output(largest)
    if size > largest:  # the next smaller valid output, if there is one
        size = output(max(largest - geometry.multiple + 1, 1))
    least = 2 * geometry.context + geometry.multiple  # what lets the next tile begin where this one may end
    if size < least:
        size = output(max(least, 4 * geometry.context))
    if extent <= size:
        return [(0, output(extent), 0, extent)]

    def longest_step(size: int) -> int:
        return (size - 2 * geometry.context) // geometry.multiple * geometry.multiple

    count = -(-(extent - size) // longest_step(size)) + 1
    smaller = size - geometry.multiple
    while smaller >= least and output(smaller) == smaller and (count - 1) * longest_step(smaller) + smaller >= extent:
        size, smaller = smaller, smaller - geometry.multiple
    step = -(-(extent - size) // ((count - 1) * geometry.multiple)) * geometry.multiple
    starts = [i * step for i in range(count)]
    seams = [(before + size + after) // 2 for before, after in itertools.pairwise(starts)]
    bounds = [0, *seams, extent]
    return [(start, size, bounds[i], bounds[i + 1]) for i, start in enumerate(starts)]


def _side_by_side(extent: int, geometry: Geometry, largest: int) -> list[tuple[int, int, int, int]]:
    """Cover one axis as `_spans` does, each tile beginning where the one before ends."""
    size = geometry.output(geometry.valid_input(largest + 2 * geometry.margin))
    return [(start, size, start, min(start + size, extent)) for start in range(0, extent, size)]


def predict_maps(method: Network, image: NDArray[np.uint8], settings: InferenceSettings | None = None) -> Maps:
    """Run a whole image through a network.

    Args:
        method: On its device; put into eval mode meanwhile.
        image: uint8 (H, W, 3).
        settings: Precision and tiles.

    Returns:
        The maps that the method's codecs decode, of the image's size.

    Raises:
        DataError: If the image is not uint8 (H, W, 3).
    """
    check_image(image)
    shape = (image.shape[0], image.shape[1])
    with evaluating(method):
        return run_windows(
            method, ArrayRaster(image), settings or InferenceSettings(), lambda: method.stitcher(shape)
        ).finish()


def check_image(image: NDArray[np.uint8]) -> None:
    """Refuse an array that is no RGB image of 8 bits, of which a network would see something else.

    Raises:
        DataError: With the remedy.
    """
    if not isinstance(image, np.ndarray):
        raise DataError(f"an image is a NumPy array, uint8 (H, W, 3), not {type(image).__name__}")
    if image.dtype != np.uint8:
        scale = ", for values in [0, 1] by (255 * image).round().astype('uint8')" if image.dtype.kind == "f" else ""
        raise DataError(f"the image has {image.dtype} values; give uint8, 0 to 255{scale}")
    if image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        remedy = {2: "np.stack([image] * 3, axis=-1)", 3: "image[..., :3]"}.get(image.ndim, "an RGB image")
        raise DataError(f"the image has the shape {image.shape}; give (H, W, 3), for example {remedy}")


@contextmanager
def evaluating(method: Network) -> Iterator[None]:
    """Put a network into eval mode for a while; every part of it returns to the mode it had."""
    modes = {module: module.training for module in method.modules()}
    method.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


S = TypeVar("S", bound=Stitcher)


def run_windows(method: Network, image: Raster, settings: InferenceSettings, new_stitcher: Callable[[], S]) -> S:
    """Run an image through a network, tile by tile and in rows of tiles from the top, none of it held as a whole.

    Where the memory of a GPU does not suffice, it begins anew with tiles of half the side.

    Args:
        method: In eval mode, on its device.
        image: RGB.
        settings: Precision and tiles.
        new_stitcher: Gives what takes the outputs; called once per beginning.

    Returns:
        The stitcher that has taken all tiles.
    """
    dtype = autocast_dtype(settings.precision)
    method.to(memory_format=torch.channels_last)
    if settings.compile:
        _compile(method)
    largest = _window_side(method, image.shape, settings, dtype)
    while True:
        plan = list(windows(image.shape, method.geometry, largest, side_by_side=settings.published))
        try:
            return _run(method, image, plan, settings.batch_size, dtype, new_stitcher())
        except torch.OutOfMemoryError:
            side = max(plan[0].height, plan[0].width)
            largest = min(largest, side) // 2
            smaller = next(windows(image.shape, method.geometry, max(largest, 1)))
            if settings.published or max(smaller.height, smaller.width) >= side:
                raise  # the network takes no smaller tile, or is to take no other
            torch.cuda.empty_cache()


def _window_side(
    method: Network, shape: tuple[int, int], settings: InferenceSettings, dtype: torch.dtype | None
) -> int:
    """Return the side of the largest output tile in px."""
    if settings.published:
        return method.training_crop - 2 * method.geometry.margin
    if settings.tile is not None:
        return settings.tile
    return PROBES[0] if max(shape) <= PROBES[0] else largest_window(method, dtype, settings.batch_size)


def _run(
    method: Network,
    image: Raster,
    plan: list[Window],
    batch_size: int,
    dtype: torch.dtype | None,
    stitcher: S,
) -> S:
    device = method.device
    with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        statistics = _statistics(method, image)
        for start in range(0, len(plan), batch_size):
            group = plan[start : start + batch_size]
            tiles = np.stack([_cut(image, window, method.geometry.margin) for window in group])
            batch = torch.from_numpy(tiles.transpose(0, 3, 1, 2).copy())
            prepared = method.prepare(batch, statistics.expand(len(group), 2, 3))
            for window, maps in zip(group, method.predict_batch(prepared), strict=True):
                stitcher.add(window, maps)
    return stitcher


def _compile(method: Network) -> None:
    """Compile the forward pass, once per method; shapes are static, since all tiles of an image have one size."""
    if method._compiled_call_impl is None:
        method.compile(dynamic=False)


def _statistics(method: Network, image: Raster) -> Tensor:
    """Return the mean and standard deviation that tiles are prepared with, (1, 2, 3), of the whole image."""
    sample = _sample(image) if method.own_statistics else np.zeros((1, 1, 3), np.uint8)
    pixels = torch.from_numpy(np.ascontiguousarray(sample.transpose(2, 0, 1)))[None]
    return method.statistics(pixels.to(method.device).float() / 255)


def _sample(image: Raster) -> NDArray[np.uint8]:
    """Return an image of at most `SAMPLE` px a side: every k-th row and column."""
    height, width = image.shape
    step = -(-max(height, width) // SAMPLE)
    bands = range(0, height, max(SAMPLE // step, 1) * step)
    return np.concatenate([image.read(y, 0, min(y + bands.step, height), width)[::step, ::step] for y in bands])


def _cut(image: Raster, window: Window, margin: int) -> NDArray[np.uint8]:
    """Cut the input of a tile out of an image, mirrored where it reaches beyond the border."""
    rows = _mirror(np.arange(window.top - margin, window.top + window.height + margin), image.shape[0])
    columns = _mirror(np.arange(window.left - margin, window.left + window.width + margin), image.shape[1])
    top, left = int(rows.min()), int(columns.min())
    part = image.read(top, left, int(rows.max()) + 1, int(columns.max()) + 1)
    if part.shape[:2] == (len(rows), len(columns)) and rows[0] == top and columns[0] == left:
        return part
    return part[rows - top][:, columns - left]


def _mirror(index: NDArray[np.int64], extent: int) -> NDArray[np.int64]:
    """Reflect indices into 0..extent - 1, without repeating the border px; any distance beyond the border."""
    if extent == 1:
        return np.zeros_like(index)
    period = 2 * (extent - 1)
    folded = np.abs(index) % period
    return np.where(folded >= extent, period - folded, folded)


__all__ = [
    "InferenceSettings",
    "check_image",
    "evaluating",
    "predict_maps",
    "run_windows",
    "windows",
]
