"""Draw training items from samples: crop, augment, encode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.drawing.parts import BORDER, inside, split_parts
from datamodules.reading.sample import Sample
from postproc.codec import Codec, Targets
from postproc.errors import DataError
from postproc.instances import Instances
from postproc.pixels.labels import LabelMap


class Area(NamedTuple):
    """A rectangle of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


def area_around(centre: tuple[float, float], side: int, shape: tuple[int, int]) -> Area:
    """Return the square around a point, shifted to stay inside the image.

    Args:
        centre: (x, y) in pixels.
        side: Side in pixels; in a smaller image, the area is as large as the image.
        shape: (H, W) of the image.
    """
    starts = [
        min(max(round(middle - side / 2), 0), max(extent - side, 0))
        for middle, extent in zip(centre[::-1], shape, strict=True)
    ]
    return Area(*starts, *(min(side, extent - start) for start, extent in zip(starts, shape, strict=True)))


class Drawer(Protocol):
    """Drawer of a training item from a sample."""

    def __call__(self, sample: Sample, rng: np.random.Generator, area: Area | None = None) -> Targets:
        """Return ``image``, uint8 (3, crop, crop), and the codec's targets; `rng` is the only source of randomness.

        Crops are in `area` before augmentation; None = anywhere in the image.
        """


class CropDrawer:
    """Random crop, augmentation of image and annotation together, and encoding.

    If the policy rotates or deforms, it gets a larger window around the crop and keeps its centre, so the image is
    mirrored only beyond the image border. Positions are distributed uniformly, as without augmentation.

    Args:
        crop: Side of the crop, in pixels; smaller images are mirrored.
        codec: Codec that encodes the annotation of the augmented crop.
        policy: Name of an augmentation policy.
    """

    def __init__(self, crop: int, codec: Codec[Any], policy: str) -> None:
        from datamodules.drawing.augment import build_policy  # imports albumentations, which inference does not need

        self._crop = crop
        self._codec = codec
        self._policy = build_policy(policy)

    def __call__(self, sample: Sample, rng: np.random.Generator, area: Area | None = None) -> Targets:
        """Return one item."""
        from datamodules.drawing.augment import augment

        image, truth = random_window(sample, self._crop, rng, self._policy.window(self._crop), area)
        image, truth = augment(self._policy, image, truth, rng, self._crop)
        item = self._codec.encode(truth)
        item["image"] = np.ascontiguousarray(image.transpose(2, 0, 1))
        return item


def random_window(
    sample: Sample, size: int, rng: np.random.Generator, window: int | None = None, area: Area | None = None
) -> tuple[NDArray[np.uint8], Instances]:
    """Cut the window around a random square out of a sample, mirrored beyond the image border.

    Args:
        sample: The image.
        size: Side of the square, in pixels; it is within `area` unless that is smaller.
        rng: Source of the position.
        window: Side of the window, in pixels: `size` plus an even number; None = `size`.
        area: Part of the image from which the square is drawn; None = the whole image.

    Returns:
        uint8 (window, window, 3) and the annotation of that part, see `cut_instances`. Points are mirrored together
        with the image.
    """
    top, left, height, width = area or Area(0, 0, *sample.truth.shape)
    top += int(rng.integers(0, max(height - size, 0) + 1))
    left += int(rng.integers(0, max(width - size, 0) + 1))
    # an area smaller than the square is at the border or is the whole image
    top, left = (max(min(k, n - size), 0) for k, n in zip((top, left), sample.truth.shape, strict=True))
    window = size if window is None else window
    beyond = (window - size) // 2
    corner = (top - beyond, left - beyond)
    return _cut(sample.image, *corner, window), cut_instances(sample.truth, *corner, window, renumber=window == size)


