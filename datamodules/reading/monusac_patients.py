"""Patients of MoNuSAC by organ: "training data organ information" of the challenge.

Read in constantinpape/torch-em (torch_em/data/datasets/histopathology/monusac.py) and, for the test images, in
github.com/adfoucart/monusac-results-code-analysis (result_parser.py), which agree.
"""

from __future__ import annotations

from collections.abc import Mapping

Organs = Mapping[str, tuple[str, ...]]

TRAIN: Organs = {
    "lung": (
        "TCGA-55-1594", "TCGA-69-7760", "TCGA-69-A59K", "TCGA-73-4668", "TCGA-78-7220", "TCGA-86-7713",
        "TCGA-86-8672", "TCGA-L4-A4E5", "TCGA-MP-A4SY", "TCGA-MP-A4T7",
    ),
    "kidney": (
        "TCGA-5P-A9K0", "TCGA-B9-A44B", "TCGA-B9-A8YI", "TCGA-DW-7841", "TCGA-EV-5903", "TCGA-F9-A97G",
        "TCGA-G7-A8LD", "TCGA-MH-A560", "TCGA-P4-AAVK", "TCGA-SX-A7SR", "TCGA-UZ-A9PO", "TCGA-UZ-A9PU",
    ),
    "breast": (
        "TCGA-A2-A0CV", "TCGA-A2-A0ES", "TCGA-B6-A0WZ", "TCGA-BH-A18T", "TCGA-D8-A1X5", "TCGA-E2-A154",
        "TCGA-E9-A22B", "TCGA-E9-A22G", "TCGA-EW-A6SD", "TCGA-S3-AA11",
    ),
    "prostate": (
        "TCGA-EJ-5495", "TCGA-EJ-5505", "TCGA-EJ-5517", "TCGA-G9-6342", "TCGA-G9-6499", "TCGA-J4-A67Q",
        "TCGA-J4-A67T", "TCGA-KK-A59X", "TCGA-KK-A6E0", "TCGA-KK-A7AW", "TCGA-V1-A8WL", "TCGA-V1-A9O9",
        "TCGA-X4-A8KQ", "TCGA-YL-A9WY",
    ),
}  # fmt: skip
"""Organ -> patients of the training images."""

TEST: Organs = {
    "lung": (
        "TCGA-49-6743", "TCGA-50-6591", "TCGA-55-7570", "TCGA-55-7573", "TCGA-73-4662", "TCGA-78-7152",
        "TCGA-MP-A4T7",
    ),
    "kidney": (
        "TCGA-2Z-A9JG", "TCGA-2Z-A9JN", "TCGA-DW-7838", "TCGA-DW-7963", "TCGA-F9-A8NY", "TCGA-IZ-A6M9",
        "TCGA-MH-A55W",
    ),
    "breast": ("TCGA-A2-A04X", "TCGA-A2-A0ES", "TCGA-D8-A3Z6", "TCGA-E2-A108", "TCGA-EW-A6SB"),
    "prostate": (
        "TCGA-G9-6356", "TCGA-G9-6367", "TCGA-VP-A87E", "TCGA-VP-A87H", "TCGA-X4-A8KS", "TCGA-YL-A9WL",
    ),
}  # fmt: skip
"""Organ -> patients of the test images."""

BOTH = frozenset(patient for patients in TRAIN.values() for patient in patients) & frozenset(
    patient for patients in TEST.values() for patient in patients
)
"""Patients that both lists name."""

VALIDATION = frozenset(
    patient for patients in TRAIN.values() for patient in [each for each in patients if each not in BOTH][:2]
)
"""Training patients that protocol ``strict`` keeps: the first two of each organ by name that are not test patients."""


def organ(patient: str) -> str:
    """Return the organ of a patient, empty if neither list names it."""
    return next((name for part in (TRAIN, TEST) for name, patients in part.items() if patient in patients), "")


__all__ = ["BOTH", "TEST", "TRAIN", "VALIDATION", "organ"]
