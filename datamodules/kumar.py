"""Kumar: 30 H&E images of seven organs (Kumar et al., 2017)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from datamodules.base import NucleiDataModule
from datamodules.reading.aperio import read_aperio
from datamodules.reading.card import DatasetCard
from datamodules.reading.files import read_instances, read_rgb, write_mat, write_rgb
from datamodules.reading.layout import (
    Pairing,
    build_sample,
    choose_rows,
    find_pairs,
    make_records,
    require_found,
    without_types,
)
from datamodules.reading.records import Record
from datamodules.reading.sample import Sample
from datamodules.synthetic.images import generate

_LAYOUT = """\
train/Images/TCGA-*.tif      train/Labels/TCGA-*.mat      (test_same and test_diff likewise)
or, as first released:
Tissue Images/TCGA-*.tif     Annotations/TCGA-*.xml"""

_PAIRINGS = (
    Pairing("images", "labels", (".mat", ".npy", ".png")),
    Pairing("tissue images", "annotations", (".xml",)),
    Pairing("", "", (".xml",)),
)


class Kumar(NucleiDataModule):
    """30 images of 1000 x 1000 px at 40x from TCGA, one per patient: 16 train, 8 test_same, 6 test_diff.

    The images of training and ``test_same`` show breast, kidney, liver and prostate, those of ``test_diff``
    bladder, colon and stomach. The committed CSV defines the split (that of Kumar et al., 2017), regardless of
    folder names. Protocol ``strict`` keeps one training image of each organ for validation, like Naylor et al.
    (2018, section VI-C). They do not publish which ones, so it is the first of each organ by name.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="kumar",
        title="Kumar",
        aliases=("Kumar et al.", "DS2", "TCGA Kumar"),
        summary="30 H&E images of seven organs from TCGA with all nuclei outlined",
        images={"train": 16, "test_same": 8, "test_diff": 6},
        nuclei=16_958,
        magnification=40.0,
        radius=12.0,
        citation=(
            "N. Kumar, R. Verma, S. Sharma, S. Bhargava, A. Vahadane, A. Sethi. A dataset and a technique "
            "for generalized nuclear segmentation for computational pathology. IEEE Transactions on "
            "Medical Imaging 36(7), 2017"
        ),
        url="https://monuseg.grand-challenge.org/Data/",
        licence="CC BY-NC-SA 4.0",
        layout=_LAYOUT,
        notes=(
            "Several versions are in circulation: the label maps (.mat) have 16,958 nuclei, the paper counts 21,623.",
            "The 30 images are the training images of MoNuSeg: never test on MoNuSeg-train what was trained on Kumar.",
            "HoVer-Net's repository lists another 16 / 8 division of the four training organs; it is the "
            "column hovernet_split of the CSV.",
            "The organ names are those of the release; by TCGA code, some 'liver' patients have lung tumours.",
        ),
        steps=(
            "Open https://drive.google.com/drive/folders/1l55cv3DuY-f7-JotDN7N5nbNnjbLWchK, which the README of "
            "https://github.com/vqdang/hover_net links to.",
            "Download kumar.zip, or the folder kumar, which the browser downloads as one or more zips.",
            "Put all of it into {downloads}",
            "Run: nucbench prepare kumar",
        ),
    )

    @classmethod
    def index(cls, root: Path) -> list[Record]:
        """List the images under `root`, see `NucleiDataModule.index`."""
        found = [(pair.stem, pair.image, (pair.annotation,)) for pair in find_pairs(root, _PAIRINGS)]
        return require_found(make_records(found, cls.card, cls.splits()), cls.card, root)

    @classmethod
    def read(cls, record: Record) -> Sample:
        """Read one image with its label map, see `NucleiDataModule.read`."""
        (annotation,) = record.annotations
        image = read_rgb(record.image)
        if annotation.suffix.lower() == ".xml":
            truth, mpp = read_aperio(annotation, (image.shape[0], image.shape[1]))
        else:
            truth, mpp = read_instances(annotation), None
        return build_sample(record, truth, cls.card, image=image, mpp=mpp)

    @classmethod
    def write_synthetic(cls, root: Path, *, images: int | None = None, size: int = 256, seed: int = 0) -> None:
        """Write a stand-in in the layout of label maps, see `NucleiDataModule.write_synthetic`."""
        for number, row in enumerate(choose_rows(cls.splits(), images)):
            image, truth = generate((size, size), np.random.default_rng((seed, number)))
            folder = Path(root) / row.split
            write_rgb(folder / "Images" / f"{row.image_id}.tif", image)
            write_mat(folder / "Labels" / f"{row.image_id}.mat", without_types(truth))
