"""NuInsSeg: 665 H&E images of 31 human and mouse organs with all nuclei outlined (Mahbod et al., 2024).

Layout: README.md and code/manual_masks_generator of github.com/masih4/NuInsSeg, and the public reader of
constantinpape/torch-em.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import tifffile

from datamodules.base import NucleiDataModule
from datamodules.reading.card import DatasetCard
from datamodules.reading.files import check_name, read_instances, replacing, write_rgb
from datamodules.reading.layout import Pairing, build_sample, count_images, find_pairs, require_found, without_types
from datamodules.reading.records import Record
from datamodules.reading.sample import Sample
from datamodules.synthetic.images import generate
from postproc.errors import DataError

POOL = "pool"
"""The split of all images."""
_IMAGES, _LABELS = "tissue images", "label masks modify"
_PAIRING = Pairing(_IMAGES, _LABELS, (".tif",))
_ORGANS = ("human bladder", "human liver", "human lung")


class NuInsSeg(NucleiDataModule):
    """665 images of 512 x 512 px in one split, ``pool``; the group is the organ, which is one slide.

    Labels are those of ``label masks modify``, in which each pixel belongs to one nucleus, as the authors recommend for
    evaluation. The organ of each image is stored with its scores. Train on whole organs: ``--train-split
    except-group:ORGAN,...``.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="nuinsseg",
        title="NuInsSeg",
        summary="665 H&E images of 31 human and mouse organs with all nuclei outlined",
        images={POOL: 665},
        nuclei=30_698,
        magnification=40.0,
        radius=12.0,
        citation=(
            "A. Mahbod, C. Polak, K. Feldmann, R. Khan, K. Gelles, G. Dorffner, R. Woitek, S. Hatamikia, I. Ellinger. "
            "NuInsSeg: a fully annotated dataset for nuclei instance segmentation in H&E-stained histological images. "
            "Scientific Data 11, 295, 2024"
        ),
        url="https://www.kaggle.com/datasets/ipateam/nuinsseg",
        licence="stated on its Kaggle page",
        layout=f"ORGAN/{_IMAGES}/*.png     ORGAN/{_LABELS}/*.tif     for example ORGAN = {_ORGANS[0]}",
        notes=(
            "Nuclei and magnification are those that the authors list in github.com/masih4/NucleiAnalysis.",
            "The authors recommend five random folds over all images. These have images of each slide in training and "
            "test, and depend on the order of the files, so they are not offered.",
            "The masks of ambiguous areas (vague areas) are not used: predictions there count as false positive.",
        ),
        steps=(
            "Sign in at https://www.kaggle.com/datasets/ipateam/nuinsseg and download the archive.",
            "Put it into {downloads}",
            "Run: nucbench prepare nuinsseg",
        ),
    )

    @classmethod
    def index(cls, root: Path) -> list[Record]:
        """List the images under `root` by organ, see `NucleiDataModule.index`."""
        records: dict[str, Record] = {}
        for pair in find_pairs(root, (_PAIRING,)):
            check_name(pair.image)
            organ = pair.part.replace(" ", "_")
            image_id = f"{organ}_{pair.stem}"
            if image_id in records:
                raise DataError(f"{pair.image} and {records[image_id].image} are the same image; keep one")
            records[image_id] = Record(image_id, pair.image, (pair.annotation,), organ, POOL)
        return require_found(list(records.values()), cls.card, root)

    @classmethod
    def read(cls, record: Record) -> Sample:
        """Read one image with its label map and organ, see `NucleiDataModule.read`."""
        return build_sample(
            record,
            without_types(read_instances(record.annotations[0])),
            cls.card,
            tissue=record.group.replace("_", " "),
        )

    @classmethod
    def write_synthetic(cls, root: Path, *, images: int | None = None, size: int = 256, seed: int = 0) -> None:
        """Write a stand-in of three organs in turn; six images by default."""
        for number in range(count_images(images, 6)):
            image, truth = generate((size, size), np.random.default_rng((seed, number)))
            assert truth.labels is not None
            organ, name = _ORGANS[number % len(_ORGANS)], f"synthetic_{number + 1:02d}"
            write_rgb(Path(root) / organ / _IMAGES / f"{name}.png", image)
            with replacing(Path(root) / organ / _LABELS / f"{name}.tif") as temporary:
                tifffile.imwrite(temporary, truth.labels.astype(np.uint16))


__all__ = ["POOL", "NuInsSeg"]
