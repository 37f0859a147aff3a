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
        image: The image file; with an `index`, a stack of images.
        annotations: The annotation files, in the order expected by `read`.
        group: Patient, or its substitute.
        split: Split of the committed CSV, for example ``train`` or ``test_same``.
        validation: True for the training images that protocol ``strict`` keeps for validation.
        index: Position of the image in stacks of images and annotations (.npy); None = files of one image.
    """

    image_id: str
    image: Path
    annotations: tuple[Path, ...]
    group: str
    split: str
    validation: bool = False
    index: int | None = None

    @property
    def place(self) -> Path | str:
        """File of the image, or file and position in it: images of the same place are the same image."""
        return self.image if self.index is None else f"{self.image}[{self.index}]"


def check_groups(records: list[Record], dataset: str) -> None:
    """Raise a DataError if a group is in two splits or in both training and validation."""
    for problem in group_conflicts(records, dataset):
        raise DataError(problem)


def group_conflicts(records: list[Record], dataset: str) -> list[str]:
    """Return a message for each group that is in two splits, or in both training and validation."""
    first: dict[str, Record] = {}
    found: dict[str, str] = {}
    for record in records:
        other = first.setdefault(record.group, record)
        if _place(other) != _place(record):
            found.setdefault(
                record.group,
                f"{dataset}: group {record.group!r} of image {record.image_id!r} is in two splits, {_place(record)} "
                f"and, with image {other.image_id!r}, {_place(other)}; all images of a patient belong to one split",
            )
    return list(found.values())


def _place(record: Record) -> str:
    return "validation" if record.validation else record.split.partition("_")[0]
