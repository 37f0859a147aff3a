"""PUMA: 205 H&E images of melanoma with nuclei outlined and typed (Schuiveling et al., 2025).

Layout: the public reader of constantinpape/torch-em and the description of rajpurkarlab/ReX-MLE.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from datamodules.base import NucleiDataModule
from datamodules.reading.aperio import contour
from datamodules.reading.card import DatasetCard, Download
from datamodules.reading.files import check_name, read_rgb, replacing, write_rgb
from datamodules.reading.layout import build_sample, count_images, images_in, require_found, walk
from datamodules.reading.outlines import draw, read_outlines
from datamodules.reading.records import Record
from datamodules.reading.sample import Sample
from datamodules.reading.type_names import plain, type_numbers
from datamodules.synthetic.images import generate
from postproc.errors import DataError
from postproc.instances import Instances

TYPES = (
    "stroma", "tumor", "plasma cell", "histiocyte", "lymphocyte", "melanophage", "neutrophil", "endothelium",
    "epithelium", "apoptosis",
)  # fmt: skip
"""Nucleus types 1 to 10; in the files, they begin with ``nuclei_``."""
POOL = "pool"
"""The split of all images; the test set of the challenge is not public."""
_IMAGES, _NUCLEI = "01_training_dataset_tif_ROIs", "01_training_dataset_geojson_nuclei"
_SUFFIX = "_nuclei.geojson"
_NAME = re.compile(r"training_set_(primary|metastatic)_roi_\d+")
_FILES = "https://zenodo.org/records/15050523/files/{}.zip"
_SOURCE = "constantinpape/torch-em, which states the address and the sha256"


class PUMA(NucleiDataModule):
    """205 images of 1024 x 1024 px at 40x in one split, ``pool``: the training images of the challenge of 2024.

    Nuclei are GeoJSON of QuPath with ten types. Whether an image shows a primary or a metastatic melanoma is stored
    with its scores as the tissue. The patients are not published, so the group is the image.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="puma",
        title="PUMA",
        summary="205 H&E images of primary and metastatic melanoma with nuclei outlined and typed",
        images={POOL: 205},
        nuclei=None,
        types=TYPES,
        magnification=40.0,
        mpp=0.23,
        radius=15.0,
        citation=(
            "M. Schuiveling, H. Liu, D. Eek, G. E. Breimer, K. P. M. Suijkerbuijk, W. A. M. Blokx, M. Veta. A novel "
            "dataset for nuclei and tissue segmentation in melanoma with baseline nuclei segmentation and tissue "
            "segmentation benchmarks. GigaScience, 2025"
        ),
        url="https://zenodo.org/records/15050523",
        licence="stated on its Zenodo page",
        layout=(
            f"{_IMAGES}/training_set_{{primary,metastatic}}_roi_NNN.tif\n"
            f"{_NUCLEI}/training_set_{{primary,metastatic}}_roi_NNN{_SUFFIX}"
        ),
        notes=(
            "103 primary and 102 metastatic images; training_set_metastatic_roi_103 of earlier versions was removed "
            "because of inconsistent annotation.",
            "The challenge pairs nuclei whose centres are less than 15 px apart, by score and type; F_d and F_c here "
            "use 15 px and HoVer-Net's pairing.",
            "Track 1 of the challenge merges the types into tumor, lymphocyte and others; here all ten are kept.",
            "Images of the wider context and the outlines of tissue are not used.",
        ),
        downloads=(
            Download(
                file=f"{_IMAGES}.zip",
                url=_FILES.format(_IMAGES),
                checksum="sha256:af48b879f8ff7e74b84a7114924881606f13f108aa0f9bcc21d3593b717ee022",
                source=_SOURCE,
            ),
            Download(
                file=f"{_NUCLEI}.zip",
                url=_FILES.format(_NUCLEI),
                checksum="sha256:eda271225900d6de0759e0281f3731a570e09f2adab58bd36425b9d2dfad91a0",
                source=_SOURCE,
            ),
        ),
        steps=(
            f"Download {_IMAGES}.zip and {_NUCLEI}.zip from https://zenodo.org/records/15050523.",
            "Put both into {downloads}",
            "Run: nucbench prepare puma",
        ),
    )

    @classmethod
    def index(cls, root: Path) -> list[Record]:
        """List the images under `root`, see `NucleiDataModule.index`."""
        images: dict[str, Path] = {}
        outlines: dict[str, Path] = {}
        for folder in walk(root):
            for path in sorted(folder.glob(f"[!.]*{_SUFFIX}")):
                outlines[path.name.removesuffix(_SUFFIX)] = path
            for path in images_in(folder) if "context" not in folder.name.lower() else ():
                if _NAME.fullmatch(path.stem) is None:
                    continue
                check_name(path)
                if path.stem in images:
                    raise DataError(f"{path} and {images[path.stem]} are the same image; keep one")
                images[path.stem] = path
        records = []
        for name, image in sorted(images.items()):
            if name not in outlines:
                raise DataError(f"{image}: no annotation; expected {name}{_SUFFIX} in {root / _NUCLEI}")
            records.append(Record(name, image, (outlines[name],), name, POOL))
        return require_found(records, cls.card, root)

    @classmethod
    def read(cls, record: Record) -> Sample:
        """Read one image with its nuclei, types and kind of melanoma, see `NucleiDataModule.read`."""
        image = read_rgb(record.image)
        match = _NAME.fullmatch(record.image_id)
        truth = read_nuclei(record.annotations[0], (image.shape[0], image.shape[1]))
        return build_sample(record, truth, cls.card, image=image, tissue=match[1] if match else "")

    @classmethod
    def write_synthetic(cls, root: Path, *, images: int | None = None, size: int = 256, seed: int = 0) -> None:
        """Write a stand-in of primary and metastatic images in turn; four by default."""
        for number in range(count_images(images, 4)):
            image, truth = generate((size, size), np.random.default_rng((seed, number)))
            name = f"training_set_{('primary', 'metastatic')[number % 2]}_roi_{number // 2 + 1:03d}"
            write_rgb(Path(root) / _IMAGES / f"{name}.tif", image)
            write_nuclei(Path(root) / _NUCLEI / f"{name}{_SUFFIX}", truth)


