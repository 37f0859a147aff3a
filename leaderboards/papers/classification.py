"""Table V of the HoVer-Net paper: detection and classification on CoNSeP and CRCHisto."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from leaderboards.base import Block, Comparison, Metric
from leaderboards.papers.postprocessing import ROWS as POSTPROCESSING
from leaderboards.papers.typed import learns_types, without_classify
from postproc.errors import DataError

SPELLINGS = {
    "epithelial": ("epithelial",),
    "inflammatory": ("inflammatory",),
    "spindle": (
        "spindle",
        "spindle-shaped",
        "fibroblast",
    ),  # CRCHisto's fibroblasts count as CoNSeP's spindle-shaped
    "miscellaneous": ("miscellaneous", "misc", "other", "others"),
}
"""Type -> its names in stored evaluations. Types are matched by name, as datasets number them differently."""

DETECTION = (
    Metric("F_d", "F_d", pooled=True),
    *(Metric(f"F_c^{name[0]}", f"F_c_{name}", f"F_c_{name}", pooled=True) for name in SPELLINGS),
)


class Classification(Comparison):
    """Methods that predict types, trained on CoNSeP (Graham 2019, table V)."""

    name = "classification"
    title = "Detection and classification"
    caption = (
        "Each method is trained with types on the training set of CoNSeP and scored on its test set and on "
        "every image of CRCHisto, which has only nucleus centres and therefore no PQ. F_d: detection; F_c: "
        "classification of the epithelial (e), inflammatory (i), spindle-shaped (s) and miscellaneous (m) nuclei; "
        "counts are pooled over images. `nucbench sweep classification.yaml` produces all rows. Published figures: "
        "Graham 2019 (HoVer-Net), table V."
    )
    published_table = "classification"
    blocks = (
        Block(
            "CoNSeP",
            (("consep", "test"),),
            ("consep.train",),
            (Metric("PQ", "pq"), Metric("PQ pooled", "pq_pooled", pooled=True), *DETECTION),
        ),
        Block("CRCHisto", (("crchisto", "all"),), ("consep.train",), DETECTION),
    )

    def build(self, scores: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
        """Return the table as `Comparison.build` does; learning types does not count as an option here."""
        return super().build(without_classify(scores), published)

    def select(self, scores: pd.DataFrame, block: Block) -> pd.DataFrame:
        """Exclude methods without types, whose PQ is that of another network, and other post-processings."""
        chosen = super().select(scores, block)
        chosen = chosen[~chosen["variant"].isin(set(POSTPROCESSING) - {"hovernet"})]
        return chosen[learns_types(chosen)]

    def summaries(self, scores: pd.DataFrame, repetitions: NDArray[np.int64], count: int) -> list[dict[str, float]]:
        """Add the F_c of each type under its name."""
        found = super().summaries(scores, repetitions, count)
        firsts = scores.iloc[np.unique(repetitions, return_index=True)[1]]
        for summary, (_, first) in zip(found, firsts.iterrows(), strict=True):
            for name, number in _numbers(first).items():
                summary[f"F_c_{name}"] = summary[f"F_c_{number}"]
        return found


def _numbers(line: pd.Series) -> dict[str, int]:
    """Return the number of each type in an evaluation, given one of its lines.

    Raises:
        DataError: If a type has no known name, or more than one.
    """
    types = str(line["types"]).lower().split("|")
    numbers = {}
    for name, spellings in SPELLINGS.items():
        found = [number for number, known in enumerate(types, start=1) if known in spellings]
        if len(found) != 1:
            raise DataError(
                f"run {line['run_id']} on {line['dataset']}: its types are {types}, "
                f"but exactly one of {spellings} is required. Rename the type and evaluate the run again."
            )
        numbers[name] = found[0]
    return numbers


__all__ = ["DETECTION", "SPELLINGS", "Classification"]
