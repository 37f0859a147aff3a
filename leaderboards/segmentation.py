"""Table III of the HoVer-Net paper: segmentation on Kumar, CoNSeP and CPM-17."""

from __future__ import annotations

from leaderboards.base import SEGMENTATION_METRICS, Block, Comparison


class Segmentation(Comparison):
    """Each method trained and scored on one dataset's own training and test set (Graham 2019, table III)."""

    name = "segmentation"
    title = "Nuclei segmentation"
    caption = (
        "Each method is trained on the training set of a dataset and scored on its test set: `nucbench run METHOD "
        "DATASET` with kumar, consep or cpm17. AJI is AJI, not AJI+. Published figures: Graham 2019 (HoVer-Net), table "
        "III."
    )
    published_table = "segmentation"
    blocks = tuple(
        Block(title, ((dataset, "test"),), (f"{dataset}.train",), SEGMENTATION_METRICS)
        for title, dataset in (("Kumar", "kumar"), ("CoNSeP", "consep"), ("CPM-17", "cpm17"))
    )
