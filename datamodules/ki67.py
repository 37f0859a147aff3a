"""Ki67: immunohistochemistry of pancreatic neuroendocrine tumours (Xing et al., 2019)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.base import NucleiDataModule
from datamodules.reading.card import DatasetCard, Download
from datamodules.reading.files import read_rgb, write_rgb
from datamodules.reading.ki67_types import TYPES
from datamodules.reading.layout import build_sample, count_images, images_in, make_records, require_found, walk
from datamodules.reading.records import Record
from datamodules.reading.sample import Sample
from datamodules.reading.splits import SplitRow
from datamodules.synthetic.images import generate
from postproc.errors import DataError
from postproc.instances import Instances

LABELS = ("labels_postm", "labels_negtm", "labels_other")
"""Folders of types 1 to 3."""

_REGIONS = "rois"
_CASE = re.compile(r"(.+)_\d+")
_PARTS = {"train": ("train", False), "val": ("train", True), "test": ("test", False)}


class Ki67(NucleiDataModule):
    """Images at 20x with centres of three types of nuclei and a weak annotation of tumour regions.

    The layout is that of the authors' repository. Labels are proximity maps (equation 1 of the paper), in
    which pixels equal to 255 are the annotated centres; each 8-connected group of them is one centre. Regions
    (``rois/train/X_roi.png``, 255 = tumour, 0 = other tissue) and labels may each be missing for an image,
    but not both.

    Of the paper's 114 images, two are public. They are in the committed CSV. For any other image, the folder gives the
    split (``val`` = training image kept for validation) and the name gives the case: ``CASE_1``, ``CASE_2``.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="ki67",
        title="Ki67",
        aliases=("PNET", "Ki67 NET"),
        summary=("Ki67 images of pancreatic neuroendocrine tumours with nucleus centres, types and tumour regions"),
        images={"train": 1, "test": 1},
        nuclei=1_762,
        types=TYPES,
        magnification=20.0,
        mpp=0.34,
        radius=16.0,
        annotation="points",
        citation=(
            "F. Xing, T. C. Cornish, T. Bennett, D. Ghosh, L. Yang. Pixel-to-pixel learning with weak "
            "supervision for single-stage nucleus recognition in Ki67 images. IEEE Transactions on "
            "Biomedical Engineering 66(11), 2019"
        ),
        url="https://github.com/exhh/KiNet",
        licence="no licence stated",
        layout=(
            "images/{train,val,test}/X.png\n"
            "labels_postm/{train,val,test}/X_label.png     (labels_negtm and labels_other likewise)\n"
            "rois/{train,val,test}/X_roi.png               (optional)"
        ),
        notes=(
            "The paper uses 38 cases with three images of 500 x 500 px each, of which only two images of "
            "596 x 596 px were published, without regions; published figures cannot be reproduced from "
            "them.",
            "Both public images are named PAN; it is not published whether they show the same case.",
        ),
        downloads=(
            Download(
                file="KiNet-HEAD.zip",
                url="https://github.com/exhh/KiNet/archive/HEAD.zip",
                source="the authors' repository, whose folder datasets/PNET has the two images; GitHub creates the "
                "archive on demand and states neither size nor checksum",
            ),
        ),
        steps=(
            "On https://github.com/exhh/KiNet, choose Code, then Download ZIP.",
            "Put the zip into {downloads}",
            "Run: nucbench prepare ki67",
        ),
        inside="*/datasets/PNET",
    )

    @classmethod
    def index(cls, root: Path) -> list[Record]:
        """List the images under `root`, see `NucleiDataModule.index`."""
        found = []
        rows: dict[str, SplitRow] = {}
        for folder in walk(root):
            if folder.parent.name.lower() != "images" or folder.name.lower() not in _PARTS:
                continue
            for image in images_in(folder):
                row = _row(folder.name.lower(), image.stem, cls.splits())
                rows[row.image_id] = row
                found.append((row.image_id, image, _annotations(image)))
        return require_found(make_records(found, cls.card, rows), cls.card, root)

    @classmethod
    def read(cls, record: Record) -> Sample:
        """Read one image with its centres, types and regions, see `NucleiDataModule.read`."""
        image = read_rgb(record.image)
        shape = (image.shape[0], image.shape[1])
        maps = {path.parent.parent.name: read_grey(path, shape) for path in record.annotations}
        points = types = None
        if LABELS[0] in maps:
            centres = [centres_of(maps[name], path) for name, path in zip(LABELS, record.annotations, strict=False)]
            points = np.concatenate(centres)
            types = np.repeat(np.arange(1, len(LABELS) + 1), [len(c) for c in centres])
        regions = np.where(maps[_REGIONS] > 127, 2, 1).astype(np.uint8) if _REGIONS in maps else None
        truth = Instances(shape, points=points, types=types, regions=regions)
        return build_sample(record, truth, cls.card, image=image)

    @classmethod
    def write_synthetic(cls, root: Path, *, images: int | None = None, size: int = 256, seed: int = 0) -> None:
        """Write a stand-in of invented cases, alternately for training, validation and test; six by default.

        See `NucleiDataModule.write_synthetic`.
        """
        images = count_images(images, 6)
        for number in range(images):
            part = tuple(_PARTS)[number % len(_PARTS)]
            stem = f"synthetic{number:03d}_1"
            rng = np.random.default_rng((seed, number))
            image, truth = generate((size, size), rng, density=2.4e-3, stain="ihc", scale=0.5)
            assert truth.types is not None
            write_rgb(Path(root) / "images" / part / f"{stem}.png", image)
            for kind, name in enumerate(LABELS, start=1):
                proximity = proximity_map(truth.centroids()[truth.types == kind], truth.shape)
                write_rgb(Path(root) / name / part / f"{stem}_label.png", proximity)
            assert truth.regions is not None
            region = np.where(truth.regions == 2, 255, 0).astype(np.uint8)
            write_rgb(Path(root) / _REGIONS / part / f"{stem}_roi.png", region)


