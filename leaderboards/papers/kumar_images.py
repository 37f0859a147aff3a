"""Table II of the DIST paper, image by image: AJI and pixel-wise F1 of Kumar's 14 test images."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from leaderboards.base import Block, Comparison
from leaderboards.images import image_facts
from leaderboards.literature import PER_IMAGE
from leaderboards.papers.kumar_test import AJI_AND_F1
from leaderboards.render import grid_markdown

_PRINTED = {"colon": "Colorectal"}
"""Organ in the split file -> its name in the paper, if different."""


@dataclass(frozen=True)
class Part:
    """Some of the test images.

    Attributes:
        title: Name in the table.
        images: Image ids.
    """

    title: str
    images: tuple[str, ...]


def parts() -> tuple[Part, ...]:
    """Return each test image, the groups of organs outside and inside the training set, and all images."""
    facts = image_facts("kumar")
    tests = facts[facts["split"].str.startswith("test_")]
    each, together = [], []
    for split, title in (("test_diff", "Different organs"), ("test_same", "Same organs")):
        chosen = tests[tests["split"] == split].sort_values(["organ", "image_id"])
        together.append(Part(title, tuple(chosen["image_id"])))
        number = chosen.groupby("organ").cumcount() + 1
        for organ, k, image in zip(chosen["organ"], number, chosen["image_id"], strict=True):
            each.append(Part(f"{_PRINTED.get(organ, organ.capitalize())} {k}", (image,)))
    return (*each, *together, Part("Kumar", tuple(tests["image_id"])))


class KumarImages(Comparison):
    """AJI and F1 of each test image of Kumar (Naylor 2018, table II)."""

    name = "kumar_images"
    title = "Kumar, image by image"
    caption = (
        "AJI and pixel-wise F1 (= DICE) of each test image of Kumar, then their means over the organs that are not in "
        "the training set, over those that are, and over all images. Every run that is trained on the training set of "
        "Kumar and scored on its test set counts: `nucbench run METHOD kumar`. Published figures: Naylor 2018 (DIST), "
        "table II. The paper numbers the two images of an organ without naming them. Here they are numbered in the "
        "order of their names, so a published figure may belong to the other image of the organ."
    )
    published_table = PER_IMAGE
    parts = parts()
    blocks = tuple(Block(part.title, (("kumar", "test"),), ("kumar.train",), AJI_AND_F1) for part in parts)

    def select(self, scores: pd.DataFrame, block: Block) -> pd.DataFrame:
        """Return the lines of the images of a block."""
        chosen = super().select(scores, block)
        return chosen[chosen["image"].isin(self._part(block).images)]

    def expected(self, block: Block) -> int:
        """Return the number of images of a block."""
        return len(self._part(block).images)

    def build(self, scores: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
        """Return the comparison; published figures of groups are means over their images."""
        return super().build(scores, pd.concat([published, self._published_means(published)], ignore_index=True))

    def markdown(self, frame: pd.DataFrame) -> str:
        """Return a table per protocol and metric, with a line per method and source and a column per image."""
        columns = [block.title for block in self.blocks]
        return grid_markdown(self.title, self.caption, [metric.name for metric in AJI_AND_F1], columns, frame)

    def _part(self, block: Block) -> Part:
        return next(part for part in self.parts if part.title == block.title)

    def _published_means(self, published: pd.DataFrame) -> pd.DataFrame:
        """Return mean published figures of organs inside and outside the training set, which the paper lacks."""
        facts = published[published["table"] == self.published_table]
        title_of = {part.images[0]: part.title for part in self.parts if len(part.images) == 1}
        found = []
        for part in self.parts:
            if part.title in set(facts["dataset"]):
                continue
            chosen = facts[facts["dataset"].isin([title_of[image] for image in part.images])]
            means = chosen.groupby(["table", "method", "metric"], sort=False)["value"].mean().reset_index()
            found.append(means.assign(dataset=part.title, source="mean over images of Naylor 2018 Table II"))
        return pd.concat(found) if found else facts.iloc[:0]
