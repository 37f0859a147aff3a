"""MoNuSAC: the challenge of 2020, 294 H&E images of four organs with typed nuclei (Verma et al., 2021).

Layout: the scripts of the organisers (github.com/ruchikaverma-iitg/MoNuSAC) and the public readers of kaiko-ai/eva and
constantinpape/torch-em.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from datamodules.base import NucleiDataModule
from datamodules.reading.aperio import read_typed_aperio, write_aperio
from datamodules.reading.card import DatasetCard, Download
from datamodules.reading.files import check_name, read_rgb, write_rgb
from datamodules.reading.layout import build_sample, count_images, require_found, walk
from datamodules.reading.monusac_patients import BOTH, TEST, TRAIN, VALIDATION, organ
from datamodules.reading.records import Record
from datamodules.reading.sample import Sample
from datamodules.synthetic.images import generate
from postproc.errors import DataError
from postproc.instances import Instances

TYPES = ("epithelial", "lymphocyte", "neutrophil", "macrophage")
"""Nucleus types 1 to 4, in the order of the organisers' scripts."""
AMBIGUOUS = "Ambiguous"
"""Attribute of layers of regions, not nuclei, in annotations of test images."""
_FOLDERS = {"train": "MoNuSAC_images_and_annotations", "test": "MoNuSAC Testing Data and Annotations"}
_IMAGES = (".svs", ".tif")
# in order of preference
_PATIENT = 12
# number of characters of the patient at the beginning of a name
_DRIVE = "https://drive.usercontent.google.com/download?id={}&export=download&confirm=t"
_SOURCE = "the files that the challenge's page links to; sha256 from torch-em (constantinpape/torch-em)"


