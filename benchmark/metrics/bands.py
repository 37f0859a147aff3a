"""Score label maps that do not fit in memory, from the contingency tables of bands of rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.metrics.contingency import Contingency, contingency
from benchmark.metrics.image import object_scores
from benchmark.metrics.instance import panoptic_counts
from benchmark.metrics.pixel import pixel_counts, pixel_scores
from benchmark.metrics.shape import average_dice
from datamodules.reading.rasters import Raster
from postproc.errors import DataError

BAND = 1 << 23
"""Number of pixels of a band."""

Ints = NDArray[np.int64]


def merge(tables: Iterable[Contingency]) -> Contingency:
    """Merge the contingency tables of the parts of an image; a nucleus has the same id in all parts.

    Args:
        tables: Tables of parts that tile the image.
    """
    parts = list(tables)
    true_ids, true_area = _sum_by(
        np.concatenate([p.true_ids for p in parts]), np.concatenate([p.true_area for p in parts])
    )
    pred_ids, pred_area = _sum_by(
        np.concatenate([p.pred_ids for p in parts]), np.concatenate([p.pred_area for p in parts])
    )
    keys = [
        np.searchsorted(true_ids, p.true_ids)[p.true_index] * pred_ids.size
        + np.searchsorted(pred_ids, p.pred_ids)[p.pred_index]
        for p in parts
    ]
    pairs, intersection = _sum_by(np.concatenate(keys), np.concatenate([p.intersection for p in parts]))
    true_index, pred_index = np.divmod(pairs, max(pred_ids.size, 1))
    pixels = sum(p.pixels for p in parts)
    return Contingency(pixels, true_ids, pred_ids, true_area, pred_area, true_index, pred_index, intersection)


def _sum_by(keys: Ints, values: Ints) -> tuple[Ints, Ints]:
    """Return the unique keys in ascending order, and the sum of the values of each key."""
    unique, place = np.unique(keys, return_inverse=True)
    sums = np.zeros(unique.size, np.int64)
    np.add.at(sums, place, values)
    return unique, sums


def contingency_by_band(true: Raster, pred: Raster, band: int = BAND) -> Contingency:
    """Compare two label maps of the same size, one band of rows at a time.

    Args:
        true: (H, W), any integer dtype, 0 = background.
        pred: Same format.
        band: Number of pixels of a band.
    """
    height, width = true.shape
    rows = max(1, band // width)

    def tables() -> Iterator[Contingency]:
        for top in range(0, height, rows):
            box = top, 0, min(top + rows, height), width
            yield contingency(true.read(*box), pred.read(*box))

    return merge(tables())


def score_by_band(true: Raster, pred: Raster, paths: tuple[Path, Path]) -> dict[str, float]:
    """Score two label maps like `image.score_image`, without the Hausdorff distance, which needs whole nuclei.

    Args:
        true: The annotation.
        pred: The prediction.
        paths: Paths of both, for messages.

    Raises:
        DataError: If they differ in size or a map has a negative id.
    """
    if true.shape != pred.shape:
        sizes = [f"{shape[0]} x {shape[1]}" for shape in (pred.shape, true.shape)]
        raise DataError(
            f"{paths[1]}: {sizes[0]} px (H x W), but {paths[0]} has {sizes[1]} px; "
            "predict the whole image at the size of its annotation"
        )
    try:
        table = contingency_by_band(true, pred)
    except ValueError as error:
        raise DataError(f"{paths[0]} and {paths[1]} cannot be compared: {error}") from error
    scores = object_scores(table) | pixel_scores(pixel_counts(table)) | {"adc": average_dice(table)}
    counts: dict[str, float] = {"n_true": float(table.n_true), "n_pred": float(table.n_pred)}
    counts |= {f"n_{name}": float(count) for name, count in panoptic_counts(table)._asdict().items()}
    return scores | counts | {f"n_pixel_{name}": float(n) for name, n in pixel_counts(table)._asdict().items()}