def read_nuclei(path: Path, shape: tuple[int, int]) -> Instances:
    """Read a file of nuclei.

    Args:
        path: The GeoJSON file.
        shape: (H, W) of the image in pixels.

    Returns:
        Nuclei with labels and types 1 to 10.

    Raises:
        DataError: If it is unreadable, or a type is missing or unknown.
    """
    outlines = read_outlines(path)
    names = {plain(f"nuclei_{name}"): number for number, name in enumerate(TYPES, start=1)}
    untyped = sum(nucleus.kind is None for nucleus in outlines.nuclei)
    if untyped:
        raise DataError(f"{path}: {untyped} of {len(outlines.nuclei)} nuclei have no class; download the file again")
    kinds = type_numbers(outlines, TYPES, names, "download the file again")
    return draw(outlines, shape, kinds or [])


def write_nuclei(path: Path, truth: Instances) -> None:
    """Write nuclei as annotations of QuPath with the outer contour of each; holes are lost."""
    assert truth.labels is not None
    assert truth.types is not None
    features: list[dict[str, Any]] = []
    for number, kind in enumerate(truth.types.tolist(), start=1):
        ring = (contour(truth.labels == number) + 0.5).tolist()  # vertices are corners of pixels
        name = f"nuclei_{TYPES[kind - 1].replace(' ', '_')}"
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
                "properties": {"objectType": "annotation", "classification": {"name": name}},
            }
        )
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")


__all__ = ["POOL", "PUMA", "TYPES", "read_nuclei", "write_nuclei"]
