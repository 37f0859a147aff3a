"""BRCA-M2C: 120 H&E images of breast cancer with nucleus centres and types (Abousamra et al., 2021).

Layout: readme.md of https://github.com/TopoXLab/Dataset-BRCA-M2C.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from datamodules.base import NucleiDataModule
from datamodules.reading.card import DatasetCard, Download
from datamodules.reading.description import text_lines
from datamodules.reading.files import read_rgb, replacing, write_rgb
from datamodules.reading.layout import Pairing, build_sample, choose_rows, find_pairs, make_records, require_found
from datamodules.reading.records import Record
from datamodules.reading.sample import Sample
from datamodules.synthetic.images import generate
from postproc.errors import DataError, short
from postproc.instances import Instances

TYPES = ("lymphocyte", "tumour or epithelial", "stromal")
"""Nucleus types 1 to 3."""
SUFFIX = "_gt_class_coords.txt"
"""End of the name of a file of centres, after that of the image."""

_PAIRING = Pairing("images", "labels", (SUFFIX,))


class BRCAM2C(NucleiDataModule):
    """120 images of about 500 x 500 px at 20x from TCGA: 90 train, 30 test; nucleus centres with types.

    The 10 images that the authors list in brca_ds_val.txt are training images that protocol ``strict`` keeps for
    validation. Coordinates are whole pixels, and the row comes first. The group is the slide, because the training and
    the validation images share two patients (TCGA-A7-A0DB and TCGA-A7-A13G); the test images share none with them.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="brca-m2c",
        title="BRCA-M2C",
        aliases=("BRCA-M2C (MCSpatNet)",),
        summary="120 H&E images of breast cancer at 20x with nucleus centres of three types",
        images={"train": 90, "test": 30},
        nuclei=30_638,
        types=TYPES,
        magnification=20.0,
        mpp=0.5,
        radius=6.0,
        annotation="points",
        citation=(
            "S. Abousamra, D. Belinsky, J. Van Arnam, F. Allard, E. Yee, R. Gupta, T. Kurc, D. Samaras, J. Saltz, "
            "C. Chen. Multi-class cell detection using spatial context representation. ICCV 2021"
        ),
        url="https://github.com/TopoXLab/Dataset-BRCA-M2C",
        licence="BSD 3-Clause",
        layout=(
            "images/TCGA-*.png\n"
            f"labels/TCGA-*{SUFFIX}     a line for each nucleus: row, column, type (1 = lymphocyte, 2 = tumour or\n"
            "                                      epithelial, 3 = stromal)"
        ),
        notes=(
            "The number of nuclei is that of the files: 18,647 of the training, 3,133 of the validation and 8,858 of "
            "the test images.",
            "0.5 microns per pixel follows from the sizes of the images: 1000 px at the scanner's resolution, which is "
            "a quarter of the number at the end of their names.",
            "The authors' script scores within each of 1 to 6 px, with a greedy pairing.",
        ),
        downloads=(
            Download(
                file="Dataset-BRCA-M2C-HEAD.zip",
                url="https://github.com/TopoXLab/Dataset-BRCA-M2C/archive/HEAD.zip",
                source="the authors' repository; GitHub creates the archive on demand and states neither size nor "
                "checksum",
            ),
        ),
        steps=(
            "On https://github.com/TopoXLab/Dataset-BRCA-M2C, choose Code, then Download ZIP.",
            "Put it into {downloads}",
            "Run: nucbench prepare brca-m2c",
        ),
    )

    @classmethod
    def index(cls, root: Path) -> list[Record]:
        """List the images under `root`, see `NucleiDataModule.index`."""
        found = [(pair.stem, pair.image, (pair.annotation,)) for pair in find_pairs(root, (_PAIRING,))]
        return require_found(make_records(found, cls.card, cls.splits()), cls.card, root)

    @classmethod
    def read(cls, record: Record) -> Sample:
        """Read one image with its centres and types, see `NucleiDataModule.read`."""
        image = read_rgb(record.image)
        return build_sample(record, read_centres(record.annotations[0], image.shape[:2]), cls.card, image=image)

    @classmethod
    def write_synthetic(cls, root: Path, *, images: int | None = None, size: int = 256, seed: int = 0) -> None:
        """Write a stand-in, see `NucleiDataModule.write_synthetic`."""
        for number, row in enumerate(choose_rows(cls.splits(), images)):
            image, truth = generate((size, size), np.random.default_rng((seed, number)), density=2.4e-3, scale=0.5)
            write_rgb(Path(root) / "images" / f"{row.image_id}.png", image)
            assert truth.types is not None
            kinds = np.minimum(truth.types, len(TYPES))
            write_centres(
                Path(root) / "labels" / f"{row.image_id}{SUFFIX}",
                Instances(truth.shape, points=truth.centroids(), types=kinds),
            )


def read_centres(path: Path, shape: tuple[int, ...]) -> Instances:
    """Read a file of centres: row, column and type of each nucleus, separated by blanks.

    Args:
        path: The file; it may be empty.
        shape: (H, W) of the image in pixels.

    Returns:
        Points with types 1 to 3.

    Raises:
        DataError: If the file is unreadable, or a line is anything but three whole numbers, a position in the image and
            a type; the message names the line.
    """
    height, width = shape
    rows: list[tuple[int, int, int]] = []
    lines = text_lines(path)
    if lines and not path.read_bytes().endswith(b"\n"):  # a number may be cut
        raise DataError(f"{path}: the last line {short(lines[-1])} does not end; copy or download the file again")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row, column, kind = (int(cell) for cell in line.split())
        except ValueError:
            raise DataError(f"{path}, line {number}: {short(line)}; expected row, column and type") from None
        if not (0 <= row < height and 0 <= column < width):
            raise DataError(
                f"{path}, line {number}: row {row}, column {column} is outside the image of {height} x {width} px"
            )
        if not 1 <= kind <= len(TYPES):
            raise DataError(f"{path}, line {number}: type {kind}; expected 1 to {len(TYPES)}")
        rows.append((row, column, kind))
    table = np.array(rows, np.int64).reshape(-1, 3)
    return Instances((height, width), points=table[:, 1::-1].astype(np.float32), types=table[:, 2])


def write_centres(path: Path, truth: Instances) -> None:
    """Write a file for `read_centres`; positions are rounded to whole pixels."""
    assert truth.types is not None
    height, width = truth.shape
    columns, rows = np.rint(truth.centroids()).astype(int).clip(0, (width - 1, height - 1)).T
    lines = [f"{row} {column} {kind}" for row, column, kind in zip(rows, columns, truth.types, strict=True)]
    with replacing(path) as temporary:
        temporary.write_text("\n".join([*lines, ""]) if lines else "", encoding="utf-8")


__all__ = ["BRCAM2C", "SUFFIX", "TYPES", "read_centres", "write_centres"]
