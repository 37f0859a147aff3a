"""Table II of the DIST paper, its last line: AJI and px-wise F1 on the test images of Kumar."""

from __future__ import annotations

from leaderboards.base import Block, Comparison, Metric

AJI_AND_F1 = (Metric("AJI", "aji"), Metric("F1", "dice"))
"""The metrics of the DIST paper; its F1 counts px (section VI-A) and therefore is DICE under another name."""


class KumarTest(Comparison):
    """Each method trained on Kumar and scored on its 14 test images (Naylor 2018, table II)."""

    name = "kumar_test"
    title = "Kumar test images"
    caption = (
        "Each method is trained on the training set of Kumar and scored on its 14 test images: "
        "`nucbench run METHOD kumar`. F1 counts px and therefore equals DICE. Published figures: Naylor 2018 (DIST), "
        "table II; those of Graham 2019 for the same images stand in the table of segmentation."
    )
    published_table = "dist_kumar_test"
    blocks = (Block("Kumar", (("kumar", "test"),), ("kumar.train",), AJI_AND_F1),)
