"""The scores of the CoNIC challenge: PQ, mPQ+ and R2 of counts.

Source: github.com/TissueImageAnalytics/CoNIC (compute_stats.py and metrics/stats_utils.py).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.metrics.pooling import POOLED, summarise
from benchmark.metrics.typed import pq_name

PQ, MPQ_PLUS, R2 = "pq_conic", "mpq_plus", "r2"


def conic_scores(scores: pd.DataFrame, types: int) -> dict[str, float]:
    """Return the challenge's scores of a set of images.

    Unlike `benchmark.metrics.pooling.summarise`, the challenge counts what is undefined as 0: the PQ of an image
    without nuclei on either side, and the PQ of a type that occurs on neither side of any image. Its code adds 1e-6 to
    the denominators, so that its figures are up to 1e-6 lower.

    Args:
        scores: One row per image, with ``pq`` and, if types are scored, the counts of `benchmark.metrics.typed`.
        types: Number of types T.

    Returns:
        ``pq_conic``, mean over images; if types are scored, ``mpq_plus``, mean over the types; if nuclei were counted,
        ``r2`` and ``r2_1`` ... ``r2_T``.
    """
    found = {PQ: float(scores["pq"].fillna(0).mean())}
    summary = summarise(scores)
    pooled = [summary.get(pq_name(kind) + POOLED, np.nan) for kind in range(1, types + 1)]
    if "n_tp_type_1" in scores:
        found[MPQ_PLUS] = float(np.nan_to_num(pooled).mean())
    if "n_true_inside_1" in scores:
        each = {
            f"{R2}_{kind}": r2(*(scores[f"n_{side}_inside_{kind}"].to_numpy(np.float64) for side in ("true", "pred")))
            for kind in range(1, types + 1)
        }
        found |= {R2: float(np.mean(list(each.values()))), **each}
    return found


def r2(true: NDArray[np.float64], pred: NDArray[np.float64]) -> float:
    """Return the coefficient of determination, as scikit-learn defines it.

    Args:
        true: (N,), annotated counts.
        pred: (N,), predicted counts.

    Returns:
        1 - squared errors / squared deviations from the mean; if all true counts are equal, 1 without errors, else 0.
    """
    errors = float(((true - pred) ** 2).sum())
    deviations = float(((true - true.mean()) ** 2).sum())
    if deviations == 0:
        return 1.0 if errors == 0 else 0.0
    return 1 - errors / deviations


__all__ = ["MPQ_PLUS", "PQ", "R2", "conic_scores", "r2"]
