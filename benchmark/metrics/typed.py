"""Panoptic quality of each nucleus type: mPQ of PanNuke (means over images) and mPQ+ of CoNIC (pooled counts).

Sources: github.com/TissueImageAnalytics/PanNuke-metrics (run.py) and github.com/TissueImageAnalytics/CoNIC
(compute_stats.py). Both compare the nuclei of a type on one side with those of the same type on the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from benchmark.metrics.contingency import Contingency
from benchmark.metrics.instance import PanopticCounts, panoptic_scores
from postproc.instances import Instances

MPQ = "mpq"
"""Name of the mean over the types."""
FIELDS = PanopticCounts._fields
_COUNT = re.compile(r"n_tp_type_(\d+)")


def pq_name(kind: int) -> str:
    """Return the name of the PQ of a type, 1..T."""
    return f"pq_{kind}"


def typed_counts(
    table: Contingency, true_types: NDArray[np.int64], pred_types: NDArray[np.int64], types: int
) -> dict[str, float]:
    """Count the pairs with an IoU over 0.5 whose nuclei have the same type, for each type.

    Args:
        table: The contingency of label maps with ids 1..N.
        true_types: (N,), type of each annotated nucleus, 0 = unknown: it takes part in no count.
        pred_types: (M,), type of each predicted nucleus.
        types: Number of types T.

    Returns:
        ``n_tp_type_k``, ``n_fp_type_k``, ``n_fn_type_k`` and ``n_iou_sum_type_k`` for k in 1..T.
    """
    true, pred = true_types[table.true_ids - 1], pred_types[table.pred_ids - 1]
    matched = 2 * table.intersection > table.union
    kinds = true[table.true_index]
    matched &= kinds == pred[table.pred_index]
    iou = table.iou
    counts: dict[str, float] = {}
    for kind in range(1, types + 1):
        pairs = matched & (kinds == kind)
        tp = int(pairs.sum())
        one = PanopticCounts(
            tp, int((pred == kind).sum()) - tp, int((true == kind).sum()) - tp, float(iou[pairs].sum())
        )
        counts |= {f"n_{name}_type_{kind}": float(value) for name, value in one._asdict().items()}
    return counts


def inside_counts(truth: Instances, prediction: Instances, types: int, border: int) -> dict[str, float]:
    """Count the nuclei of each type that have a pixel inside a border, as CoNIC counts them.

    Source: github.com/TissueImageAnalytics/CoNIC (extract_patches.py): the central 224 x 224 px of 256 x 256.

    Args:
        truth: Annotated nuclei, a label map with types.
        prediction: Predicted nuclei, likewise.
        types: Number of types T.
        border: Width of the border in pixels.

    Returns:
        ``n_true_inside_k`` and ``n_pred_inside_k`` for k in 1..T.
    """
    counts: dict[str, float] = {}
    for side, nuclei in (("true", truth), ("pred", prediction)):
        assert nuclei.labels is not None
        assert nuclei.types is not None
        height, width = nuclei.shape
        ids = np.unique(nuclei.labels[border : height - border, border : width - border])
        found = np.bincount(nuclei.types[ids[ids > 0] - 1], minlength=types + 1)
        counts |= {f"n_{side}_inside_{kind}": float(found[kind]) for kind in range(1, types + 1)}
    return counts


def image_scores(counts: Mapping[str, float]) -> dict[str, float]:
    """Return ``pq_k`` of one image, NaN for types that are not annotated in it, and their mean ``mpq``.

    An unannotated type is left out even if it is predicted, as in the code of PanNuke; this code divides by the pairs
    plus 1e-6, so that its figures are up to 1e-6 lower.
    """
    scores = {}
    for kind in _kinds(counts):
        one = _of_type(counts, kind)
        scores[pq_name(kind)] = panoptic_scores(one).pq if one.tp + one.fn else float("nan")
    return scores | {MPQ: _mean(list(scores.values()))}


def pooled_scores(counts: Mapping[str, float]) -> dict[str, float]:
    """Return ``pq_k`` and ``mpq`` of counts summed over images: PQ+ and mPQ+ of CoNIC.

    A type that occurs on neither side is NaN and left out of the mean; the code of CoNIC counts it as 0.
    """
    scores = {pq_name(kind): panoptic_scores(_of_type(counts, kind)).pq for kind in _kinds(counts)}
    return scores | {MPQ: _mean(list(scores.values()))}


def _kinds(counts: Mapping[str, float]) -> list[int]:
    return sorted(int(match[1]) for name in counts if (match := _COUNT.fullmatch(name)))


def _of_type(counts: Mapping[str, float], kind: int) -> PanopticCounts:
    tp, fp, fn, iou_sum = (counts[f"n_{name}_type_{kind}"] for name in FIELDS)
    return PanopticCounts(int(tp), int(fp), int(fn), iou_sum)


def _mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
