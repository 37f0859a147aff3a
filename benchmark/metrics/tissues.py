"""Means over tissues, as PanNuke is scored: mean over the images of a tissue first, then over the tissues.

Source: github.com/TissueImageAnalytics/PanNuke-metrics (run.py).
"""

from __future__ import annotations

import pandas as pd

from benchmark.metrics.typed import MPQ

TISSUE = "tissue"
"""Column of per-image scores with the tissue of each image, of datasets that state it."""
MULTI, BINARY = "mpq", "bpq"
"""Multi-class and binary PQ."""
BY_TISSUE = "_by_tissue"
"""Suffix of means over tissues."""


def tissue_scores(scores: pd.DataFrame) -> dict[str, float]:
    """Return mPQ and bPQ of each tissue, and their means over the tissues.

    An image counts for bPQ if it has annotated nuclei, and for mPQ if one of them has a type; a type counts in the
    images in which it is annotated.

    Args:
        scores: One row per image, with ``tissue``, ``pq``, ``n_true`` and, if types are scored, ``mpq``.

    Returns:
        ``bpq_by_tissue`` and ``mpq_by_tissue``, then ``bpq_TISSUE`` and ``mpq_TISSUE``; NaN for a tissue without such
        images, which is left out of the mean. Empty without the column ``tissue``.
    """
    if TISSUE not in scores:
        return {}
    per_image = {BINARY: scores["pq"].where(scores["n_true"] > 0)}
    if MPQ in scores:
        per_image[MULTI] = scores[MPQ]
    found: dict[str, float] = {}
    for name, values in per_image.items():
        means = values.groupby(scores[TISSUE]).mean()
        found[name + BY_TISSUE] = float(means.mean())
        found |= {f"{name}_{tissue}": float(value) for tissue, value in means.items()}
    return found


__all__ = ["BINARY", "BY_TISSUE", "MULTI", "TISSUE", "tissue_scores"]
