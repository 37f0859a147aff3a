"""Table III of the HoVer-Net paper: segmentation on Kumar, CoNSeP and CPM-17."""

from __future__ import annotations

import pandas as pd

from leaderboards.base import SEGMENTATION_METRICS, Block, Comparison
from leaderboards.changes import in_brackets
from leaderboards.papers.typed import learns_types, without_classify


class Segmentation(Comparison):
    """Each method trained and tested on the same dataset (Graham 2019, table III)."""

    name = "segmentation"
    title = "Nuclei segmentation"
    caption = (
        "Each method is trained on the training set of a dataset and scored on its test set: `nucbench sweep "
        "segmentation.yaml`. Networks that also learn types of nuclei have rows of their own. AJI is not AJI+. "
        "Published figures: Graham 2019 (HoVer-Net), table III."
    )
    published_table = "segmentation"
    blocks = tuple(
        Block(title, ((dataset, "test"),), (f"{dataset}.train",), SEGMENTATION_METRICS)
        for title, dataset in (("Kumar", "kumar"), ("CoNSeP", "consep"), ("CPM-17", "cpm17"))
    )

    def build(self, scores: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
        """Return the table as `Comparison.build` does; the published figures are of networks without types."""
        return super().build(without_classify(scores), published)

    def label(self, scores: pd.DataFrame) -> pd.Series:
        """Return the method; learning types makes it a different method from the published one."""
        pairs = zip(super().label(scores), learns_types(scores), strict=True)
        rows = [in_brackets(title, "with types") if typed else title for title, typed in pairs]
        return pd.Series(rows, index=scores.index, dtype=object)
