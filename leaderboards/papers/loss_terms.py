"""Table A1 of the HoVer-Net paper: effect of the additional loss terms."""

from __future__ import annotations

import pandas as pd

from leaderboards.base import Block, Comparison
from leaderboards.changes import row_titles
from leaderboards.options import option
from leaderboards.papers.postprocessing import BLOCKS

ROWS = {"standard": "Standard loss", "proposed": "Proposed loss"}
"""Option ``loss_terms`` of the method -> row of the published table."""


class LossTerms(Comparison):
    """Squared error and cross-entropy alone, or with the gradient and Dice terms (Graham 2019, table A1)."""

    name = "loss_terms"
    title = "Loss terms of HoVer-Net"
    caption = (
        "Standard loss: squared error of the distance maps and cross-entropy. Proposed loss: additionally the squared "
        "error of their gradients and the Dice loss. `nucbench run hovernet DATASET --options.loss_terms standard`, "
        "and the same without the option; DATASET is kumar or consep. The published figures (Graham 2019, table A1) "
        "are unavailable; those of the proposed loss should equal HoVer-Net's in the segmentation table."
    )
    published_table = "ablation_loss"
    blocks = BLOCKS
    listed = tuple(ROWS.values())

    def select(self, scores: pd.DataFrame, block: Block) -> pd.DataFrame:
        """Return the lines of HoVer-Net with the paper's post-processing."""
        chosen = super().select(scores, block)
        return chosen[(chosen["method"] == "hovernet") & (chosen["variant"] == "hovernet")]

    def label(self, scores: pd.DataFrame) -> pd.Series:
        """Return the loss."""
        rows = scores["options"].map(lambda text: ROWS[option(text, "loss_terms", "proposed")])
        return row_titles(rows, scores, leave_out=("loss_terms",))
