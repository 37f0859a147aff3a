"""Images of each split and their metadata, from the committed split files (no data needed)."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from benchmark.registry import DATASETS
from datamodules.reading.splits import COLUMNS, SplitRow, belongs, split_file, split_lines
from postproc.errors import DataError


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
        file = split_file(dataset, _places(dataset))
        raise DataError(f"{file} has no image in split {split!r}: {sorted(set(frame['split']))}.")
    return count


def image_facts(dataset: str) -> pd.DataFrame:
    """Return the split file of a dataset, every cell as text: ``image_id``, ``group``, ``split``, further metadata.

    Raises:
        DataError: If the dataset has no split file.
    """
    return _splits(dataset).copy()


def _places(dataset: str) -> list[Path]:
    """Return the folder of a dataset's module, which may be of another package."""
    spec = find_spec(DATASETS[dataset].partition(":")[0]) if dataset in DATASETS else None
    return [Path(spec.origin).parent] if spec and spec.origin else []


@cache
def _splits(dataset: str) -> pd.DataFrame:
    return pd.DataFrame(split_lines(dataset, _places(dataset)), dtype=object)


__all__ = ["expected_images", "image_facts"]