class MoNuSAC(NucleiDataModule):
    """294 images of 81 to 1956 px at 40x from TCGA: 209 train, 85 test; each layer of an annotation is a type.

    The organisers' lists of patients define the split, regardless of folder names. They name two patients on both
    sides, whose images are placed by the name of their folder, and whose test images form groups of their own. The
    organ of each image is stored with its scores. Protocol ``strict`` keeps the images of the first two training
    patients of each organ by name; the challenge has no validation images. Polygons are drawn as those of MoNuSeg.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="monusac",
        title="MoNuSAC",
        aliases=("MoNuSAC 2020", "MoNuSAC2020"),
        summary="294 H&E images of four organs from TCGA with nuclei outlined as polygons and typed",
        images={"train": 209, "test": 85},
        nuclei=None,
        types=TYPES,
        magnification=40.0,
        mpp=0.25,
        radius=12.0,
        citation=(
            "R. Verma et al. MoNuSAC2020: a multi-organ nuclei segmentation and classification challenge. IEEE "
            "Transactions on Medical Imaging, 2021"
        ),
        url="https://monusac-2020.grand-challenge.org/Data/",
        licence="CC BY-NC-SA 4.0",
        layout="\n".join(f"{folder}/TCGA-*/TCGA-*_N.{{svs,tif,xml}}" for folder in _FOLDERS.values()),
        notes=(
            "More than 46,000 nuclei as published; 31,411 in the training images, by github.com/masih4/NucleiAnalysis.",
            "Regions marked as ambiguous in the test images are left out of the annotation. The challenge also removes "
            "what is predicted in them; here it counts as false positive, so that figures are lower.",
            "If an image is there as .svs and .tif, the .svs is read, as in the organisers' scripts; some test images "
            "are .svs only.",
            f"Both lists of patients name {' and '.join(sorted(BOTH))}, so training and test images share them.",
            "mPQ and PQ of types are those of PanNuke; the challenge averages another way.",
        ),
        downloads=tuple(
            Download(
                file=f"{folder.replace(' ', '_')}.zip",
                url=_DRIVE.format(key),
                checksum=f"sha256:{digits}",
                source=_SOURCE,
            )
            for folder, key, digits in (
                (
                    _FOLDERS["train"],
                    "1lxMZaAPSpEHLSxGA9KKMt_r-4S8dwLhq",
                    "5b7cbeb34817a8f880d3fddc28391e48d3329a91bf3adcbd131ea149a725cd92",
                ),
                (
                    _FOLDERS["test"],
                    "1G54vsOdxWY1hG7dzmkeK3r0xz9s-heyQ",
                    "bcbc38f6bf8b149230c90c29f3428cc7b2b76f8acd7766ce9fc908fc896c2674",
                ),
            )
        ),
        steps=(
            "On https://monusac-2020.grand-challenge.org/Data/, follow the links to the training and the testing data.",
            "Put both zips into {downloads}",
            "Run: nucbench prepare monusac",
        ),
    )

    @classmethod
    def index(cls, root: Path) -> list[Record]:
        """List the images under `root`, the training images first, see `NucleiDataModule.index`."""
        records: dict[str, Record] = {}
        for folder in walk(root):
            for stem, image in _images(folder).items():
                check_name(image)
                annotation = folder / f"{stem}.xml"
                if not annotation.is_file():
                    raise DataError(f"{image}: no annotation; expected {annotation}")
                record = _record(stem, image, annotation, root)
                if record.image_id in records:
                    raise DataError(f"{image} and {records[record.image_id].image} are the same image; keep one")
                records[record.image_id] = record
        return require_found(sorted(records.values(), key=lambda r: (r.split != "train", r.image_id)), cls.card, root)

    @classmethod
    def read(cls, record: Record) -> Sample:
        """Read one image with its polygons, types and organ, see `NucleiDataModule.read`."""
        image = read_rgb(record.image)
        shape = (image.shape[0], image.shape[1])
        truth, mpp = read_typed_aperio(record.annotations[0], shape, TYPES, (AMBIGUOUS.casefold(),))
        tissue = organ(record.image_id[:_PATIENT])
        return build_sample(record, truth, cls.card, image=image, mpp=mpp, tissue=tissue)

    @classmethod
    def write_synthetic(cls, root: Path, *, images: int | None = None, size: int = 256, seed: int = 0) -> None:
        """Write a stand-in of an image of each organ in training, validation and test, .svs and .tif in turn."""
        count = count_images(images, 12)
        for number in range(count):
            split, kept = (("train", False), ("test", False), ("train", True))[number % 3]
            patient = _patients(split, kept)[number // 3 % 4]
            image, truth = generate((size, size), np.random.default_rng((seed, number)))
            name = f"{patient}-01Z-00-DX1"
            place = Path(root) / _FOLDERS[split] / name / f"{name}_{number // 12 + 1}"
            write_rgb(place.with_name(f"{place.name}{_IMAGES[number % 2]}"), image)
            write_annotation(place.with_name(f"{place.name}.xml"), truth, ambiguous=split == "test")


def write_annotation(path: Path, truth: Instances, *, ambiguous: bool = False) -> None:
    """Write nuclei as an annotation with a layer for each type.

    Args:
        path: The ``.xml`` file.
        truth: Nuclei with labels and types.
        ambiguous: Whether the last nucleus becomes an ambiguous region, which readers leave out.
    """
    assert truth.labels is not None
    assert truth.types is not None
    layers: dict[str, list[int]] = {name: [] for name in (*map(str.capitalize, TYPES), AMBIGUOUS)}
    for number, kind in enumerate(truth.types.tolist(), start=1):
        hidden = ambiguous and number == truth.count > 1
        layers[AMBIGUOUS if hidden else TYPES[kind - 1].capitalize()].append(number)
    write_aperio(path, truth.labels, 0.2525, {name: members for name, members in layers.items() if members})


def _images(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by name without suffix."""
    found: dict[str, Path] = {}
    for suffix in reversed(_IMAGES):
        found |= {path.stem: path for path in sorted(folder.glob(f"[!.]*{suffix}")) if path.is_file()}
    return dict(sorted(found.items()))


def _record(stem: str, image: Path, annotation: Path, root: Path) -> Record:
    patient = stem[:_PATIENT]
    sides = [name for name, part in (("train", TRAIN), ("test", TEST)) if any(patient in own for own in part.values())]
    if not sides:
        raise DataError(f"{image}: {patient!r} is none of the patients of MoNuSAC; move it elsewhere")
    shared = len(sides) > 1
    named = "test" if any("test" in part.lower() for part in image.relative_to(root).parts[:-1]) else "train"
    split = named if shared else sides[0]
    mark = " (test)" if shared and split == "test" else ""
    kept = split == "train" and patient in VALIDATION
    return Record(f"{stem}{mark}", image, (annotation,), f"{patient}{mark}", split, kept)


def _patients(split: str, kept: bool) -> list[str]:
    """Return a patient of each organ: of test images, of training images, or of those kept for validation."""
    part = TRAIN if split == "train" else TEST
    return [
        next(each for each in patients if each not in BOTH and (each in VALIDATION) == kept)
        for patients in part.values()
    ]


__all__ = ["AMBIGUOUS", "TYPES", "MoNuSAC", "write_annotation"]
