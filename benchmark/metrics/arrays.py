"""Metrics of two label maps as functions of arrays."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from benchmark.metrics import instance, pixel
from benchmark.metrics.contingency import Contingency, contingency
from benchmark.metrics.image import object_scores


def scores(true: NDArray[Any], pred: NDArray[Any]) -> dict[str, float]:
    """Return dice, aji, aji_plus, dice2, dq, sq and pq of one image.

    Args:
        true: Integer (H, W), 0 = background, one id per nucleus; ids may have gaps.
        pred: Same format.

    Returns:
        Scores by name; all NaN if both maps are empty.

    Raises:
        ValueError: If the shapes differ or a map is not an integer array (H, W).
    """
    return object_scores(_table(true, pred))


def aji(true: NDArray[Any], pred: NDArray[Any]) -> float:
    """Return the aggregated Jaccard index of two label maps, see `benchmark.metrics.instance.aji`."""
    return instance.aji(_table(true, pred))


def pq(true: NDArray[Any], pred: NDArray[Any]) -> float:
    """Return the panoptic quality of two label maps, see `benchmark.metrics.instance.panoptic_scores`."""
    return instance.panoptic_scores(instance.panoptic_counts(_table(true, pred))).pq


def dice(true: NDArray[Any], pred: NDArray[Any]) -> float:
    """Return the Dice of nuclei against background, see `benchmark.metrics.pixel.dice`."""
    return pixel.dice(pixel.pixel_counts(_table(true, pred)))


def _table(true: NDArray[Any], pred: NDArray[Any]) -> Contingency:
    for name, labels in (("true", true), ("pred", pred)):
        if labels.ndim != 2 or labels.dtype.kind not in "iu":
            raise ValueError(f"{name} is {labels.dtype} {labels.shape}, expected an integer label map (H, W)")
    if true.shape != pred.shape:
        raise ValueError(f"the prediction has shape {pred.shape}, the annotation {true.shape}")
    return contingency(true, pred)


__all__ = ["aji", "dice", "pq", "scores"]
