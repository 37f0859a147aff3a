"""CoNIC: PQ, mPQ+ and R2 of counts on the validation patches of the challenge's baseline."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.metrics.conic import MPQ_PLUS, PQ, R2, conic_scores
from benchmark.metrics.pooling import POOLED
from benchmark.metrics.typed import pq_name
from datamodules.reading.lizard_names import TYPES
from leaderboards.base import Block, Comparison, Metric

PATCHES = 1018
"""Validation patches of the baseline, as its notebook prints them; their regions are named in the dataset only."""

_PLACE, _TRAINED = (("conic", "valid"),), ("conic.train",)


class Conic(Comparison):
    """Methods trained on the training patches of the challenge's baseline."""

    name = "conic"
    title = "CoNIC"
    caption = (
        "A method is trained on the training patches of the challenge's HoVer-Net baseline and scored on its "
        "validation patches: `nucbench run METHOD conic --evaluate conic.valid`. PQ disregards types and is the mean "
        "over patches. mPQ+ is the mean of the PQ+ of the six types, from counts pooled over all patches. R2 is the "
        "mean over the types of the coefficient of determination of the numbers of nuclei in the central 224 x 224 px. "
        "The metrics are those of github.com/TissueImageAnalytics/CoNIC, whose notebook states the published figures. "
        "Results on the challenge's test set are not listed, because it is not public."
    )
    published_table = "conic"
    blocks = (
        Block(
            "CoNIC validation",
            _PLACE,
            _TRAINED,
            (
                Metric("PQ", PQ, pooled=True),
                Metric("mPQ+", MPQ_PLUS, pooled=True),
                Metric("R2", R2, pooled=True),
            ),
        ),
        Block(
            "CoNIC validation, PQ+ of each type",
            _PLACE,
            _TRAINED,
            tuple(Metric(name, pq_name(kind) + POOLED, pooled=True) for kind, name in enumerate(TYPES, start=1)),
        ),
        Block(
            "CoNIC validation, R2 of each type",
            _PLACE,
            _TRAINED,
            tuple(Metric(name, f"{R2}_{kind}", pooled=True) for kind, name in enumerate(TYPES, start=1)),
        ),
    )

    def expected(self, block: Block) -> int:
        """Return the number of validation patches, which no committed split file lists."""
        return PATCHES

    def summaries(self, scores: pd.DataFrame, repetitions: NDArray[np.int64], count: int) -> list[dict[str, float]]:
        """Add the challenge's scores."""
        found = super().summaries(scores, repetitions, count)
        for number, summary in enumerate(found):
            summary |= conic_scores(scores[repetitions == number], len(TYPES))
        return found


__all__ = ["PATCHES", "Conic"]
