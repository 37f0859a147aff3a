"""Table A3 of the HoVer-Net paper: effect of a separate branch for types."""

from __future__ import annotations

import pandas as pd

from leaderboards.base import Block
from leaderboards.changes import row_titles
from leaderboards.options import option
from leaderboards.papers.classification import Classification

ROWS = {"false": "NP & HoVer", "true": "NP & HoVer & NC"}
"""Option ``type_branch`` of the method -> row of the published table."""


class AblationBranches(Classification):
    """Types predicted by the NP branch or by a separate branch (Graham 2019, table A3)."""

    name = "ablation_branches"
    title = "Branches of HoVer-Net"
    caption = (
        "NP & HoVer: the NP branch predicts background and types, and the mask is the sum of the types. NP & HoVer & "
        "NC: a third branch predicts the types. Trained on the training set of CoNSeP; scores as in the "
        "classification table. `nucbench sweep ablation-branches.yaml` produces both rows. Published figures: Graham "
        "2019 (HoVer-Net), table A3, as far as they are legible, and table V."
    )
    published_table = "ablation_branches"

    def select(self, scores: pd.DataFrame, block: Block) -> pd.DataFrame:
        """Return the lines of HoVer-Net with the paper's post-processing."""
        chosen = super().select(scores, block)
        return chosen[chosen["method"] == "hovernet"]

    def label(self, scores: pd.DataFrame) -> pd.Series:
        """Return the branches."""
        rows = scores["options"].map(lambda text: ROWS[option(text, "type_branch", "true")])
        return row_titles(rows, scores, leave_out=("type_branch",))
