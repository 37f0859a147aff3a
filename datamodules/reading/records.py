"""`Record`: the files of one image of a dataset and its annotation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from postproc.errors import DataError


@dataclass(frozen=True)
class Record:
    """Files of one image and its annotation, before anything is read.

    Attributes:
        image_id: Unique in the dataset.
        image: The image file.
        annotations: The annotation files, in the order expected by `read`.
        group: Patient, or its substitute.
        split: Split of the committed CSV, for example ``train`` or ``test_same``.
        validation: True for the training images that protocol ``strict`` keeps for validation.
    """

    image_id: str
    image: Path
    annotations: tuple[Path, ...]
    group: str
    split: str
    validation: bool = False


def check_groups(records: list[Record], dataset: str) -> None:
    """Raise a DataError if a group is in two splits or in both training and validation."""
    seen: dict[str, tuple[str, bool]] = {}
    for record in records:
        place = (record.split.partition("_")[0], record.validation)
        if seen.setdefault(record.group, place) != place:
            raise DataError(f"{dataset}: group {record.group!r} of image {record.image_id!r} is in two splits")
