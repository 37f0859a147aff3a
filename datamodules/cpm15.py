"""CPM-15: the digital pathology segmentation challenge of MICCAI 2015, 15 H&E images of brain tumours."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from datamodules.base import NucleiDataModule
from datamodules.reading.card import DatasetCard
from datamodules.reading.files import MAX_PIXELS, read_instances, replacing, write_rgb
from datamodules.reading.layout import Pairing, build_sample, choose_rows, find_pairs, make_records, require_found
from datamodules.reading.records import Record
from datamodules.reading.sample import Sample
from datamodules.synthetic.images import generate
from postproc.errors import DataError
from postproc.instances import Instances
from postproc.pixels.labels import LabelMap, relabel

PAIRINGS = (
    Pairing("images", "labels", (".mat", "_mask.txt", ".npy")),
    Pairing("", "", ("_mask.txt", ".txt", ".mat")),
)
"""Layouts of both CPM challenges."""

_DIGITS = 9
_SCANNED_AT_20X = frozenset(f"image{number:02d}" for number in range(1, 8))


class CPM15(NucleiDataModule):
    """15 images of 400 x 400 to 1000 x 600 px; image01 to image07 at 20x, the others at 40x.

    All images form one split, ``pool`` (the paper tests on all of them). If only some are present, those are used.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="cpm15",
        title="CPM-15",
        aliases=("CPM15", "MICCAI 2015"),
        summary="15 H&E images of two brain tumours from TCGA with all nuclei outlined",
        images={"pool": 15},
        nuclei=2_905,
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
            'imageNN.png               imageNN_mask.txt     ("width height", then one id per pixel)\n'
            "or Images/imageNN.png     Labels/imageNN.mat"
        ),
        notes=(
            "The patients are not published, so the group is the image.",
            "Images have an alpha channel, which is dropped.",
        ),
        steps=(
            "Open https://drive.google.com/drive/folders/1l55cv3DuY-f7-JotDN7N5nbNnjbLWchK, which the README of "
            "https://github.com/vqdang/hover_net links to.",
            "Download cpm15.zip, or the folder cpm15, which the browser downloads as one or more zips.",
            "Put all of it into {downloads}",
            "Run: nucbench prepare cpm15",
        ),
    )

    @classmethod
    def index(cls, root: Path) -> list[Record]:
        """List the images under `root`, see `NucleiDataModule.index`."""
        found = [(pair.stem, pair.image, (pair.annotation,)) for pair in find_pairs(root, PAIRINGS)]
        return require_found(make_records(found, cls.card, cls.splits()), cls.card, root)

    @classmethod
    def read(cls, record: Record) -> Sample:
        """Read one image with its label map, see `NucleiDataModule.read`."""
        truth = read_cpm_labels(record.annotations[0])
        return build_sample(record, truth, cls.card, magnification=_magnification(record))

    def read_image(self, record: Record) -> Sample:
        """Read one image without its label map, see `NucleiDataModule.read_image`."""
        return dataclasses.replace(super().read_image(record), magnification=_magnification(record))

    @classmethod
    def write_synthetic(cls, root: Path, *, images: int | None = None, size: int = 256, seed: int = 0) -> None:
        """Write a stand-in in the challenge's layout, see `NucleiDataModule.write_synthetic`."""
        for number, row in enumerate(choose_rows(cls.splits(), images)):
            scale = 0.5 if row.image_id in _SCANNED_AT_20X else 1.0
            image, truth = generate((size, size), np.random.default_rng((seed, number)), scale=scale)
            assert truth.labels is not None
            opaque = np.full((size, size, 1), 255, np.uint8)
            write_rgb(Path(root) / f"{row.image_id}.png", np.concatenate([image, opaque], axis=2))
            write_mask_text(Path(root) / f"{row.image_id}_mask.txt", truth.labels)


def _magnification(record: Record) -> float:
    return 20.0 if record.image_id in _SCANNED_AT_20X else 40.0


def read_cpm_labels(path: Path) -> Instances:
    """Read the annotation of a CPM image: ``_mask.txt`` of the challenges, or a label map of later copies.

    Raises:
        DataError: If the file is unreadable or inconsistent.
    """
    return read_mask_text(path) if path.suffix.lower() == ".txt" else read_instances(path)


def read_mask_text(path: Path) -> Instances:
    """Read a label map of the challenges: width and height, then one id per pixel, row by row.

    Args:
        path: The text file.

    Returns:
        The nuclei, renumbered 1..N.

    Raises:
        DataError: If the file is missing, holds anything other than numbers, or their number does not match the size.
    """
    values = _numbers(path)
    if len(values) < 2 or values[0] < 1 or values[1] < 1:
        raise DataError(f"{path}: expected 'width height' in the first line")
    width, height = int(values[0]), int(values[1])
    if len(values) != 2 + width * height:
        raise DataError(f"{path}: {len(values) - 2} pixels for {width} x {height} px; copy or download it again")
    if values.min() < 0:
        raise DataError(f"{path}: negative id {values.min()}")
    labels, _, _ = relabel(values[2:].reshape(height, width))
    return Instances((height, width), labels=labels)


def write_mask_text(path: Path, labels: LabelMap) -> None:
    """Write a label map (H, W) in the format of the challenges, atomically."""
    height, width = labels.shape
    with replacing(path) as temporary:
        body = "\n".join(map(str, labels.ravel().tolist()))
        temporary.write_text(f"{width} {height}\n{body}\n", encoding="ascii")


def _numbers(path: Path) -> NDArray[np.int64]:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.stat().st_size > 8 * MAX_PIXELS:
        raise DataError(f"{path}: {path.stat().st_size} bytes; label maps may have up to {MAX_PIXELS} pixels")
    tokens = path.read_bytes().replace(b",", b" ").split()
    if max(map(len, tokens), default=0) > _DIGITS:
        raise DataError(f"{path}: holds a word of more than {_DIGITS} characters, which is not an id")
    try:
        # an array of byte strings converts many times faster than np.loadtxt, and rejects anything that is not a number
        return np.array(tokens, dtype=f"S{_DIGITS}").astype(np.int64)
    except ValueError as error:
        raise DataError(f"{path}: not a list of whole numbers ({error})") from error
