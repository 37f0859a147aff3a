"""Check which images of a dataset are present, without reading them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datamodules.base import SYNTHETIC_MARKER, NucleiDataModule
from datamodules.reading.card import DatasetCard
from postproc.errors import DataError

DOWNLOADS = "downloads"
"""Folder of archives in the folder of a dataset."""
OPTIONAL = ("extra",)
"""Splits of later releases; a dataset without them is complete."""


@dataclass(frozen=True)
class Presence:
    """Content of the folder of a dataset.

    Attributes:
        state: ``found`` = at least as many images as the card states (or any, if it states none).
        images: Images per split.
        problem: Why the folder cannot be read; empty if it can.
        synthetic: Whether the images are a synthetic stand-in.
    """

    state: Literal["found", "incomplete", "not found"]
    images: Counter[str]
    problem: str = ""
    synthetic: bool = False

    def text(self, card: DatasetCard) -> str:
        """Return a short text for lists: ``incomplete: 3 of 30 train, 0 of 14 test``."""
        if self.problem:
            return f"{self.state}: cannot be read"
        kind = "synthetic" if self.synthetic else self.state
        if self.state == "not found" or not card.images or (self.state == "found" and not self.synthetic):
            return kind
        counts = ", ".join(f"{self.images[split]} of {n} {split}" for split, n in required(card).items())
        return f"{kind}: {counts}"


def required(card: DatasetCard) -> dict[str, int]:
    """Return the number of images per split of a complete dataset."""
    return {split: count for split, count in card.images.items() if split not in OPTIONAL}


def presence(kind: type[NucleiDataModule], folder: Path) -> Presence:
    """Compare the files in the folder of a dataset with the card.

    Args:
        kind: The dataset.
        folder: Its folder.
    """
    if not is_there(folder):
        return Presence("not found", Counter())
    synthetic = (folder / SYNTHETIC_MARKER).exists()
    try:
        found = Counter(record.split for record in kind(folder).records)
    except DataError as error:
        return Presence("incomplete", Counter(), str(error), synthetic)
    complete = all(found[split] >= count for split, count in required(kind.card).items())
    return Presence("found" if complete else "incomplete", found, "", synthetic)


def is_there(folder: Path) -> bool:
    """Tell whether the folder of a dataset contains anything except downloads and hidden files."""
    if not folder.is_dir():
        return False
    return any(path.name != DOWNLOADS and not path.name.startswith(".") for path in folder.iterdir())


__all__ = ["DOWNLOADS", "Presence", "is_there", "presence", "required"]
