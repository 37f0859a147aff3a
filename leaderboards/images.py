"""Which images a split has and what is known of them, from the committed split files (no data needed)."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

import pandas as pd

from leaderboards.literature import read_table
from postproc.errors import DataError


def expected_images(dataset: str, split: str) -> int:
    """Return the number of images of a split.

    Args:
        dataset: Registry name.
        split: Split as in `NucleiDataModule.select`: ``all``, a split of the file or the common beginning of
            several, ``validation``, ``fit``, ``group:A,B`` or ``except-group:A,B``.

    Raises:
        DataError: If the dataset has no split file, or the file no such split.
    """
    frame = _splits(dataset)
    kind, _, names = split.partition(":")
    if kind in ("group", "except-group"):
        chosen = frame["group"].isin(names.split(",")) == (kind == "group")
    elif split == "all":
        return len(frame)
    elif split in ("validation", "fit"):
        chosen = (frame["split"] == "train") & ((frame["validation"] == "1") == (split == "validation"))
    else:
        chosen = (frame["split"] == split) | frame["split"].str.startswith(f"{split}_")
    count = int(chosen.sum())
    if not count:
        raise DataError(f"{_path(dataset)} has no image in split {split!r}: {sorted(set(frame['split']))}.")
    return count


def image_facts(dataset: str) -> pd.DataFrame:
    """Return the split file of a dataset, every cell as text: ``image_id``, ``group``, ``split``, further facts.

    Raises:
        DataError: If the dataset has no split file.
    """
    return _splits(dataset).copy()


def _path(dataset: str) -> Path:
    return Path(str(files("datamodules"))) / "splits" / f"{dataset}.csv"


@cache
def _splits(dataset: str) -> pd.DataFrame:
    return read_table(_path(dataset), ("image_id", "group", "split", "validation"), text=True)


__all__ = ["expected_images", "image_facts"]