def cut_instances(truth: Instances, top: int, left: int, size: int, *, renumber: bool = True) -> Instances:
    """Cut a square out of an annotation, mirrored beyond the image border.

    Args:
        truth: Annotation of the whole image.
        top: First row of the square; may be negative.
        left: First column of the square; may be negative.
        size: Side of the square, in pixels.
        renumber: Renumber the nuclei 1..N; a mirrored copy is then a separate nucleus unless it touches the original.
            False keeps ids and types for a later renumbering.

    Returns:
        The annotation of the square. If there are outlines, `points` becomes None: the centre of a nucleus is that of
        the visible part.
    """
    labels, points, types = truth.labels, truth.points, truth.types
    shape = (size, size)
    if labels is not None:
        labels, points = _cut(labels, top, left, size), None
        if renumber:
            labels, types = _renumber(labels, types)
            whole = min(top, left) >= 0 and top + size <= truth.shape[0] and left + size <= truth.shape[1]
            if not whole:
                labels, types = split_parts(labels, types)
        elif types is not None:
            types = types[: int(labels.max(initial=0))]
    elif points is not None:
        points, rows = _mirror(points, truth.shape, (top, left), size)
        points, seen = inside(points - np.array([left, top], np.float32), shape)
        types = None if types is None else types[rows[seen]]
    regions = None if truth.regions is None else _cut(truth.regions, top, left, size)
    return Instances(shape, labels=labels, points=points, types=types, regions=regions)


def nuclei_by_type(samples: Sequence[Sample]) -> list[NDArray[np.float64]]:
    """List the nuclei of each type that occurs, in the order of the types; without nuclei that have no type.

    Returns:
        For each type (N, 3): the index of the image, and the centre as (x, y) in pixels.

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
    """Cut a square window around a point, shifted to stay inside the image.

    Args:
        sample: The image.
        centre: (x, y) in pixels.
        side: Side in pixels; in a smaller image, the window is as large as the image.

    Returns:
        The window as a separate sample with renumbered nuclei. If there are outlines, its `points` are None, see
        `cut_instances`.
    """
    top, left, height, width = area_around(centre, side, sample.truth.shape)
    rows, columns = slice(top, top + height), slice(left, left + width)
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


def _cut(array: NDArray[Any], top: int, left: int, size: int) -> NDArray[Any]:
    """Return the square of a map, mirrored beyond the ends of the map."""
    height, width = array.shape[:2]
    part = array[max(top, 0) : top + size, max(left, 0) : left + size]
    beyond = (max(-top, 0), max(top + size - height, 0), max(-left, 0), max(left + size - width, 0))
    if not any(beyond):
        return np.ascontiguousarray(part)
    return np.asarray(cv2.copyMakeBorder(part, *beyond, BORDER))


def _renumber(labels: LabelMap, types: NDArray[np.int64] | None) -> tuple[LabelMap, NDArray[np.int64] | None]:
    """Relabel like `relabel`, but with a lookup table: ids are few here, and this runs for every item."""
    present = np.zeros(int(labels.max(initial=0)) + 1, bool)
    present[labels.ravel()] = True
    present[0] = False
    number = np.where(present, np.cumsum(present), 0).astype(np.int32)
    return number[labels], None if types is None else types[np.flatnonzero(present) - 1]


def _mirror(
    points: NDArray[np.float32], shape: tuple[int, int], corner: tuple[int, int], size: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Add the mirror images of points (x, y) that are visible in a square beyond the image border.

    Args:
        points: In pixels of the image.
        shape: (H, W) of the image.
        corner: (top, left) of the square.
        size: Side of the square.

    Returns:
        The points with their mirror images, and their original rows.
    """
    rows = np.arange(len(points))
    for axis, extent, start in ((0, shape[1], corner[1]), (1, shape[0], corner[0])):
        original, source = points, rows
        for turn in range(start // extent, -(-(start + size) // extent)):
            if turn == 0:
                continue
            copy = original.copy()
            # every other copy is mirrored about the edge, half a pixel beyond the outermost pixel centre
            copy[:, axis] = original[:, axis] if turn % 2 == 0 else extent - 1 - original[:, axis]
            copy[:, axis] += turn * extent
            points, rows = np.concatenate([points, copy]), np.concatenate([rows, source])
    return points, rows
