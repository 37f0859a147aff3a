"""Custom sets of points: images with nucleus centres in CSV files, described by a small dataset.yaml."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from datamodules.ki67 import read_grey
from datamodules.own_images import Found, OwnImages
from datamodules.reading.card import DatasetCard
from datamodules.reading.description import SPLITS, Description
from datamodules.reading.files import read_rgb, write_rgb
from datamodules.reading.layout import build_sample, images_in
from datamodules.reading.points_table import (
    PointsDescription,
    read_points,
    read_points_description,
    write_points,
)
from datamodules.reading.records import Record
from datamodules.reading.sample import Sample
from datamodules.synthetic.images import generate
from postproc.errors import DataError
from postproc.instances import Instances

REGIONS = "_regions.png"
"""Suffix of weak region files."""

REGION_VALUES = {0: 0, 128: 1, 255: 2}
"""Grey level -> not annotated, other tissue, tumour."""

_EXAMPLE = """\
# Description of these images for nucbench; see "A set of points of your own" in docs/how-to/own-images.md.
types: [immunopositive tumour, immunonegative tumour, non-tumour]  # class names in the CSVs; [] for none
radius: 16           # distance in px within which a detection counts as found
magnification: 20    # objective; omit if unknown
mpp: 0.34            # microns per pixel; omit if unknown
"""


class PointsCSV(OwnImages):
    """Any number of images, each with a CSV of nucleus centres (and types), weak regions, or both.

    ``dataset.yaml`` states the types, the radius and, optionally, magnification, microns per pixel and cases;
    `OwnImages` describes it and the splits.

    A CSV has the columns x, y (in pixels; 0 = the first column and row; less than the width and height) and class; for
    other spellings, see `points_table`. A CSV without rows means that there are no nuclei. An image without a CSV has
    no nucleus labels and needs regions (``X_regions.png``, grey: 255 = tumour, 128 = other tissue, 0 = not annotated).

    """

    example = _EXAMPLE
    invented = 6
    card: ClassVar[DatasetCard] = DatasetCard(
        name="points-csv",
        title="Points of your own (CSV)",
        summary="Your own images with nucleus centres and types in CSV files, weak regions, or both.",
        images={},
        nuclei=None,
        magnification=None,
        radius=12.0,
        annotation="points",
        citation="none: your own images",
        url="docs/how-to/own-images.md#a-set-of-points-of-your-own",
        licence="your own",
        layout=(
            "dataset.yaml                       types: [a, b]; radius: 16; magnification: 20; mpp: 0.34\n"
            "{train,val,test}/X.png             (or .tif, .jpg, .bmp)\n"
            "{train,val,test}/X.csv             x,y,class; optional if X_regions.png exists\n"
            "{train,val,test}/X_regions.png     (optional; 255 = tumour, 128 = other tissue, 0 = not annotated)"
        ),
        notes=("Types, radius, magnification and microns per pixel are read from dataset.yaml.",),
    )

    @classmethod
    def describe(cls, path: Path) -> PointsDescription:
        """Read dataset.yaml, see `OwnImages.describe`."""
        return read_points_description(path)

    @classmethod
    def described(cls, about: Description) -> DatasetCard:
        """Return the card with the contents of dataset.yaml."""
        assert isinstance(about, PointsDescription)
        return dataclasses.replace(super().described(about), radius=about.radius)

    @classmethod
    def find(cls, folder: Path) -> Found:
        """List images with their CSV and regions, see `OwnImages.find`."""
        found = Found()
        images = [path for path in images_in(folder) if not path.name.endswith(REGIONS)]
        stems = {path.stem for path in images}
        for ending in (".csv", REGIONS):
            for path in sorted(folder.glob(f"[!.]*{ending}")):
                stem = path.name.removesuffix(ending)
                if stem not in stems and path.name != SPLITS:
                    found.problems.append(f"{path}: no image {stem!r} next to it; add or remove one")
        for image in images:
            regions, table = image.with_name(f"{image.stem}{REGIONS}"), image.with_suffix(".csv")
            paths = tuple(path for path in (regions, table) if path.is_file())
            if paths:
                found.images.append((image, paths))
            else:
                found.problems.append(
                    f"{image}: no annotation; expected {table} (with only the header if there are no nuclei) or "
                    f"{regions}"
                )
        return found

    @classmethod
    def read(cls, record: Record) -> Sample:
        """Read one image with its centres, types and regions, see `NucleiDataModule.read`."""
        image = read_rgb(record.image)
        shape = (image.shape[0], image.shape[1])
        about = cls.describe(record.annotations[-1])
        points = types = regions = None
        for path in record.annotations[:-1]:
            if path.name.endswith(REGIONS):
                regions = read_regions(path, shape)
            else:
                points, types = read_points(path, shape, about.types)
        truth = Instances(shape, points=points, types=types, regions=regions)
        return build_sample(record, truth, cls.described(about), image=image)

    @classmethod
    def write_one(
        cls, folder: Path, stem: str, names: Sequence[str], number: int, rng: np.random.Generator, size: int
    ) -> None:
        """Write an image of a stand-in, see `OwnImages.write_one`; every second image has regions."""
        image, truth = generate((size, size), rng, density=2.4e-3, stain="ihc", scale=0.5)
        assert truth.types is not None
        assert truth.regions is not None
        write_rgb(folder / f"{stem}.png", image)
        write_points(folder / f"{stem}.csv", truth.centroids(), truth.types, names)
        if number % 2 == 0:
            grey = np.zeros(truth.shape, np.uint8)
            for value, region in REGION_VALUES.items():
                grey[truth.regions == region] = value
            write_rgb(folder / f"{stem}{REGIONS}", grey)


def read_regions(path: Path, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Read weak regions, uint8 (H, W): 0 not annotated, 1 other tissue, 2 tumour.

    Args:
        path: Grey image.
        shape: Required (H, W).

    Raises:
        DataError: If it is unreadable, of a different size, coloured, or has other grey levels.
    """
    grey = read_grey(path, shape)
    known = np.isin(grey, list(REGION_VALUES))
    if not known.all():
        y, x = np.argwhere(~known)[0].tolist()
        raise DataError(
            f"{path}: grey level {grey[y, x]} at ({x}, {y}); regions are 255 (tumour), 128 (other tissue) or 0 (not "
            "annotated). Save it as PNG without smoothing."
        )
    regions = np.zeros(shape, np.uint8)
    for value, region in REGION_VALUES.items():
        regions[grey == value] = region
    return regions


__all__ = ["REGIONS", "PointsCSV", "read_regions"]
