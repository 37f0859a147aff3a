"""Draw training items from samples: crop, augment, encode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from datamodules.augment import augment, build_policy, inside, split_parts
from datamodules.sample import Sample
from postproc.codec import Codec, Targets
from postproc.errors import DataError
from postproc.instances import Instances, LabelMap


class Drawer(Protocol):
    """Draws one item for training from a sample."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Targets:
        """Return ``image``, uint8 (3, crop, crop), and the codec's targets; `rng` is the only randomness."""


class CropDrawer:
    """Random crop, augmentation of image and annotation together, then encoding.

    Args:
        crop: Side of the crop in px; smaller images are mirrored.
        codec: Encodes the annotation of the augmented crop.
        policy: Name of an augmentation policy.
    """

    def __init__(self, crop: int, codec: Codec[Any], policy: str) -> None:
        self._crop = crop
        self._codec = codec
        self._policy = build_policy(policy)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Targets:
        """Return one item."""
        image, truth = random_crop(sample, self._crop, rng)
        image, truth = augment(self._policy, image, truth, rng)
        item = self._codec.encode(truth)
        item["image"] = np.ascontiguousarray(image.transpose(2, 0, 1))
        return item


def random_crop(
    sample: Sample, size: int, rng: np.random.Generator
) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], Instances]:
    """Cut a random square out of a sample, mirrored at the image border where the image is smaller.

    Args:
        sample: The image.
        size: Side in px.
        rng: Source of the position.

    Returns:
        uint8 (size, size, 3) and the annotation of that part; nuclei are numbered anew. Where the image is
        mirrored, so are its points, and a mirrored nucleus is one of its own unless it touches the original.
    """
    height, width = sample.truth.shape
    top = int(rng.integers(0, max(height - size, 0) + 1))
    left = int(rng.integers(0, max(width - size, 0) + 1))
    return _cut(sample.image, top, left, size), cut_instances(sample.truth, top, left, size)


def cut_instances(truth: Instances, top: int, left: int, size: int) -> Instances:
    """Cut a square out of an annotation, mirrored at the bottom and right border where it is smaller.

    Args:
        truth: Annotation of the whole image.
        top: First row of the crop in px.
        left: First column of the crop in px.
        size: Side of the crop in px.

    Returns:
        The annotation of the square, see `random_crop`. Where there are outlines, `points` becomes None: the
        centre of a nucleus is that of the part in view.
    """
    labels, points, types = truth.labels, truth.points, truth.types
    shape = (size, size)
    if labels is not None:
        labels, types = _renumber(labels[top : top + size, left : left + size], types)
        points = None
        if labels.shape != shape:
            labels, types = split_parts(_cut(labels, 0, 0, size), types)
    elif points is not None:
        corner = np.array([left, top], np.float32)
        points, rows = _mirror(points - corner, truth.shape, size)
        points, seen = inside(points, shape)
        types = None if types is None else types[rows[seen]]
    regions = None if truth.regions is None else np.ascontiguousarray(_cut(truth.regions, top, left, size))
    return Instances(shape, labels=labels, points=points, types=types, regions=regions)


def nuclei_by_type(samples: Sequence[Sample]) -> list[NDArray[np.float64]]:
    """List the nuclei of each type that occurs, in the order of the types; nuclei without a type are left out.

    Returns:
        For each type (N, 3): the index of the image, and the centre as (x, y) px.

    Raises:
        DataError: If no nucleus has a type.
    """
    rows = [np.zeros((0, 4))]
    for index, sample in enumerate(samples):
        if sample.truth.types is not None:
            centres, types = sample.truth.centroids(), sample.truth.types
            rows.append(np.column_stack([types, np.full(len(types), index), centres]))
    every = np.concatenate(rows)
    kinds = np.unique(every[every[:, 0] > 0, 0])
    if not len(kinds):
        raise DataError(f"none of the {len(samples)} training images has a nucleus with a type; train without balance")
    return [every[every[:, 0] == kind, 1:] for kind in kinds]


def cut_window(sample: Sample, centre: tuple[float, float], side: int) -> Sample:
    """Cut a square window around a point out of an image, as near as the border allows.

    Args:
        sample: The image.
        centre: (x, y) px.
        side: Px; where the image is smaller, the window is as large as the image.

    Returns:
        The window as an image of its own; its nuclei are numbered anew. Where there are outlines, its `points` are
        None, see `cut_instances`.
    """
    spans = []
    for middle, extent in zip(centre[::-1], sample.truth.shape, strict=True):
        start = min(max(round(middle - side / 2), 0), max(extent - side, 0))
        spans.append(slice(start, min(start + side, extent)))
    rows, columns = spans
    truth, image = sample.truth, sample.image[rows, columns]
    labels, points, types = truth.labels, truth.points, truth.types
    if labels is not None:
        labels, types = _renumber(labels[rows, columns], types)
        points = None
    elif points is not None:
        points, seen = inside(points - np.array([columns.start, rows.start], np.float32), image.shape[:2])
        types = None if types is None else types[seen]
    regions = None if truth.regions is None else truth.regions[rows, columns]
    seen_truth = Instances(image.shape[:2], labels=labels, points=points, types=types, regions=regions)
    return replace(sample, image=image, truth=seen_truth)


def _cut(array: np.ndarray[Any, Any], top: int, left: int, size: int) -> np.ndarray[Any, Any]:
    part = array[top : top + size, left : left + size]
    pad = [(0, size - part.shape[0]), (0, size - part.shape[1])] + [(0, 0)] * (array.ndim - 2)
    return part if part.shape[:2] == (size, size) else np.pad(part, pad, mode="symmetric")


def _renumber(labels: LabelMap, types: NDArray[np.int64] | None) -> tuple[LabelMap, NDArray[np.int64] | None]:
    """Do what `relabel` does, by a table over the ids: they are few here, and this runs for every item."""
    present = np.zeros(int(labels.max(initial=0)) + 1, bool)
    present[labels.ravel()] = True
    present[0] = False
    number = np.where(present, np.cumsum(present), 0).astype(np.int32)
    return number[labels], None if types is None else types[np.flatnonzero(present) - 1]


def _mirror(
    points: NDArray[np.float32], shape: tuple[int, int], size: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Add the mirror images of points (x, y) below and right of an image that is smaller than `size`.

    Returns:
        The points with their images, and the rows that they come from.
    """
    rows = np.arange(len(points))
    for axis, extent in ((0, shape[1]), (1, shape[0])):
        original, source = points, rows
        for turn in range(1, -(-size // extent)):
            copy = original.copy()
            # every other copy is mirrored about the edge half a px beyond the outermost pixel centre
            copy[:, axis] = original[:, axis] if turn % 2 == 0 else extent - 1 - original[:, axis]
            copy[:, axis] += turn * extent
            points, rows = np.concatenate([points, copy]), np.concatenate([rows, source])
    return points, rows
