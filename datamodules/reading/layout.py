"""Find images and annotations in the folders of a dataset, and match them with the committed splits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.reading.card import DatasetCard
from datamodules.reading.files import IMAGE_SUFFIXES, check_name, check_size
from datamodules.reading.records import Record
from datamodules.reading.sample import Sample
from datamodules.reading.splits import SplitRow
from datamodules.reading.stacks import read_image_of
from postproc.errors import ConfigError, DataError
from postproc.instances import Instances

_DEPTH = 3
# archives unpack into their own folder, often with another folder inside


@dataclass(frozen=True)
class Pairing:
    """One public layout: the folders of images and annotations.

    Attributes:
        images: Name of the folder of images, lower case; empty = any folder with images and annotations.
        annotations: Name of the sibling folder of annotations, lower case; empty = the same folder.
        endings: Replacements of the image's suffix in the annotation's name, in order of preference.
    """

    images: str
    annotations: str
    endings: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """An image with its annotation.

    Attributes:
        stem: File name of the image without its suffix.
        image: The image.
        annotation: The annotation.
        part: Name of the parent of the folder of images, lower case (``train``, ``test_same``); of the folder itself
            if images and annotations are in the same folder.
    """

    stem: str
    image: Path
    annotation: Path
    part: str


def find_pairs(root: Path, pairings: Iterable[Pairing]) -> list[Found]:
    """Find images with their annotations in `root`, ignoring case, blanks and underscores in folder names.

    Args:
        root: The dataset's folder.
        pairings: The layouts to look for; each folder is read by the first that matches.

    Returns:
        The pairs, sorted by path. Hidden files and renderings (``*_poly.png``) are skipped.

    Raises:
        DataError: If an image has no annotation.
    """
    pairings = tuple(pairings)
    found: list[Found] = []
    for folder in walk(root):
        for pairing in pairings:
            pairs = _pairs_of(folder, pairing)
            if pairs:
                found += pairs
                break
    return found


def walk(root: Path, depth: int = _DEPTH) -> Iterator[Path]:
    """Yield `root` and its subfolders, `depth` levels deep, sorted, without hidden folders."""
    level = [Path(root)]
    for step in range(depth + 1):
        yield from level
        if step < depth:
            level = [child for folder in level for child in _folders(folder)]


def images_in(folder: Path) -> list[Path]:
    """List the images of a folder, sorted, without hidden files (``._x.tif`` of macOS) and renderings."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not path.name.startswith(".")
        and not path.stem.endswith("_poly")
        and path.is_file()
    )


def make_records(
    found: Iterable[tuple[str, Path, tuple[Path, ...]]], card: DatasetCard, splits: Mapping[str, SplitRow]
) -> list[Record]:
    """Build records from the files found; only the committed CSV determines the split of an image.

    Args:
        found: Image id, image and annotations of each image.
        card: The dataset's card.
        splits: Its committed splits.

    Returns:
        Records in the order of the CSV.

    Raises:
        DataError: If nothing was found, an image is in two places or not in the CSV, or a name has control
            characters.
    """
    by_id: dict[str, Record] = {}
    for image_id, image, annotated in found:
        check_name(image)
        if image_id in by_id:
            raise DataError(f"{card.name}: image {image_id!r} is both {by_id[image_id].image} and {image}; keep one")
        row = splits.get(image_id)
        if row is None:
            known = ", ".join(list(splits)[:3])
            raise DataError(
                f"{image}: image {image_id!r} is not in the splits of {card.name} ({known}, ...); "
                "move it elsewhere or rename it to its published name"
            )
        by_id[image_id] = Record(image_id, image, annotated, row.group, row.split, row.validation)
    return [by_id[image_id] for image_id in splits if image_id in by_id]


def require_found(records: list[Record], card: DatasetCard, root: Path) -> list[Record]:
    """Return `records`, or raise a DataError that shows the expected layout if there are none."""
    if not records:
        raise DataError(
            f"{root}: no image of {card.title} found. Get it from {card.url} and lay it out as:\n{card.layout}"
        )
    return records


