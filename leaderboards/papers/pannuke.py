"""PanNuke: mPQ and bPQ as means over tissues, averaged over the folds of a seed."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmark.metrics.tissues import BINARY, BY_TISSUE, MULTI, tissue_scores
from benchmark.metrics.typed import pq_name
from datamodules.reading.pannuke_names import TISSUES, TYPES
from leaderboards.base import Block, Comparison, Metric

FOLDS = ("fold1", "fold2", "fold3")

_PLACES = tuple(("pannuke", fold) for fold in FOLDS)
_TRAINED = tuple(f"pannuke.{fold}" for fold in FOLDS)


def _block(title: str, metrics: tuple[Metric, ...]) -> Block:
    return Block(title, _PLACES, _TRAINED, metrics)


class PanNukeTissues(Comparison):
    """Each fold trained on is scored on another; the folds of a seed make one repetition."""

    name = "pannuke"
    title = "PanNuke"
    caption = (
        "A network is trained on one fold and scored on another. mPQ is the mean over the types annotated in an image, "
        "then over the images of a tissue, then over the 19 tissues; bPQ disregards types. The PQ of a type is the "
        "mean over the images in which it is annotated. Figures are averaged over the folds of a seed, then over "
        "seeds. To run a fold: `nucbench run METHOD pannuke --train-split fold1 --protocol strict --validate "
        "pannuke.fold2 --evaluate pannuke.fold3`. The metrics are those of github.com/TissueImageAnalytics/"
        "PanNuke-metrics. Published figures: logs of the authors of CellViT (github.com/TIO-IKIM/CellViT), trained on "
        "the folds 1, 2 and 3 and scored on the folds 3, 3 and 1; means over tissues and folds are computed from them."
    )
    published_table = "pannuke"
    repetition = "seed"
    blocks = (
        _block(
            "PanNuke",
            (
                Metric("mPQ", MULTI + BY_TISSUE),
                Metric("bPQ", BINARY + BY_TISSUE),
                *(Metric(f"PQ {name}", pq_name(kind)) for kind, name in enumerate(TYPES, start=1)),
            ),
        ),
        _block("PanNuke, mPQ of each tissue", tuple(Metric(name, f"{MULTI}_{name}") for name in TISSUES)),
        _block("PanNuke, bPQ of each tissue", tuple(Metric(name, f"{BINARY}_{name}") for name in TISSUES)),
    )

    def select(self, scores: pd.DataFrame, block: Block) -> pd.DataFrame:
        """Return the lines of runs that are scored on another fold than the one they are trained on."""
        chosen = super().select(scores, block)
        return chosen[chosen["trained_on"] != chosen["dataset"] + "." + chosen["split"]]

    def summaries(self, scores: pd.DataFrame, repetitions: NDArray[np.int64], count: int) -> list[dict[str, float]]:
        """Return the figures of each evaluation, averaged over those of a repetition."""
        names = scores["run_id"] + "." + scores["split"] + "." + scores["variant"]
        pairs = pd.MultiIndex.from_arrays([repetitions, names])
        codes, keys = pd.factorize(pairs, sort=True)
        each = codes.astype(np.int64)
        found = super().summaries(scores, each, len(keys))
        for number, summary in enumerate(found):
            summary |= tissue_scores(scores[each == number])
        averaged = pd.DataFrame(found).groupby([repetition for repetition, _ in keys]).mean()
        return [{str(name): float(value) for name, value in line.items()} for line in averaged.to_dict("records")]


__all__ = ["FOLDS", "PanNukeTissues"]
