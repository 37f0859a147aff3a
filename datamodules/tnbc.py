"""TNBC: 50 H&E images of triple-negative breast cancer (Naylor et al., 2017 and 2018)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import numpy as np

from datamodules.base import NucleiDataModule
from datamodules.reading.card import DatasetCard, Download
from datamodules.reading.files import read_instances, write_label_png, write_rgb
from datamodules.reading.layout import build_sample, choose_rows, images_in, make_records, require_found, walk
from datamodules.reading.records import Record
from datamodules.reading.sample import Sample
from datamodules.reading.sense import Sense
from datamodules.synthetic.images import generate
from postproc.errors import DataError

_SLIDE = re.compile(r"slide_(\d+)", re.IGNORECASE)


class TNBC(NucleiDataModule):
    """50 images of 512 x 512 px at 40x of 11 patients, in one split, ``pool``.

    The papers leave one patient out in turn (``group:03`` and ``except-group:03``) or test on all images. An
    annotation may hold one id per nucleus; an annotation with a single value besides 0 is treated as a mask, whose
    connected components are the nuclei (in the release, background separates touching nuclei). With 8-connectivity, as
    here, the release has 4,028 nuclei, like the copy with ids; with 4-connectivity it has the 4,056 of Graham et al.
    (2019, table II).
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="tnbc",
        title="TNBC",
        aliases=("DS1", "BNS"),
        summary="50 H&E images of 11 patients with triple-negative breast cancer with all nuclei outlined",
        images={"pool": 50},
        nuclei=4_022,
        magnification=40.0,
        radius=12.0,
        citation=(
            "P. Naylor, M. Lae, F. Reyal, T. Walter. Segmentation of nuclei in histopathology images by "
            "deep regression of the distance map. IEEE Transactions on Medical Imaging 38(2), 2019"
        ),
        url="https://doi.org/10.5281/zenodo.1175282",
        licence="CC BY 4.0",
        layout="Slide_NN/NN_k.png     GT_NN/NN_k.png",
        notes=(
            "The first release (Naylor et al., 2017) had the 33 images of patients 1 to 7, with 2,754 "
            "nuclei; see the column release of the CSV.",
            "Papers count 4,022 (Naylor) and 4,056 (Graham) nuclei; a copy with ids has 4,028.",
        ),
        downloads=(
            Download(
                file="TNBC_NucleiSegmentation.zip",
                url="https://zenodo.org/records/2579118/files/TNBC_NucleiSegmentation.zip?download=1",
                size=25_232_361,
                checksum="md5:1605712a752b201b57eacc8f866adb4f",
                source="version 1.1 of the Zenodo record; three public readers of the dataset state the same md5",
            ),
        ),
        steps=(
            "Download TNBC_NucleiSegmentation.zip from https://zenodo.org/records/2579118 in a browser.",
            "Put it into {downloads}",
            "Run: nucbench prepare tnbc",
        ),
    )

    @classmethod
    def index(cls, root: Path) -> list[Record]:
        """List the images under `root`, see `NucleiDataModule.index`."""
        found = []
        for folder in walk(root):
            match = _SLIDE.fullmatch(folder.name)
            if match is None:
                continue
            truth = folder.parent / f"GT_{match[1]}"
            for image in images_in(folder):
                annotation = truth / image.name
                if not annotation.is_file():
                    raise DataError(f"{image}: no annotation; expected {annotation}")
                found.append((image.stem, image, (annotation,)))
        return require_found(make_records(found, cls.card, cls.splits()), cls.card, root)

    @classmethod
    def read(cls, record: Record) -> Sample:
        """Read one image with its label map or mask, see `NucleiDataModule.read`."""
        truth = read_instances(record.annotations[0], Sense(components=True))
        return build_sample(record, truth, cls.card)

    @classmethod
    def write_synthetic(cls, root: Path, *, images: int | None = None, size: int = 256, seed: int = 0) -> None:
        """Write a stand-in with ids, see `NucleiDataModule.write_synthetic`."""
        if images is None:
            images = 6  # two images of one split are too few to leave a patient out
        for number, row in enumerate(choose_rows(cls.splits(), images)):
            image, truth = generate((size, size), np.random.default_rng((seed, number)))
            assert truth.labels is not None
            write_rgb(Path(root) / f"Slide_{row.group}" / f"{row.image_id}.png", image)
            write_label_png(Path(root) / f"GT_{row.group}" / f"{row.image_id}.png", truth.labels)
