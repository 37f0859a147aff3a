"""Lizard: 238 H&E images of colon tissue with nuclei outlined and typed (Graham et al., 2021)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import scipy.io

from datamodules.base import NucleiDataModule
from datamodules.reading.card import DatasetCard, Download
from datamodules.reading.description import find_columns, rows_of, text_lines
from datamodules.reading.files import check_name, read_instances, replacing, write_rgb
from datamodules.reading.layout import build_sample, count_images, images_in, require_found, walk
from datamodules.reading.lizard_names import TYPES
from datamodules.reading.records import Record
from datamodules.reading.sample import Sample
from datamodules.synthetic.images import generate
from postproc.errors import DataError
from postproc.instances import Instances

CITATION = (
    "S. Graham, M. Jahanifar, A. Azam, M. Nimir, Y.-W. Tsang, K. Dodd, E. Hero, H. Sahota, A. Tank, K. Benes, "
    "N. Wahab, F. Minhas, S. E. A. Raza, H. El Daly, K. Gopalakrishnan, D. Snead, N. Rajpoot. Lizard: a large-scale "
    "dataset for colonic nuclear instance segmentation and classification. arXiv:2108.11195, 2021"
)
INFO = "info.csv"
"""File with the split of each image."""

_LEVELS = 5
# the archives have lizard_labels/Lizard_Labels/Labels
_COLUMNS = {"name": ("filename", "image"), "split": ("split", "fold")}
_SHA256 = {
    "lizard_images1.zip": "d2c4e7c83dff634624c9c14d4a1a0b821d4e9ac41e05e3b36303d8f0c510113d",
    "lizard_images2.zip": "9f529f30d9de66587167991a8bf75aaad07ce1d518b72e825c868ac7c33015ed",
    "lizard_labels.zip": "79f22ca83ca535682fba340cbc8bb66b74abd1ead4151ffc8593f204fcb97dec",
}


class Lizard(NucleiDataModule):
    """238 images of colon tissue at 20x, from five public sources, in three folds.

    ``info.csv`` states the fold of each image, so the splits are ``split1``, ``split2`` and ``split3``. Regions from
    PanNuke and CoNSeP show images of those datasets, at another magnification.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="lizard",
        title="Lizard",
        summary="238 H&E images of colon tissue at 20x with nuclei outlined and typed, in three folds",
        images={},
        nuclei=None,
        types=TYPES,
        magnification=20.0,
        mpp=0.5,
        radius=6.0,
        citation=CITATION,
        url="https://warwick.ac.uk/lizard-dataset",
        licence="CC BY-NC-SA 4.0, for research",
        layout=(
            "Lizard_Images1/NAME.png     (and Lizard_Images2)\n"
            "Lizard_Labels/Labels/NAME.mat     inst_map (H, W), id (N, 1), class (N, 1)\n"
            "Lizard_Labels/info.csv     Filename,Source,Split with the fold of each image: 1, 2 or 3"
        ),
        notes=(
            "Train on one fold and evaluate on another, for example: --train-split split1 --protocol strict --validate "
            "lizard.split2 --evaluate lizard.split3. Folds are read from info.csv.",
            "The patients are not published, so the group is the image.",
            "The authors have not released the images from TCGA.",
        ),
        downloads=tuple(
            Download(
                file=file,
                url=f"https://warwick.ac.uk/fac/cross_fac/tia/data/lizard/{file}",
                checksum=f"sha256:{checksum}",
                source="the reader of torch-em, which also notes that the addresses may have expired",
            )
            for file, checksum in _SHA256.items()
        ),
        steps=(
            "Download lizard_images1.zip, lizard_images2.zip and lizard_labels.zip from "
            "https://warwick.ac.uk/lizard-dataset in a browser, or the copy "
            "https://www.kaggle.com/datasets/aadimator/lizard-dataset that torch-em names.",
            "Put them into {downloads}",
            "Run: nucbench prepare lizard",
        ),
    )

    @classmethod
    def index(cls, root: Path) -> list[Record]:
        """List the images under `root` in the order of info.csv, see `NucleiDataModule.index`."""
        images: dict[str, Path] = {}
        labels: dict[str, Path] = {}
        infos: list[Path] = []
        for folder in walk(root, _LEVELS):
            if folder.name.lower().startswith("lizard_images"):
                images |= {path.stem: path for path in images_in(folder)}
            if folder.name.lower() == "labels":
                labels |= {path.stem: path for path in sorted(folder.glob("[!.]*.mat"))}
            if (folder / INFO).is_file():
                infos.append(folder / INFO)
        if not images:
            return require_found([], cls.card, root)
        if len(infos) != 1:
            raise DataError(f"{root}: {len(infos)} files {INFO}, expected one, with the fold of each image")
        splits = read_folds(infos[0])
        records = []
        for name in sorted(images, key=lambda name: (list(splits).index(name) if name in splits else -1, name)):
            check_name(images[name])
            if name not in splits:
                raise DataError(f"{infos[0]}: no line for the image {images[name]}")
            if name not in labels:
                raise DataError(f"{images[name]}: no annotation; expected {infos[0].parent / 'Labels' / name}.mat")
            records.append(Record(name, images[name], (labels[name],), name, splits[name]))
        return records

    @classmethod
    def read(cls, record: Record) -> Sample:
        """Read one image with its nuclei and types, see `NucleiDataModule.read`."""
        path = record.annotations[0]
        truth = read_instances(path)
        if truth.labels is None or truth.types is None:
            raise DataError(f"{path}: no inst_map or class; download the labels again from {cls.card.url}")
        return build_sample(record, Instances(truth.shape, labels=truth.labels, types=truth.types), cls.card)

    @classmethod
    def write_synthetic(cls, root: Path, *, images: int | None = None, size: int = 256, seed: int = 0) -> None:
        """Write a stand-in with the folds in turn; six images by default."""
        images = count_images(images, 6)
        root, lines = Path(root), ["Filename,Source,Split"]
        for number in range(images):
            rng = np.random.default_rng((seed, number))
            image, truth = generate((size, size), rng, density=2.4e-3, scale=0.5)
            name = f"synthetic_{number + 1}"
            write_rgb(root / f"Lizard_Images{number % 2 + 1}" / f"{name}.png", image)
            write_labels(root / "Lizard_Labels" / "Labels" / f"{name}.mat", truth)
            lines.append(f"{name},synthetic,{number % 3 + 1}")
        with replacing(root / "Lizard_Labels" / INFO) as temporary:
            temporary.write_text("\n".join([*lines, ""]), encoding="utf-8")


