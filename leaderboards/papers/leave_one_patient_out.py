"""Table 1 of the 2017 paper: each patient of TNBC is scored by training on the others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from leaderboards.base import Block, Comparison, Metric
from leaderboards.images import image_facts

METRICS = (
    Metric("Accuracy", "pixel_accuracy", "accuracy"),
    Metric("IU", "pixel_iu"),
    Metric("Recall", "pixel_recall", "recall"),
    Metric("Precision", "pixel_precision", "precision"),
    Metric("F1", "dice"),
    Metric("Performance", "pixel_performance", "performance"),
)
"""Columns of table 1; all of them count pixels."""


@cache
def patients(*, first_release: bool) -> tuple[str, ...]:
    """Return the patients of TNBC: the 7 of its first release (33 images), or all 11 (50 images)."""
    facts = image_facts("tnbc")
    return tuple(sorted(set(facts.loc[(facts["release"] == "1") | (not first_release), "group"])))


def _block(title: str, chosen: Sequence[str]) -> Block:
    return Block(title, tuple(("tnbc", f"group:{patient}") for patient in chosen), (), METRICS)


class LeaveOnePatientOut(Comparison):
    """Folds by patient; the folds of a seed make one repetition (Naylor 2017, table 1)."""

    name = "leave_one_patient_out"
    title = "Leave one patient out"
    caption = (
        "Each patient of TNBC is predicted by a network trained on the others. A figure is the mean over the images of "
        "a patient, then over patients, then over seeds. All metrics count pixels; IU is the mean over nuclei and "
        "background, performance the mean of true positive and true negative rate. The 33 images are of the 7 patients "
        "of the first release, which the paper used; all 50 images are of 11 patients. `nucbench sweep "
        "leave-one-patient-out.yaml` produces both. To run a single fold: `nucbench run METHOD tnbc --train-split "
        "group:02,03,04,05,06,07 --evaluate tnbc.group:01`, or `nucbench run METHOD tnbc --train-split except-group:01 "
        "--evaluate tnbc.group:01`. Published figures: Naylor 2017, table 1."
    )
    published_table = "leave_one_patient_out"
    repetition = "seed"
    blocks = (
        _block("TNBC (33 images)", patients(first_release=True)),
        _block("TNBC (50 images)", patients(first_release=False)),
    )

    def select(self, scores: pd.DataFrame, block: Block) -> pd.DataFrame:
        """Return the lines of runs trained on every patient of the block except the one they are scored on."""
        chosen = {split.removeprefix("group:") for _, split in block.evaluations}
        here = scores[(scores["dataset"] == "tnbc") & scores["split"].isin([split for _, split in block.evaluations])]
        pairs = list(zip(here["trained_on"], here["split"], strict=True))
        fair = {
            (trained, split): not trained or _patients(trained) == chosen - {split.removeprefix("group:")}
            for trained, split in set(pairs)
        }
        return here[np.array([fair[pair] for pair in pairs], dtype=bool)]

    def summaries(self, scores: pd.DataFrame, repetitions: NDArray[np.int64], count: int) -> list[dict[str, float]]:
        """Return the figures averaged over the images of a patient first."""
        patient, names = pd.factorize(scores["split"], sort=True)
        folds, each = np.unique(repetitions * len(names) + patient, return_inverse=True)
        means = pd.DataFrame(super().summaries(scores, each.astype(np.int64), len(folds)))
        averaged = means.groupby(folds // len(names)).mean()
        return [{str(name): float(value) for name, value in line.items()} for line in averaged.to_dict("records")]


def _patients(trained_on: str) -> set[str]:
    """Return the patients of TNBC in a training set; none if it includes other data."""
    dataset, _, split = trained_on.partition(".")
    kind, _, names = split.partition(":")
    everyone = set(patients(first_release=False))
    named = set(names.split(",")) if names and "+" not in names else set()
    if dataset != "tnbc" or kind not in ("group", "except-group") or not named <= everyone or not named:
        return set()
    return named if kind == "group" else everyone - named
