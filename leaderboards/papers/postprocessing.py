"""Table A2 of the HoVer-Net paper: energy landscape and markers of its watershed."""

from __future__ import annotations

import pandas as pd

from leaderboards.base import SEGMENTATION_METRICS, Block, Comparison
from leaderboards.changes import row_titles

ROWS = {
    "hovernet-pseudo-distance-threshold": "energy=pseudo-distance; markers=Threshold",
    "hovernet-pseudo-distance-sobel": "energy=pseudo-distance; markers=Sobel",
    "hovernet-sobel-threshold": "energy=Sobel; markers=Threshold",
    "hovernet": "energy=Sobel; markers=Sobel",
}
"""Variant of the method -> row of the published table."""

BLOCKS = tuple(
    Block(title, ((dataset, "test"),), (f"{dataset}.train",), SEGMENTATION_METRICS)
    for title, dataset in (("Kumar", "kumar"), ("CoNSeP", "consep"))
)


class Postprocessing(Comparison):
    """Four post-processings of one trained HoVer-Net (Graham 2019, table A2)."""

    name = "postprocessing"
    title = "Post-processing of HoVer-Net"
    caption = (
        "One training, four ways to decode its maps into nuclei: the energy landscape and the markers of the watershed "
        "come either from the Sobel gradients of the distance maps, or from the pseudo distance (the sum of their "
        "squares) and a threshold on it. `nucbench run hovernet kumar` and `nucbench run hovernet consep` produce all "
        "rows. Published figures: Graham 2019 (HoVer-Net), table A2."
    )
    published_table = "ablation_postprocessing"
    blocks = BLOCKS

    def select(self, scores: pd.DataFrame, block: Block) -> pd.DataFrame:
        """Return the lines of the four variants."""
        chosen = super().select(scores, block)
        return chosen[(chosen["method"] == "hovernet") & chosen["variant"].isin(list(ROWS))]

    def label(self, scores: pd.DataFrame) -> pd.Series:
        """Return energy and markers."""
        return row_titles(scores["variant"].map(ROWS), scores)
