"""Images of each split and their metadata, from the committed split files (no data needed)."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

import pandas as pd

from datamodules.reading.splits import SplitRow, belongs, split_lines
from postproc.errors import DataError

COLUMNS = ("image_id", "group", "split", "validation")


@cache
def expected_images(dataset: str, split: str) -> int:
    """Return the number of images of a split.

    Args:
        dataset: Registry name.
        split: As for `datamodules.reading.splits.belongs`.

    Raises:
        DataError: If the dataset has no split file, or the file has no such split.
    """
    frame = _splits(dataset)
    rows = [
        SplitRow(image, group, own, validation == "1")
        for image, group, own, validation in frame[list(COLUMNS)].itertuples(index=False)
    ]
    count = sum(belongs(row, split) for row in rows)
    if not count:
        raise DataError(f"{_path(dataset)} has no image in split {split!r}: {sorted(set(frame['split']))}.")
    return count


def image_facts(dataset: str) -> pd.DataFrame:
    """Return the split file of a dataset, every cell as text: ``image_id``, ``group``, ``split``, further metadata.

    Raises:
        DataError: If the dataset has no split file.
    """
    return _splits(dataset).copy()


def _path(dataset: str) -> Path:
    return Path(str(files("datamodules"))) / "splits" / f"{dataset}.csv"


@cache
def _splits(dataset: str) -> pd.DataFrame:
    if not _path(dataset).is_file():
        raise DataError(f"{_path(dataset)} is missing. Restore it from the repository.")
    return pd.DataFrame(split_lines(dataset), dtype=object)


__all__ = ["expected_images", "image_facts"]
