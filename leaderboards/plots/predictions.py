"""Predictions and annotations behind the stored scores, for pictures that show nuclei."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmark.registry import dataset_class
from leaderboards.found import run_folder
from leaderboards.statistics.entries import Entry

if TYPE_CHECKING:
    from postproc.instances import Instances


@dataclass(frozen=True)
class Annotated:
    """An image with its annotation.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        truth: Annotated nuclei, at the same (H, W).
    """

    image: NDArray[np.uint8]
    truth: Instances


def prediction_file(folder: Path, variant: str, image: str) -> Path:
    """Return the file of the nuclei that a run found in an image (``dataset/split/image``)."""
    dataset, _, image_id = image.split("/", 2)
    return folder / "predictions" / dataset / variant / f"{image_id}.npz"


def missing_predictions(runs: Path, entry: Entry) -> str:
    """Return why the nuclei of an entry cannot be shown; empty if they can."""
    folder = run_folder(runs, entry.runs[0])
    for image in entry.values.index:
        file = prediction_file(folder, entry.variant, image)
        if not file.is_file():
            missing = f"has no {file.relative_to(folder)}" if folder.is_dir() else "does not exist"
            return f"{entry.label}: {folder} {missing}"
    return ""


def read_prediction(runs: Path, entry: Entry, image: str) -> Instances:
    """Read the nuclei that the first run of an entry found in an image.

    Raises:
        DataError: If the file is missing or broken.
    """
    from benchmark.results.store import read_instances

    return read_instances(prediction_file(run_folder(runs, entry.runs[0]), entry.variant, image))


def read_annotated(data: Path, images: Iterable[str]) -> dict[str, Annotated]:
    """Read images with their annotations.

    Args:
        data: Folder with one folder per dataset.
        images: Names as ``dataset/split/image``.

    Raises:
        DataError: If a dataset is missing or broken.
    """
    wanted = sorted(images)
    found = {}
    for dataset, split in sorted({tuple(image.split("/", 2)[:2]) for image in wanted}):
        module = dataset_class(dataset)(data / dataset)
        for record in module.select(split):
            name = f"{dataset}/{split}/{record.image_id}"
            if name in wanted:
                sample = module.read(record)
                found[name] = Annotated(sample.image, sample.truth)
    return found
