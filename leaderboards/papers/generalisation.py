"""Table IV of the HoVer-Net paper: trained on Kumar, scored on three unseen datasets."""

from __future__ import annotations

from leaderboards.base import SEGMENTATION_METRICS, Block, Comparison

_TRAINED_ON = ("kumar.train",)


class Generalisation(Comparison):
    """One training on Kumar, scored on all images of other datasets (Graham 2019, table IV)."""

    name = "generalisation"
    title = "Generalisation to unseen data"
    caption = (
        "Each method is trained on the training set of Kumar and scored on every image of other datasets: `nucbench "
        "run METHOD kumar --evaluate cpm15.all cpm17.all tnbc.all consep.all`. Combined CPM is CPM-15 and CPM-17 "
        "together. Published figures: Graham 2019 (HoVer-Net), table IV."
    )
    published_table = "generalisation"
    blocks = (
        Block("Combined CPM", (("cpm15", "all"), ("cpm17", "all")), _TRAINED_ON, SEGMENTATION_METRICS),
        Block("TNBC", (("tnbc", "all"),), _TRAINED_ON, SEGMENTATION_METRICS),
        Block("All CoNSeP", (("consep", "all"),), _TRAINED_ON, SEGMENTATION_METRICS),
    )
