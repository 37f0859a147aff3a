"""MoNuSeg: the challenge of 2018, 44 H&E images of nine organs (Kumar et al., 2020)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from datamodules.base import NucleiDataModule
from datamodules.reading.aperio import read_aperio, write_aperio
from datamodules.reading.card import DatasetCard, Download
from datamodules.reading.files import read_rgb, write_rgb
from datamodules.reading.layout import Pairing, build_sample, choose_rows, find_pairs, make_records, require_found
from datamodules.reading.records import Record
from datamodules.reading.sample import Sample
from datamodules.synthetic.images import generate

_DRIVE = "https://drive.usercontent.google.com/download?id={}&export=download&confirm=t"
_SOURCE = "the files that the challenge's page links to; sha256 from torch-em (constantinpape/torch-em)"

_TRAIN = "MoNuSeg 2018 Training Data"
_TEST = "MoNuSegTestData"

_LAYOUT = f"""\
{_TRAIN}/Tissue Images/TCGA-*.tif     {_TRAIN}/Annotations/TCGA-*.xml
{_TEST}/TCGA-*.tif                    {_TEST}/TCGA-*.xml
(in both folders, images may be next to their annotations or in Tissue Images and Annotations)"""

_PAIRINGS = (Pairing("tissue images", "annotations", (".xml",)), Pairing("", "", (".xml",)))


class MoNuSeg(NucleiDataModule):
    """44 images of 1000 x 1000 px at 40x from TCGA, one per patient: 30 train, 14 test.

    Annotations are polygons of Aperio ImageScope; `datamodules.reading.aperio.rasterise` converts them to pixels.
    Protocol ``strict`` keeps for validation the 11 training images on which the self-supervised method is validated
    (Sahasrabudhe et al., 2020, section 4.1), as named in its authors' public code.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="monuseg",
        title="MoNuSeg",
        aliases=("MoNuSeg 2018", "MoNuSeg18"),
        summary="44 H&E images of nine organs from TCGA with nuclei outlined as polygons",
        images={"train": 30, "test": 14, "extra": 7},
        nuclei=28_846,
        magnification=40.0,
        radius=12.0,
        citation=(
            "N. Kumar, R. Verma, D. Anand, Y. Zhou, O. F. Onder, E. Tsougenis, et al. A multi-organ "
            "nucleus segmentation challenge. IEEE Transactions on Medical Imaging 39(5), 2020"
        ),
        url="https://monuseg.grand-challenge.org/Data/",
        licence="CC BY-NC-SA 4.0",
        layout=_LAYOUT,
        notes=(
            "28,846 nuclei: 21,623 of the 30 training and 7,223 of the 14 test images, as published. The 14 "
            "public test XMLs have 6,697 regions, all of which are nuclei of the label maps.",
            "The training images are those of Kumar; never train on one of the two sets and test on the other.",
            "Later downloads have seven more training images without a published count; they are the split 'extra'.",
            "Microns per pixel are read from each annotation; some annotations lack them.",
        ),
        downloads=(
            Download(
                file="MoNuSeg_2018_Training_Data.zip",
                url=_DRIVE.format("1ZgqFJomqQGNnsx7w7QBzQQMVA16lbVCA"),
                checksum="sha256:25d3d3185bb2970b397cafa72eb664c9b4d24294aee382e7e3df9885affce742",
                source=_SOURCE,
            ),
            Download(
                file="MoNuSegTestData.zip",
                url=_DRIVE.format("1NKkSQ5T0ZNQ8aUhh0a8Dt2YKYCQXIViw"),
                checksum="sha256:13e522387ae8b1bcc0530e13ff9c7b4d91ec74959ef6f6e57747368d7ee6f88a",
                source=_SOURCE,
            ),
        ),
        steps=(
            "On https://monuseg.grand-challenge.org/Data/, follow the links to the training and the test data.",
            "Put both zips into {downloads}",
            "Run: nucbench prepare monuseg",
        ),
    )

    @classmethod
    def index(cls, root: Path) -> list[Record]:
        """List the images under `root`, see `NucleiDataModule.index`."""
        found = [(pair.stem, pair.image, (pair.annotation,)) for pair in find_pairs(root, _PAIRINGS)]
        return require_found(make_records(found, cls.card, cls.splits()), cls.card, root)

    @classmethod
    def read(cls, record: Record) -> Sample:
        """Read one image with its polygons, see `NucleiDataModule.read`."""
        image = read_rgb(record.image)
        truth, mpp = read_aperio(record.annotations[0], (image.shape[0], image.shape[1]))
        return build_sample(record, truth, cls.card, image=image, mpp=mpp)

    @classmethod
    def write_synthetic(cls, root: Path, *, images: int | None = None, size: int = 256, seed: int = 0) -> None:
        """Write a stand-in in the challenge's layout, see `NucleiDataModule.write_synthetic`."""
        for number, row in enumerate(choose_rows(cls.splits(), images)):
            image, truth = generate((size, size), np.random.default_rng((seed, number)))
            assert truth.labels is not None
            tissue, annotations = Path(root) / _TEST, Path(root) / _TEST
            if row.split != "test":
                tissue, annotations = (
                    Path(root) / _TRAIN / "Tissue Images",
                    Path(root) / _TRAIN / "Annotations",
                )
            write_rgb(tissue / f"{row.image_id}.tif", image)
            # some real annotations lack the resolution, so every second one does here
            write_aperio(annotations / f"{row.image_id}.xml", truth.labels, 0.25 if number % 2 == 0 else None)
