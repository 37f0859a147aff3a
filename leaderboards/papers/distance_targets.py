"""Section V of the DIST paper: which form of the distance map is learnt best."""

from __future__ import annotations

import pandas as pd

from leaderboards.base import SEGMENTATION_METRICS, Block, Comparison
from leaderboards.changes import row_titles
from leaderboards.options import option

ROWS = {
    "raw": "Raw distance",
    "normalised": "Normalised distance",
    "softmax": "Normalised distance, softmax",
}
"""Option ``target`` of the method -> row."""

DECODED = {"dist-p1-1": " (p1 = 1)"}
"""Variant of the method -> suffix that distinguishes its row from the paper's post-processing."""


class DistanceTargets(Comparison):
    """Three regression targets on the synthetic set of the paper (Naylor 2018, section V)."""

    name = "distance_targets"
    title = "Targets of DIST"
    caption = (
        "DIST trained and scored on the synthetic images of its paper. It regresses the distance in pixels, the "
        "distance divided by its maximum in each nucleus, or the latter as the second of two softmax channels. Rows "
        "with p1 = 1 decode the same maps after removing maxima of height 1 px (normalised: 0.3). "
        "`nucbench run dist synthetic-dist --options.target TARGET`, where TARGET is raw, normalised or softmax. The "
        "paper shows example maps (Naylor 2018, figure 4) but no scores; it finds that only the raw distance is learnt "
        "well."
    )
    published_table = "distance_targets"
    blocks = (
        Block("Synthetic", (("synthetic-dist", "test"),), ("synthetic-dist.train",), SEGMENTATION_METRICS),
    )  # fmt: skip

    def select(self, scores: pd.DataFrame, block: Block) -> pd.DataFrame:
        """Return the lines of DIST."""
        chosen = super().select(scores, block)
        return chosen[chosen["method"] == "dist"]

    def label(self, scores: pd.DataFrame) -> pd.Series:
        """Return the target."""
        targets = scores["options"].map(lambda text: ROWS[option(text, "target", "raw")])
        rows = targets + scores["variant"].map(lambda variant: DECODED.get(variant, ""))
        return row_titles(rows, scores, leave_out=("target",))
