"""Table 1 of Sahasrabudhe et al. 2020: self-supervised against other methods."""

from __future__ import annotations

import pandas as pd

from leaderboards.base import Block, Comparison, Metric
from leaderboards.changes import row_titles
from leaderboards.options import option

METHOD = "self-supervised"
ABLATIONS = {"smooth": "M_-smooth", "equivariance": "M_-equiv", "sparsity": "M_-sparse"}
"""Disabled option of the method -> row of the published table."""

METRICS = (Metric("AJI", "aji"), Metric("AHD", "ahd", higher=False), Metric("ADC", "adc"))
"""Aggregated Jaccard index, average Hausdorff distance in px, average Dice coefficient."""


class SelfSupervised(Comparison):
    """The self-supervised method and its ablations on three datasets (Sahasrabudhe 2020, table 1)."""

    name = "self_supervised"
    title = "Self-supervised segmentation"
    caption = (
        "M_proposed: the self-supervised method trained on tiles of whole slides; M_-smooth, M_-equiv, M_-sparse: the "
        "same without one of its parts; M_-WSI: trained on the images of MoNuSeg instead of whole slides. `nucbench "
        "sweep self-supervised.yaml` produces these rows: epoch and post-processing are chosen on validation images of "
        "MoNuSeg, and nothing is trained on TNBC or CoNSeP. Supervised methods are trained on the training set of "
        "MoNuSeg, of Kumar (scored on TNBC) or of CoNSeP. The paper does not state which images of CoNSeP were scored. "
        "The figures that it compares with are those of the 14 test images (Graham 2019, table III), so these images "
        "are scored here. The values that it prints as ADC of other methods on TNBC and CoNSeP are the DICE of that "
        "paper. Published figures: Sahasrabudhe 2020, table 1."
    )
    published_table = "self_supervised"
    blocks = (
        Block("MoNuSeg test", (("monuseg", "test"),), ("monuseg.train",), METRICS),
        Block("TNBC", (("tnbc", "all"),), ("kumar.train",), METRICS),
        Block("CoNSeP", (("consep", "test"),), ("consep.train",), METRICS),
    )

    def select(self, scores: pd.DataFrame, block: Block) -> pd.DataFrame:
        """Return the lines of a block: the self-supervised method's with any training set, and others'."""
        ours = scores["method"] == METHOD
        wanted = [f"{dataset}.{split}" for dataset, split in block.evaluations]
        here = (scores["dataset"] + "." + scores["split"]).isin(wanted)
        return scores[here & (ours | scores["trained_on"].isin(["", *block.trained_on]))]

    def label(self, scores: pd.DataFrame) -> pd.Series:
        """Return the row: the setting of the self-supervised method, the title of any other."""
        facts = zip(scores["method"], scores["base"], scores["trained_on"], scores["options"], strict=True)
        rows = [setting(trained, options) if method == METHOD else title for method, title, trained, options in facts]
        return row_titles(rows, scores, leave_out=ABLATIONS)


def setting(trained_on: str, options: str) -> str:
    """Return the row of a run of the self-supervised method.

    Args:
        trained_on: Its training set, ``<dataset>.<split>``.
        options: As `leaderboards.records.describe` writes them.
    """
    parts = [row for key, row in ABLATIONS.items() if option(options, key, "true") == "false"]
    if trained_on.partition(".")[0] == "tiles":
        return ", ".join(parts) or "M_proposed"
    name = ", ".join(["M_-WSI", *parts])
    return name if trained_on == "monuseg.train" else f"{name} ({trained_on})"
