"""Table II of the DIST paper, last line: AJI and pixel-wise F1 on the test images of Kumar."""

from __future__ import annotations

from leaderboards.base import Block, Comparison, Metric

AJI_AND_F1 = (Metric("AJI", "aji"), Metric("F1", "dice"))
"""The metrics of the DIST paper; its F1 counts pixels (section VI-A) and therefore equals DICE."""


class KumarTest(Comparison):
    """Each method trained on Kumar and scored on its 14 test images (Naylor 2018, table II)."""

    name = "kumar_test"
    title = "Kumar test images"
    caption = (
        "Each method is trained on the training set of Kumar and scored on its 14 test images: "
        "`nucbench run METHOD kumar`. F1 counts pixels and equals DICE. Published figures: Naylor 2018 (DIST), "
        "table II; those of Graham 2019 for the same images are in the segmentation table."
    )
    published_table = "dist_kumar_test"
    blocks = (Block("Kumar", (("kumar", "test"),), ("kumar.train",), AJI_AND_F1),)
