"""Run networks on whole images, tile by tile."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmark.forward.memory import PROBES, largest_window
from benchmark.forward.network import BATCH_PIXELS, Network
from benchmark.host.precision import autocast_dtype
from datamodules.reading.rasters import ArrayRaster, Raster
from postproc.codec import Maps
from postproc.errors import DataError
from postproc.symmetry import SYMMETRIES
from postproc.windows import Geometry, Stitcher, Window

SAMPLE = 4096
"""Maximum side in pixels for which image statistics use all pixels; larger images are subsampled."""
BAND_PIXELS = 1 << 25
"""Pixels in memory at once while they are subsampled, unless a few rows have more."""


@dataclass(frozen=True)
class InferenceSettings:
    """Settings of inference.

    Attributes:
        precision: Lightning precision, ``auto`` = the fastest of the hardware.
        tile: Maximum side of output tiles in pixels; None = as large as the free memory of the device allows
            (`benchmark.forward.memory.largest_window`).
        most: Maximum side of output tiles in pixels where `tile` is None; None = unlimited.
        batch_size: Tiles per forward pass; None = small tiles together, up to `BATCH_PIXELS` px.
        compile: Compile the network with torch.compile. This takes seconds to minutes for each tile size, and pays off
            for many images of the same size.
        published: Tile as in the published code of the methods, for comparison: inputs have the size of training crops,
            and outputs are placed side by side from the top left corner, without overlap and with all their context.
            `tile` is ignored.
        tta: Average the maps over the eight mirrored and rotated versions of each tile (test-time augmentation), which
            takes eight times as long.
    """

    precision: str = "auto"
    tile: int | None = None
    most: int | None = None
    batch_size: int | None = None
    published: bool = False
    compile: bool = False
    tta: bool = False


def windows(
    shape: tuple[int, int], geometry: Geometry, largest: int, *, side_by_side: bool = False
) -> Iterator[Window]:
    """Cover an image with tiles of equal size.

    Args:
        shape: (H, W) of the image in pixels.
        geometry: Geometry of the network.
        largest: Maximum side of the output of a tile in pixels, unless the network requires a larger input.
        side_by_side: Use a step of the whole output size: context is not dropped, and tiles need not be aligned to the
            pooling of the network.

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
    """Cover one axis: (start, size, first kept, last kept) of each tile; all tiles have the same size.

    The number of tiles is minimal for the largest size, and the size is minimal for that number. Starts are multiples
    of `Geometry.multiple`, so that tiles pool the same pixels as a single pass over the whole image. The last tile may
    extend beyond the image.
    """

    def output(size: int) -> int:
        return geometry.output(geometry.valid_input(size + 2 * geometry.margin))

    size = output(largest)
    if size > largest:  # the next smaller valid output, if there is one
        size = output(max(largest - geometry.multiple + 1, 1))
    least = 2 * geometry.context + geometry.multiple  # minimum for which the kept parts of adjacent tiles meet
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
    """Cover one axis like `_spans`, with tiles that start where the previous one ends."""
    size = geometry.output(geometry.valid_input(largest + 2 * geometry.margin))
    return [(start, size, start, min(start + size, extent)) for start in range(0, extent, size)]


