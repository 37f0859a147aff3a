"""Table I of the KiNet paper: nuclei detected and classified in Ki67 images."""

from __future__ import annotations

import pandas as pd

from leaderboards.base import Block, Comparison, Metric
from leaderboards.changes import row_titles
from leaderboards.options import option

METRICS = (
    Metric("detection P", "precision_pooled", "detection_precision", pooled=True),
    Metric("detection R", "recall_pooled", "detection_recall", pooled=True),
    Metric("detection F1", "f1_pooled", "detection_F1", pooled=True),
    Metric("distance, px", "distance_mean_pooled", "distance_mean", higher=False, pooled=True),
    Metric("its deviation, px", "distance_std_pooled", "distance_std", higher=False, pooled=True),
    Metric("classification P", "precision_c_pooled", "classification_precision", pooled=True),
    Metric("classification R", "recall_c_pooled", "classification_recall", pooled=True),
    Metric("classification F1", "f1_c_pooled", "classification_F1", pooled=True),
    Metric("classification AUC", "auc_c_pooled", "classification_AUC", pooled=True),
)
"""The nine columns of the table, from counts summed over all test images."""

BLOCK = Block("Pancreatic NET Ki67", (("ki67", "test"),), ("ki67.train",), METRICS)


class Ki67(Comparison):
    """KiNet and the methods compared with it on Ki67 images (Xing 2019, table I)."""

    name = "ki67"
    title = "Nuclei in Ki67 images"
    caption = (
        "Each method is trained on the training set of Ki67 and scored on its test set: `nucbench run METHOD ki67`, or "
        "all of them with `nucbench sweep ki67.yaml`. A detection counts if it is within 16 px of a nucleus; each "
        "nucleus is matched once. Distance: mean and standard deviation over the matched pairs. Classification: "
        "precision, recall and F1 of each type, weighted by its share of the nuclei; AUC: area under the "
        "precision-recall curve of the classification. Counts are pooled over images. oKiNet: KiNet without its region "
        "branch (`--options.roi false`); sKiNet: trained stage by stage (`--options.stagewise true`). Runs with a "
        "share of the labels are shown in the picture `ki67-labels` instead. Published figures: Xing 2019 (KiNet), "
        "table I, from 57 training and 57 test images, of which one each is public."
    )
    published_table = "ki67"
    blocks = (BLOCK,)

    def select(self, scores: pd.DataFrame, block: Block) -> pd.DataFrame:
        """Exclude runs that use the labels of only some training images."""
        chosen = super().select(scores, block)
        return chosen[[option(text, "label_share", "") == "" for text in chosen["options"]]]

    def label(self, scores: pd.DataFrame) -> pd.Series:
        """Return the paper's name of the method."""
        rows = [row_name(*line) for line in zip(scores["base"], scores["method"], scores["options"], strict=True)]
        return row_titles(rows, scores, leave_out=("roi", "stagewise"))


def row_name(title: str, method: str, options: str) -> str:
    """Return the paper's name of a method with these options.

    Args:
        title: Row name in our tables.
        method: Registry name.
        options: As returned by `leaderboards.records.describe`.
    """
    if method == "kinet" and option(options, "roi", "true") == "false":
        return "oKiNet"
    if method == "kinet" and option(options, "stagewise", "false") == "true":
        return "sKiNet"
    return title


__all__ = ["BLOCK", "METRICS", "Ki67", "row_name"]
