"""Pixel metrics: nuclei against background, independent of the separation of nuclei."""

from __future__ import annotations

from typing import NamedTuple

from benchmark.metrics.contingency import Contingency

_NAN = float("nan")


class PixelCounts(NamedTuple):
    """Pixels by annotation and prediction; counts can be summed over images.

    Attributes:
        tp: Pixels in nuclei on both sides.
        fp: Pixels only in predicted nuclei.
        fn: Pixels only in annotated nuclei.
        tn: Pixels of background on both sides.
    """

    tp: int
    fp: int
    fn: int
    tn: int


def pixel_counts(table: Contingency) -> PixelCounts:
    """Count the pixels of one image."""
    tp = int(table.intersection.sum())
    fp, fn = int(table.pred_area.sum()) - tp, int(table.true_area.sum()) - tp
    return PixelCounts(tp, fp, fn, table.pixels - tp - fp - fn)


def dice(counts: PixelCounts) -> float:
    """Return the Dice coefficient of the foreground (HoVer-Net IV-A), equal to the pixel F1 (Naylor 2018, VI-A).

    NaN if both maps are empty.
    """
    total = 2 * counts.tp + counts.fp + counts.fn
    return 2 * counts.tp / total if total else _NAN


def pixel_scores(counts: PixelCounts) -> dict[str, float]:
    """Return the pixel scores of Naylor 2017, table 1; its F1 is `dice`.

    Two empty maps give NaN for all scores, so that all columns average over the same images. One empty map gives
    precision and recall 0; accuracy, IU and performance include the background and keep their values.

    Returns:
        ``pixel_accuracy``; ``pixel_iu``, the mean intersection over union of nuclei and background (without background
        if neither side has any); ``pixel_recall``; ``pixel_precision``; ``pixel_performance``, the mean of the true
        positive and true negative rates (only the defined one if the annotation has a single class).
    """
    tp, fp, fn, tn = counts
    names = ("pixel_accuracy", "pixel_iu", "pixel_recall", "pixel_precision", "pixel_performance")
    if tp + fp + fn == 0:
        return dict.fromkeys(names, _NAN)
    unions = [(tp, tp + fp + fn), (tn, tn + fp + fn)]
    rates = [(tp, tp + fn), (tn, tn + fp)]
    values = (
        (tp + tn) / (tp + fp + fn + tn),
        _mean_ratio(unions),
        tp / (tp + fn) if tp else 0.0,
        tp / (tp + fp) if tp else 0.0,
        _mean_ratio(rates),
    )
    return dict(zip(names, values, strict=True))


def _mean_ratio(ratios: list[tuple[int, int]]) -> float:
    defined = [part / whole for part, whole in ratios if whole]
    return sum(defined) / len(defined)