def predict_maps(method: Network, image: NDArray[np.uint8], settings: InferenceSettings | None = None) -> Maps:
    """Run a network on a whole image.

    Args:
        method: Network on its device; in eval mode during the call.
        image: uint8 (H, W, 3).
        settings: Precision and tiles.

    Returns:
        Maps for the codecs of the method, of the size of the image.

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
    """Check that an array is an 8-bit RGB image.

    Raises:
        DataError: If it is not; the message contains the remedy.
    """
    if not isinstance(image, np.ndarray):
        raise DataError(f"the image is a {type(image).__name__}; give a NumPy array, uint8 (H, W, 3)")
    if image.dtype != np.uint8:
        scale = {
            "f": ", for values in [0, 1] by (255 * image).round().astype('uint8')",
            "u": ", for 16 bits by (image // 257).astype('uint8')",
        }.get(image.dtype.kind, "")
        raise DataError(f"the image has {image.dtype} values; give uint8, 0 to 255{scale}")
    if image.size == 0:
        raise DataError(f"the image has shape {image.shape}, so no pixel; give (H, W, 3)")
    if image.ndim != 3 or image.shape[2] != 3:
        raise DataError(f"the image has shape {image.shape}; give (H, W, 3), for example {_as_rgb(image.shape)}")


def _as_rgb(shape: tuple[int, ...]) -> str:
    """Return an expression that makes an RGB image of a grey, RGBA or channels-first one of this shape."""
    if len(shape) == 2:
        return "np.stack([image] * 3, axis=-1)"
    if len(shape) == 3 and shape[2] == 1:
        return "np.repeat(image, 3, axis=-1)"
    if len(shape) == 3 and shape[2] == 4:
        return "image[..., :3]"
    if len(shape) == 3 and shape[0] in (3, 4):
        return "image[:3].transpose(1, 2, 0)"
    return "an RGB image"


@contextmanager
def evaluating(method: Network) -> Iterator[None]:
    """Put a network into eval mode within a block, then restore the mode of each module."""
    modes = {module: module.training for module in method.modules()}
    method.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


S = TypeVar("S", bound=Stitcher)


def run_windows(method: Network, image: Raster, settings: InferenceSettings, new_stitcher: Callable[[], S]) -> S:
    """Run a network on an image in rows of tiles from the top, without loading the whole image.

    If GPU memory is insufficient, it starts over with one tile per forward pass, then with tiles of half the side.

    Args:
        method: Network in eval mode, on its device.
        image: RGB image.
        settings: Precision and tiles.
        new_stitcher: Returns a new stitcher for the outputs; called at each start.

    Returns:
        The stitcher with all tiles.
    """
    dtype = autocast_dtype(settings.precision)
    method.to(memory_format=torch.channels_last)
    if settings.compile:
        _compile(method)
    largest = _window_side(method, image.shape, settings, dtype)
    together = settings.batch_size is None
    while True:
        plan = list(windows(image.shape, method.geometry, largest, side_by_side=settings.published))
        batch_size = _tiles_together(method, plan[0], largest, settings) if together else settings.batch_size or 1
        try:
            return _run(method, image, plan, batch_size, dtype, new_stitcher(), average=settings.tta)
        except torch.OutOfMemoryError:
            if together and batch_size > 1:
                together = False
                torch.cuda.empty_cache()
                continue
            side = max(plan[0].height, plan[0].width)
            largest = min(largest, side) // 2
            smaller = next(windows(image.shape, method.geometry, max(largest, 1)))
            if settings.published or max(smaller.height, smaller.width) >= side:
                raise  # smaller tiles are impossible, or not allowed
            torch.cuda.empty_cache()


def _window_side(
    method: Network, shape: tuple[int, int], settings: InferenceSettings, dtype: torch.dtype | None
) -> int:
    """Return the maximum side of output tiles in pixels."""
    if settings.published:
        return method.training_crop - 2 * method.geometry.margin
    if settings.tile is not None:
        return settings.tile
    side = PROBES[0] if max(shape) <= PROBES[0] else largest_window(method, dtype, settings.batch_size or 1)
    return min(side, settings.most or side)


def _tiles_together(method: Network, window: Window, largest: int, settings: InferenceSettings) -> int:
    """Return how many tiles of the size of `window` make `BATCH_PIXELS` px, or as many as the memory permits."""
    margin = 2 * method.geometry.margin
    measured = settings.tile is None and not settings.published
    pixels = min(BATCH_PIXELS, (largest + margin) ** 2) if measured else BATCH_PIXELS
    return max(1, pixels // ((window.height + margin) * (window.width + margin)))


def _run(
    method: Network,
    image: Raster,
    plan: list[Window],
    batch_size: int,
    dtype: torch.dtype | None,
    stitcher: S,
    *,
    average: bool,
) -> S:
    device = method.device
    predict = partial(_average, method) if average else method.predict_batch
    with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
        needed = stitcher.begin(plan)
        statistics = _statistics(method, image) if needed else torch.empty(0)
        for start in range(0, len(needed), batch_size):
            group = needed[start : start + batch_size]
            tiles = np.stack([_cut(image, window, method.geometry.margin) for window in group])
            batch = torch.from_numpy(tiles.transpose(0, 3, 1, 2).copy())
            prepared = method.prepare(batch, statistics.expand(len(group), 2, 3))
            for window, maps in zip(group, predict(prepared), strict=True):
                stitcher.add(window, maps)
    return stitcher


def _average(method: Network, prepared: Tensor) -> list[Maps]:
    """Return the maps of prepared tiles, averaged over the symmetries of the square."""
    sums: list[Maps] = [{} for _ in prepared]
    for symmetry in SYMMETRIES:
        turned = torch.rot90(prepared.flip(3) if symmetry.mirrored else prepared, symmetry.turns, (2, 3))
        found = method.predict_batch(turned.contiguous(memory_format=torch.channels_last))
        for total, maps in zip(sums, found, strict=True):
            for name, value in method.undo(maps, symmetry).items():
                total[name] = total[name] + value if name in total else np.array(value)
    return [{name: value / len(SYMMETRIES) for name, value in total.items()} for total in sums]


def _compile(method: Network) -> None:
    """Compile the forward pass once per method, with static shapes, since all tiles of an image have the same size."""
    if method._compiled_call_impl is None:
        method.compile(dynamic=False)


def _statistics(method: Network, image: Raster) -> Tensor:
    """Return mean and standard deviation of the whole image for preparing tiles, (1, 2, 3)."""
    sample = _sample(image) if method.own_statistics else np.zeros((1, 1, 3), np.uint8)
    pixels = torch.from_numpy(np.ascontiguousarray(sample.transpose(2, 0, 1)))[None]
    return method.statistics(pixels.to(method.device).float() / 255)


def _sample(image: Raster) -> NDArray[np.uint8]:
    """Subsample every k-th row and column, to at most `SAMPLE` px per side."""
    height, width = image.shape
    step = -(-max(height, width) // SAMPLE)
    bands = range(0, height, max(min(SAMPLE, BAND_PIXELS // width) // step, 1) * step)
    return np.concatenate([image.read(y, 0, min(y + bands.step, height), width)[::step, ::step] for y in bands])


def _cut(image: Raster, window: Window, margin: int) -> NDArray[np.uint8]:
    """Crop the input of a tile from an image, mirrored beyond the border."""
    rows = _mirror(np.arange(window.top - margin, window.top + window.height + margin), image.shape[0])
    columns = _mirror(np.arange(window.left - margin, window.left + window.width + margin), image.shape[1])
    top, left = int(rows.min()), int(columns.min())
    part = image.read(top, left, int(rows.max()) + 1, int(columns.max()) + 1)
    if part.shape[:2] == (len(rows), len(columns)) and rows[0] == top and columns[0] == left:
        return part
    return part[rows - top][:, columns - left]


def _mirror(index: NDArray[np.int64], extent: int) -> NDArray[np.int64]:
    """Reflect indices into 0..extent - 1 from any distance, without repeating the border pixel."""
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