def read_folds(path: Path) -> dict[str, str]:
    """Read info.csv: name of each image -> ``split1``, ``split2`` or ``split3``.

    Raises:
        DataError: If the file is unreadable, or a line has another fold or a name of an earlier one.
    """
    lines = text_lines(path)
    folds: dict[str, str] = {}
    for number, row in rows_of(path, lines, find_columns(path, lines[0] if lines else "", _COLUMNS)):
        name = row["name"].removesuffix(".png")
        if row["split"] not in ("1", "2", "3"):
            raise DataError(f"{path}, line {number}: split {row['split']!r}; expected 1, 2 or 3")
        if name in folds:
            raise DataError(f"{path}, line {number}: image {name!r} is listed twice; keep one")
        folds[name] = f"split{row['split']}"
    return folds


def write_labels(path: Path, truth: Instances) -> None:
    """Write nuclei as a label file of Lizard."""
    assert truth.labels is not None
    assert truth.types is not None
    ids = np.arange(1, truth.count + 1)[:, None]
    rows = {"id": ids, "class": truth.types[:, None], "centroid": truth.centroids().astype(np.float64)}
    with replacing(path) as temporary:
        scipy.io.savemat(temporary, {"inst_map": truth.labels, **rows}, do_compression=True)


__all__ = ["CITATION", "Lizard", "read_folds", "write_labels"]
