"""CPM-17: the digital pathology segmentation challenge of MICCAI 2017 (Vu et al., 2019)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from datamodules.base import NucleiDataModule
from datamodules.cpm15 import PAIRINGS, read_cpm_labels
from datamodules.reading.card import DatasetCard
from datamodules.reading.files import write_mat, write_rgb
from datamodules.reading.layout import (
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


class CPM17(NucleiDataModule):
    """64 images of 500 x 500 to 600 x 600 px, 32 train and 32 test, of four tumour types.

    Training and test images have the same file names, so ids include the split: ``train_image_00``. Protocol
    ``strict`` keeps every fourth training image for validation.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="cpm17",
        title="CPM-17",
        aliases=("CPM17", "MICCAI 2017"),
        summary="64 H&E images of brain, head and neck, and lung tumours from TCGA with all nuclei outlined",
        images={"train": 32, "test": 32},
        nuclei=7_570,
        magnification=None,
        radius=12.0,
        citation=(
            "Q. D. Vu, S. Graham, T. Kurc, M. N. N. To, M. Shaban, T. Qaiser, et al. Methods for "
            "segmentation and classification of digital microscopy tissue images. Frontiers in "
            "Bioengineering and Biotechnology 7, 2019"
        ),
        url="https://github.com/vqdang/hover_net",
        licence="no licence stated; slides from TCGA",
        layout=(
            "train/Images/image_NN.png     train/Labels/image_NN.mat     (test likewise; NN = 00 to 31)\n"
            'or train/image_NN.png         train/image_NN_mask.txt    ("width height", then one id per pixel)'
        ),
        notes=(
            "Some images were scanned at 20x, some at 40x; which ones were is not published.",
            "Table II of Graham et al. (2019) counts 7,570 nuclei, in what it lists as 32 images.",
            "The patients are not published, so the group is the image.",
        ),
        steps=(
            "Open https://drive.google.com/drive/folders/1l55cv3DuY-f7-JotDN7N5nbNnjbLWchK, which the README of "
            "https://github.com/vqdang/hover_net links to.",
            "Download cpm17.zip, or the folder cpm17, which the browser downloads as one or more zips.",
            "Put all of it into {downloads}",
            "Run: nucbench prepare cpm17",
        ),
    )

    @classmethod
    def index(cls, root: Path) -> list[Record]:
        """List the images under `root`, see `NucleiDataModule.index`."""
        pairs = find_pairs(root, PAIRINGS)
        found = [(f"{pair.part}_{pair.stem}", pair.image, (pair.annotation,)) for pair in pairs]
        return require_found(make_records(found, cls.card, cls.splits()), cls.card, root)

    @classmethod
    def read(cls, record: Record) -> Sample:
        """Read one image with its label map, see `NucleiDataModule.read`."""
        return build_sample(record, read_cpm_labels(record.annotations[0]), cls.card)

    @classmethod
    def write_synthetic(cls, root: Path, *, images: int | None = None, size: int = 256, seed: int = 0) -> None:
        """Write a stand-in in the layout of label maps, see `NucleiDataModule.write_synthetic`."""
        for number, row in enumerate(choose_rows(cls.splits(), images)):
            image, truth = generate((size, size), np.random.default_rng((seed, number)))
            stem = row.image_id.removeprefix(f"{row.split}_")
            write_rgb(Path(root) / row.split / "Images" / f"{stem}.png", image)
            write_mat(Path(root) / row.split / "Labels" / f"{stem}.mat", without_types(truth))