def build_sample(
    record: Record,
    truth: Instances,
    card: DatasetCard,
    *,
    image: NDArray[np.uint8] | None = None,
    magnification: float | None = None,
    mpp: float | None = None,
    tissue: str = "",
) -> Sample:
    """Combine image and annotation after checking that they match.

    Args:
        record: The image's record; errors name its first annotation.
        truth: The annotation.
        card: The dataset's card.
        image: The image if it was already read.
        magnification: Magnification of this image; None = the card's.
        mpp: Microns per pixel of this image; None = the card's.
        tissue: Tissue or organ of this image, if the dataset states it.

    Raises:
        DataError: If sizes differ, a type is not on the card, or a point is outside the image.
    """
    source = record.annotations[0] if record.annotations else record.image
    image = read_image_of(record) if image is None else image
    check_size(image, truth, source)
    if truth.types is not None and truth.types.max(initial=0) > len(card.types):
        raise DataError(f"{source}: type {truth.types.max()}; {card.name} has {len(card.types)} types")
    if truth.points is not None:
        height, width = truth.shape
        outside = ((truth.points < 0) | (truth.points > np.array([width - 1, height - 1]))).any(axis=1)
        if outside.any():
            x, y = truth.points[outside][0]
            raise DataError(f"{source}: point ({x}, {y}) is outside the image of {width} x {height} px")
    return Sample(
        image,
        truth,
        record.image_id,
        record.group,
        card.magnification if magnification is None else magnification,
        card.mpp if mpp is None else mpp,
        tissue,
    )


def count_images(images: int | None, usual: int) -> int:
    """Return the number of images of a synthetic stand-in without committed splits; None = `usual`.

    Raises:
        ConfigError: If it is less than 1.
    """
    if images is None:
        return usual
    if images < 1:
        raise ConfigError(f"images = {images}; a stand-in has at least one image")
    return images


def choose_rows(splits: Mapping[str, SplitRow], images: int | None) -> list[SplitRow]:
    """Choose the images of a synthetic stand-in.

    Args:
        splits: The committed splits.
        images: Number of images; None = two of each split, and two more of a split with validation images.

    Returns:
        Rows, alternating between splits and, within a split, between groups.

    Raises:
        ConfigError: If the dataset has fewer images.
    """
    if images is not None and not 1 <= images <= len(splits):
        raise ConfigError(f"images = {images}; a stand-in has 1 to {len(splits)} images")
    buckets: dict[tuple[str, bool], list[SplitRow]] = {}
    for row in splits.values():
        buckets.setdefault((row.split, row.validation), []).append(row)
    queues = [_groups_in_turn(bucket) for bucket in buckets.values()]
    if images is None:
        return [row for queue in queues for row in queue[:2]]
    longest = max(len(queue) for queue in queues)
    in_turn = [queue[k] for k in range(longest) for queue in queues if k < len(queue)]
    return in_turn[:images]


def without_types(truth: Instances) -> Instances:
    """Return only the outlines of `truth`, for stand-ins of datasets without types."""
    return Instances(truth.shape, labels=truth.labels)


def _groups_in_turn(rows: list[SplitRow]) -> list[SplitRow]:
    seen: dict[str, int] = {}
    turns = []
    for row in rows:
        seen[row.group] = seen.get(row.group, 0) + 1
        turns.append(seen[row.group])
    return [rows[k] for k in sorted(range(len(rows)), key=lambda k: (turns[k], k))]


def _plain(name: str) -> str:
    """Return a folder's name normalised across copies of a dataset: no capitals, blanks or underscores."""
    return name.lower().replace("_", " ").replace("-", " ")


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _pairs_of(folder: Path, pairing: Pairing) -> list[Found]:
    if pairing.images and _plain(folder.name) != _plain(pairing.images):
        return []
    beside = folder
    if pairing.annotations:
        candidates = [path for path in _folders(folder.parent) if _plain(path.name) == _plain(pairing.annotations)]
        if not candidates:
            return []
        beside = candidates[0]
    annotations = {path.stem + path.suffix.lower(): path for path in beside.iterdir() if not path.name.startswith(".")}
    if not any(name.endswith(pairing.endings) for name in annotations):
        return []
    part = folder.parent.name if pairing.images else folder.name
    pairs = []
    for image in images_in(folder):
        names = [image.stem + ending for ending in pairing.endings]
        name = next((name for name in names if name in annotations), None)
        if name is None:
            raise DataError(f"{image}: no annotation; expected {beside / names[0]}")
        pairs.append(Found(image.stem, image, annotations[name], part.lower()))
    return pairs
