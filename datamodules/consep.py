"""CoNSeP: 41 H&E images of colorectal cancer with nucleus types (Graham et al., 2019)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from datamodules.base import NucleiDataModule
from datamodules.reading.card import DatasetCard
from datamodules.reading.files import read_mat, write_mat, write_rgb
from datamodules.reading.layout import Pairing, build_sample, choose_rows, find_pairs, make_records, require_found
from datamodules.reading.matlab import instances_of_arrays
from datamodules.reading.records import Record
from datamodules.reading.sample import Sample
from datamodules.synthetic.images import generate
from postproc.errors import DataError
from postproc.instances import Instances

TYPES = ("miscellaneous", "inflammatory", "epithelial", "spindle-shaped")
"""Nucleus types 1 to 4 in the grouping of the paper."""

_PAIRINGS = (Pairing("images", "labels", (".mat",)),)

_MERGED: NDArray[np.int64] = np.array([0, 1, 2, 3, 3, 4, 4, 4])
# release: 1 other, 2 inflammatory, 3 healthy, 4 malignant epithelial, 5 fibroblast, 6 muscle, 7 endothelial


class CoNSeP(NucleiDataModule):
    """41 images of 1000 x 1000 px at 40x: 27 train, 14 test.

    The public release has seven types, which the paper groups into four (section V-A): 3 and 4 are
    epithelial, 5 to 7 spindle-shaped. Another copy in circulation already has the four types. A single image may lack
    the types that distinguish the two, so the arrays of the file decide: the copy has ``inst_id``, the release does
    not. A file with ``inst_id`` and a type above 4 nevertheless has seven types.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="consep",
        title="CoNSeP",
        summary="41 H&E images of colorectal adenocarcinoma with nuclei outlined and typed",
        images={"train": 27, "test": 14},
        nuclei=24_319,
        types=TYPES,
        magnification=40.0,
        radius=12.0,
        citation=(
            "S. Graham, Q. D. Vu, S. E. A. Raza, A. Azam, Y. W. Tsang, J. T. Kwak, N. Rajpoot. HoVer-Net: "
            "simultaneous segmentation and classification of nuclei in multi-tissue histology images. "
            "Medical Image Analysis 58, 2019"
        ),
        url="https://warwick.ac.uk/fac/cross_fac/tia/data/hovernet/",
        licence="no licence stated; citation of the paper required",
        layout=(
            "Train/Images/train_N.png     Train/Labels/train_N.mat\nTest/Images/test_N.png       Test/Labels/test_N.mat"
        ),
        notes=(
            "The images come from 16 patients, but the patient of each image is not published. The group is the "
            "image, so images of one patient may be on both sides of the validation split.",
            "Protocol strict keeps every fifth training image for validation.",
            "A copy with four types and inst_id has 24,332 nuclei; its images have been JPEG-compressed once.",
        ),
        steps=(
            "Sign in at https://warwick.ac.uk/TIA/data/hovernet/ (an account is required since 2023; the TIA Centre "
            "decides who gets one), or use the copy https://opendatalab.com/OpenDataLab/CoNSeP that MONAI's tutorial "
            "names.",
            "Download consep_dataset.zip and put it into {downloads}",
            "Run: nucbench prepare consep",
        ),
    )

    @classmethod
    def index(cls, root: Path) -> list[Record]:
        """List the images under `root`, see `NucleiDataModule.index`."""
        found = [(pair.stem, pair.image, (pair.annotation,)) for pair in find_pairs(root, _PAIRINGS)]
        return require_found(make_records(found, cls.card, cls.splits()), cls.card, root)

    @classmethod
    def read(cls, record: Record) -> Sample:
        """Read one image with its label map and types, see `NucleiDataModule.read`."""
        path = record.annotations[0]
        arrays = read_mat(path)
        truth = instances_of_arrays(path, arrays)
        if truth.types is None:
            raise DataError(f"{path}: neither inst_type nor type_map; download the labels again from {cls.card.url}")
        return build_sample(record, merge_types(truth, path, released="inst_id" not in arrays), cls.card)

    @classmethod
    def write_synthetic(cls, root: Path, *, images: int | None = None, size: int = 256, seed: int = 0) -> None:
        """Write a stand-in with four types, see `NucleiDataModule.write_synthetic`."""
        for number, row in enumerate(choose_rows(cls.splits(), images)):
            image, truth = generate((size, size), np.random.default_rng((seed, number)))
            folder = Path(root) / row.split.capitalize()
            write_rgb(folder / "Images" / f"{row.image_id}.png", image)
            write_mat(folder / "Labels" / f"{row.image_id}.mat", truth)


def merge_types(truth: Instances, path: Path, *, released: bool) -> Instances:
    """Group the seven types of the public release into the paper's four.

    Args:
        truth: Nuclei with types.
        path: The file, for the message.
        released: True if the file is known to have seven types; otherwise a type above 4 indicates them.

    Raises:
        DataError: If a type is above 7.
    """
    assert truth.types is not None
    highest = int(truth.types.max(initial=0))
    if highest >= len(_MERGED):
        raise DataError(f"{path}: type {highest}; CoNSeP has types 1 to {len(_MERGED) - 1}")
    return replace(truth, types=_MERGED[truth.types]) if released or highest > len(TYPES) else truth
