"""CRCHisto (CRCHistoPhenotypes): 100 H&E images with nucleus centres and types.

Source: Sirinukunwattana et al. (2016).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import scipy.io
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from datamodules.base import NucleiDataModule
from datamodules.consep import TYPES
from datamodules.reading.card import DatasetCard
from datamodules.reading.files import read_mat, read_rgb, replacing, write_rgb
from datamodules.reading.layout import build_sample, choose_rows, make_records, require_found, walk
from datamodules.reading.records import Record
from datamodules.reading.sample import Sample
from datamodules.synthetic.images import generate
from postproc.errors import DataError
from postproc.instances import Instances

CLASS_FILES = ("others", "inflammatory", "epithelial", "fibroblast")
"""Files of types 1 to 4, in the order of CoNSeP's types."""

_SAME = 2.0
# largest distance, in pixels, between the two entries of a nucleus; nuclei at 20x are farther apart
_OUTSIDE = 1.0
# tolerance at the border, in pixels: coordinates come from MATLAB, where pixels count from 1


class CRCHisto(NucleiDataModule):
    """100 images of 500 x 500 px at 20x in one split, ``pool``; nucleus centres, three quarters with types.

    Types are those of CoNSeP (`others` = miscellaneous, `fibroblast` = spindle-shaped). ``Detection`` lists
    every nucleus, ``Classification`` those with a known type; the others have type 0. The two lists are
    joined by one assignment of least total distance. Coordinates are used as published and moved onto the border
    if they exceed it by less than a pixel.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="crchisto",
        title="CRCHisto",
        aliases=("CRCHistoPhenotypes", "CRCHist"),
        summary="100 H&E images of colorectal adenocarcinoma at 20x with nucleus centres and types",
        images={"pool": 100},
        nuclei=29_756,
        types=TYPES,
        magnification=20.0,
        mpp=0.55,
        radius=6.0,
        annotation="points",
        citation=(
            "K. Sirinukunwattana, S. E. A. Raza, Y. W. Tsang, D. R. J. Snead, I. A. Cree, N. M. Rajpoot. "
            "Locality sensitive deep learning for detection and classification of nuclei in routine colon "
            "cancer histology images. IEEE Transactions on Medical Imaging 35(5), 2016"
        ),
        url="https://warwick.ac.uk/fac/cross_fac/tia/data/crchistolabelednucleihe",
        licence="no licence stated; citation of the paper required",
        layout=(
            "Classification/imgN/imgN.bmp     "
            "Classification/imgN/imgN_{epithelial,fibroblast,inflammatory,others}.mat\n"
            "Detection/imgN/imgN_detection.mat"
        ),
        notes=(
            "22,444 of the 29,756 nuclei have a type, 7,312 do not.",
            "The images come from 9 patients; the patient of each image is not published, so the group is the image.",
        ),
        steps=(
            "Sign in at https://warwick.ac.uk/fac/cross_fac/tia/data/crchistolabelednucleihe (an account is required "
            "since 2023; Warwick's TIA Centre decides who gets one).",
            "Download CRCHistoPhenotypes_2016_04_28.zip and put it into {downloads}",
            "Run: nucbench prepare crchisto",
        ),
    )

    @classmethod
    def index(cls, root: Path) -> list[Record]:
        """List the images under `root`, see `NucleiDataModule.index`."""
        found = []
        for folder in walk(root):
            if folder.parent.name.lower() != "classification" or not folder.name.lower().startswith("img"):
                continue
            stem = folder.name
            image = folder / f"{stem}.bmp"
            if not image.is_file():
                raise DataError(f"{image}: no such image next to the class files of {folder}")
            found.append((stem, image, _annotations(folder)))
        return require_found(make_records(found, cls.card, cls.splits()), cls.card, root)

    @classmethod
    def read(cls, record: Record) -> Sample:
        """Read one image with its centres and types, see `NucleiDataModule.read`."""
        image = read_rgb(record.image)
        every, *by_class = (_points(path) for path in record.annotations)
        typed = np.concatenate(by_class)
        types = np.repeat(np.arange(1, len(by_class) + 1), [len(points) for points in by_class])
        points, types = join(every, typed, types)
        height, width = image.shape[:2]
        limit = np.array([width - 1, height - 1], np.float64)
        near = ((points > -_OUTSIDE) & (points < limit + 1 + _OUTSIDE)).all(axis=1)
        points[near] = np.clip(points[near], 0, limit)
        truth = Instances((height, width), points=points.astype(np.float32), types=types)
        return build_sample(record, truth, cls.card, image=image)

    @classmethod
    def write_synthetic(cls, root: Path, *, images: int | None = None, size: int = 256, seed: int = 0) -> None:
        """Write a stand-in; a quarter of its nuclei have no type, see `NucleiDataModule.write_synthetic`."""
        for number, row in enumerate(choose_rows(cls.splits(), images)):
            rng = np.random.default_rng((seed, number))
            image, truth = generate((size, size), rng, density=2.4e-3, scale=0.5)
            assert truth.types is not None
            points = truth.centroids()
            known = rng.random(len(points)) < 0.75
            folder = Path(root) / "Classification" / row.image_id
            write_rgb(folder / f"{row.image_id}.bmp", image)
            for kind, name in enumerate(CLASS_FILES, start=1):
                _write_points(folder / f"{row.image_id}_{name}.mat", points[known & (truth.types == kind)])
            _write_points(Path(root) / "Detection" / row.image_id / f"{row.image_id}_detection.mat", points)


def join(
    every: NDArray[np.float64], typed: NDArray[np.float64], types: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Join the list of all nuclei with the list of typed nuclei.

    Args:
        every: (N, 2), (x, y) in pixels.
        typed: (M, 2), (x, y) in pixels.
        types: (M,), type of each row of `typed`.

    Returns:
        Points and types: every nucleus of the first list, with type 0 unless one of the second list is within 2 px of
        it; then those of the second list without a partner.
    """
    found = np.zeros(len(every), np.int64)
    alone = np.ones(len(typed), bool)
    if len(every) and len(typed):
        distance = cdist(every, typed)
        rows, columns = linear_sum_assignment(np.minimum(distance, 10 * _SAME))
        near = distance[rows, columns] <= _SAME
        found[rows[near]] = types[columns[near]]
        alone[columns[near]] = False
    return np.concatenate([every, typed[alone]]), np.concatenate([found, types[alone]])


def _annotations(folder: Path) -> tuple[Path, ...]:
    stem = folder.name
    dataset = folder.parent.parent
    detection = next((p for p in dataset.iterdir() if p.name.lower() == "detection"), dataset / "Detection")
    paths = (
        detection / stem / f"{stem}_detection.mat",
        *(folder / f"{stem}_{name}.mat" for name in CLASS_FILES),
    )
    for path in paths:
        if not path.is_file():
            raise DataError(f"{folder / stem}.bmp: no annotation; expected {path}")
    return paths


def _points(path: Path) -> NDArray[np.float64]:
    arrays = read_mat(path)
    if "detection" not in arrays:
        raise DataError(f"{path}: no array 'detection' (N, 2); the file holds {', '.join(arrays) or 'nothing'}")
    points: NDArray[Any] = arrays["detection"]
    if points.size == 0:
        return np.zeros((0, 2))
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise DataError(f"{path}: 'detection' has shape {points.shape}, expected (N, 2) finite numbers")
    return points.astype(np.float64)


def _write_points(path: Path, points: NDArray[np.float32]) -> None:
    with replacing(path) as temporary:
        scipy.io.savemat(temporary, {"detection": points.astype(np.float64)})
