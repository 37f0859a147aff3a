"""Table IV of the DIST paper: one method trained on different sets, scored on breast images."""

from __future__ import annotations

import pandas as pd

from leaderboards.base import Block, Comparison
from leaderboards.images import image_facts
from leaderboards.papers.kumar_test import AJI_AND_F1


def breast(split: str) -> pd.DataFrame:
    """Return the breast images of a split of Kumar (``train``, ``test_same``), with their metadata."""
    facts = image_facts("kumar")
    return facts[(facts["split"] == split) & (facts["organ"] == "breast")]


BREAST_ONLY = f"kumar.group:{','.join(sorted(breast('train')['group']))}"
"""The breast images in the training set of Kumar."""

NAMES = {
    frozenset({"kumar.train"}): "DS2",
    frozenset({"kumar.train", "tnbc.all"}): "DS1 and DS2",
    frozenset({BREAST_ONLY, "tnbc.all"}): "breast",
}
"""Training sets -> their name in the paper; DS1 is TNBC, DS2 is Kumar."""

ROWS = {
    ("DIST", "DS2"): "DIST trained on DS2",
    ("DIST", "DS1 and DS2"): "DIST trained on DS1 and DS2",
    ("DIST", "breast"): "DIST trained only on breast",
    ("CNN3", "DS2"): "CNN3",
}
"""(Method, training set) -> row as printed."""


class TrainingSets(Comparison):
    """Training on all organs, on two datasets, and on breast only (Naylor 2018, table IV)."""

    name = "training_sets"
    title = "Training sets"
    caption = (
        "Trained on the training set of Kumar (DS2), on Kumar and TNBC (DS1) together, or on the breast images of "
        "both, and scored on the breast images among the test images of Kumar. F1 counts pixels. Every run that is "
        "scored on the test set of Kumar counts: `nucbench run dist kumar`, `nucbench run dist kumar --also tnbc.all`, "
        f"`nucbench run dist kumar --train-split {BREAST_ONLY.removeprefix('kumar.')} --also tnbc.all`. "
        "Published figures: Naylor 2018 (DIST), table IV."
    )
    published_table = "dist_training_sets"
    blocks = (Block("Kumar breast", (("kumar", "test"), ("kumar", "test_same")), (), AJI_AND_F1),)

    def select(self, scores: pd.DataFrame, block: Block) -> pd.DataFrame:
        """Return the breast images of each run on one of the three training sets, or on none."""
        trained = scores["trained_on"].map(lambda text: not text or _sets(text) in NAMES).astype(bool)
        here = (scores["dataset"] == "kumar") & scores["split"].isin(["test", "test_same"])
        chosen = scores[trained & here & scores["image"].isin(breast("test_same")["image_id"])]
        # A run that is scored on both splits has each image twice: only one of them counts.
        return chosen.sort_values("split").drop_duplicates(["run_id", "variant", "image"]).sort_index()

    def expected(self, block: Block) -> int:
        """Return the number of breast images among the test images."""
        return len(breast("test_same"))

    def label(self, scores: pd.DataFrame) -> pd.Series:
        """Return the method with its training set, in the paper's spelling."""
        rows = [_row(*pair) for pair in zip(scores["title"], scores["trained_on"], strict=True)]
        return pd.Series(rows, index=scores.index, dtype=object)

    def build(self, scores: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
        """Return the comparison; rows are settings, so they keep their printed names."""
        return super().build(scores, published.assign(method=published["spelling"]))


def _sets(trained_on: str) -> frozenset[str]:
    """Return training sets, with groups of patients in a fixed order."""
    found = set()
    for name in trained_on.split("+"):
        kind, colon, groups = name.partition(":")
        found.add(f"{kind}{colon}{','.join(sorted(groups.split(',')))}")
    return frozenset(found)


def _row(title: str, trained_on: str) -> str:
    if not trained_on:
        return title
    name = NAMES.get(_sets(trained_on), trained_on)
    return ROWS.get((title, name), f"{title} trained {'only ' if name == 'breast' else ''}on {name}")
