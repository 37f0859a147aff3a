"""Summary of each image: number of nuclei in total and per type, and the Ki67 labelling index."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark.host.files import atomic
from datamodules.reading.ki67_types import TYPES as KI67_TYPES
from postproc.cells import shown

SUMMARY = "summary.csv"
"""File with the summary, in the folder of the results."""

POSITIVE, NEGATIVE = KI67_TYPES[:2]


@dataclass(frozen=True)
class ImageSummary:
    """Summary of one image.

    Attributes:
        image: File name.
        nuclei: Number of nuclei.
        types: Name of each type -> number of its nuclei; empty if the model has no types.
    """

    image: str
    nuclei: int
    types: Mapping[str, int]

    @classmethod
    def of(cls, image: str, nuclei: int, kinds: NDArray[np.int64] | None, names: Sequence[str]) -> ImageSummary:
        """Count the nuclei of each type.

        Args:
            image: File name.
            nuclei: Number of nuclei.
            kinds: (N,), type 1..T of each nucleus, 0 = none; None if the method predicts no types.
            names: Names of the types 1..T.
        """
        if kinds is None:
            return cls(image, nuclei, {})
        sums = np.bincount(kinds, minlength=len(names) + 1)[1:].tolist()
        return cls(image, nuclei, dict(zip(names, sums, strict=True)))

    def line(self) -> str:
        """Return a line to print."""
        text = f"{self.image}: {self.nuclei} nuclei"
        tumour = tumour_nuclei(self.types)
        if tumour is None:
            return text
        positive, every = tumour
        if not every:
            return f"{text}; Ki67 labelling index undefined: no tumour nuclei"
        return f"{text}; Ki67 labelling index {100 * positive / every:.1f} % ({positive} of {every} tumour nuclei)"


def tumour_nuclei(types: Mapping[str, int]) -> tuple[int, int] | None:
    """Return the number of immunopositive and of all tumour nuclei; None if the types are not those of Ki67.

    Their ratio is the labelling index (Xing et al. 2019, section I). The case of type names is ignored, and British
    and American spelling are both recognised.
    """
    counts = {name.casefold().replace("tumor", "tumour"): count for name, count in types.items()}
    if POSITIVE not in counts or NEGATIVE not in counts:
        return None
    return counts[POSITIVE], counts[POSITIVE] + counts[NEGATIVE]


def write_summary(path: Path, images: Sequence[ImageSummary]) -> None:
    """Write a CSV with a row per image, atomically.

    Columns ``image``, ``nuclei``, one per type, and for the types of Ki67 ``ki67_index`` in %, which is empty if there
    are no tumour nuclei.

    Args:
        path: File to write.
        images: At least one. If their models have different types, the columns of types that a model does not have
            are empty.
    """
    names = list(dict.fromkeys(name for each in images for name in each.types))
    graded = any(tumour_nuclei(each.types) is not None for each in images)
    with atomic(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "nuclei", *map(shown, names), *["ki67_index"] * graded])
        for each in images:
            # an image decoded by region without any nuclei has no types recorded
            unknown = "" if each.types or each.nuclei else 0
            row: list[object] = [shown(each.image), each.nuclei, *(each.types.get(name, unknown) for name in names)]
            positive, every = tumour_nuclei(each.types) or (0, 0)
            if graded:
                row.append(f"{100 * positive / every:.2f}" if every else "")
            writer.writerow(row)


__all__ = ["SUMMARY", "ImageSummary", "tumour_nuclei", "write_summary"]