def centres_of(proximity: NDArray[np.uint8], path: Path) -> NDArray[np.float32]:
    """Find the annotated centres of a proximity map.

    Args:
        proximity: uint8 (H, W), 255 at centres.
        path: The file, for the message.

    Returns:
        float32 (N, 2), (x, y) in pixels: the centre of each 8-connected group of pixels equal to 255.

    Raises:
        DataError: If the map has values but no centre, for example after resizing.
    """
    count, _, _, middle = cv2.connectedComponentsWithStats((proximity == 255).astype(np.uint8), connectivity=8)
    if count == 1 and proximity.any():
        raise DataError(f"{path}: no pixel equals 255, which marks centres; use the maps as published, not resized")
    return np.asarray(middle[1:], np.float32)


def proximity_map(
    points: NDArray[np.float32], shape: tuple[int, int], *, alpha: float = 3.0, distance: float = 15.0
) -> NDArray[np.uint8]:
    """Draw the proximity map of some centres (Xing et al., 2019, equation 1), scaled to 255.

    Args:
        points: (N, 2), (x, y) in pixels, rounded to whole pixels.
        shape: (H, W) in pixels.
        alpha: Decay.
        distance: Distance, in pixels, at which the map reaches 0.

    Returns:
        uint8 (H, W).
    """
    away = np.ones(shape, np.uint8)
    columns, rows = np.round(points).astype(int).T
    away[rows, columns] = 0
    if away.all():
        return np.zeros(shape, np.uint8)
    far = cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    value = np.expm1(alpha * (1 - far / distance)) / np.expm1(alpha)
    drawn: NDArray[np.uint8] = np.round(255 * np.clip(value, 0, 1)).astype(np.uint8)
    return drawn


def _row(part: str, stem: str, splits: Mapping[str, SplitRow]) -> SplitRow:
    image_id = f"{part}_{stem}"
    if image_id in splits:
        return splits[image_id]
    split, validation = _PARTS[part]
    return SplitRow(image_id, case_of(stem), split, validation)


def _annotations(image: Path) -> tuple[Path, ...]:
    part, dataset = image.parent.name, image.parent.parent.parent
    labels = tuple(dataset / name / part / f"{image.stem}_label.png" for name in LABELS)
    regions = dataset / _REGIONS / part / f"{image.stem}_roi.png"
    present = [path for path in labels if path.is_file()]
    if 0 < len(present) < len(labels):
        missing = next(path for path in labels if path not in present)
        raise DataError(f"{image}: no {missing}; an image has the labels of all three types or none")
    paths = (*present, *((regions,) if regions.is_file() else ()))
    if not paths:
        raise DataError(f"{image}: no annotation; expected {labels[0]} or {regions}")
    return paths


def case_of(stem: str) -> str:
    """Return the case of an image ``CASE_1``; its whole name if it does not end in a number."""
    case = _CASE.fullmatch(stem)
    return case[1] if case else stem


def read_grey(path: Path, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Read a single-channel annotation, uint8 (H, W).

    Raises:
        DataError: If it is unreadable, coloured, or its (H, W) is not `shape`.
    """
    image = read_rgb(path)
    if image.shape[:2] != shape:
        raise DataError(f"{path}: annotation of {image.shape[:2]} px (H, W) for an image of {shape} px")
    if not (image == image[..., :1]).all():
        raise DataError(f"{path}: a coloured image; expected one channel of 0 to 255")
    return image[..., 0]
