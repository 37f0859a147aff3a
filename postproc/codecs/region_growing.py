"""Decode the probabilities of patch classifiers by region growing (CNN2 and CNN3).

Kumar et al., A Dataset and a Technique for Generalized Nuclear Segmentation for Computational Pathology, IEEE TMI
36(7), 2017.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from postproc.codec import Array, Codec, Maps, P, Params, Targets, one_hot, tunable
from postproc.codecs.binary import part_touching
from postproc.codecs.distance import chessboard, largest
from postproc.errors import ConfigError, DataError
from postproc.instances import Instances
from postproc.pixels.compiled import compiled
from postproc.pixels.components import connected_components, fill_holes, remove_small
from postproc.pixels.labels import LabelMap

Map = NDArray[np.float32]

OUTSIDE, INSIDE, BOUNDARY = 0, 1, 2
"""Classes of a pixel."""


@dataclass(frozen=True)
class GrowingParams(Params):
    """Post-processing of three-class maps.

    Attributes:
        seed: Pixels with a higher inside probability are seeds.
        smallest: Minimum size of a seed in pixels; smaller ones are dropped.
        steps: Maximum growth of a seed in pixels.
        nuclear: Seeds grow only into pixels whose summed inside and boundary probability is higher than this.
        fall: A seed stops growing when the mean boundary probability of its next layer of pixels is less than this
            fraction of the highest so far; 1 = at the first local maximum.
    """

    seed: float = tunable(0.5, (0.4, 0.5, 0.6, 0.7))
    smallest: int = 3
    steps: int = 4
    nuclear: float = 0.5
    fall: float = tunable(0.75, (0.5, 0.75, 1.0))


@dataclass(frozen=True)
class ForegroundParams(Params):
    """Post-processing of two-class maps.

    Attributes:
        seed: Pixels with a higher probability of nucleus are nuclear.
        smallest: Minimum size of a component in pixels; smaller ones are dropped.
    """

    seed: float = tunable(0.5, (0.4, 0.5, 0.6, 0.7))
    smallest: int = 10


class _PatchCodec(Codec[P]):
    """Base of the codecs of patch classifiers, which predict a class for each pixel.

    Targets: ``classes`` int64 (H, W). Maps: ``classes`` float (C, H, W), probability of each class.
    """

    classes: ClassVar[int]

    def nuclear(self, maps: Mapping[str, Array]) -> Array | None:
        """Return the sum of the classes but the background."""
        return np.asarray(maps["classes"][1:].sum(axis=0))

    def perfect(self, targets: Mapping[str, Array]) -> Maps:
        """Return the probabilities 0 and 1."""
        return {"classes": one_hot(targets["classes"], self.classes)}


class BoundaryCodec(_PatchCodec[GrowingParams]):
    """Classes outside, inside and boundary; nuclei grow from their inside as long as the boundary is ahead.

    Args:
        thickness: Width in pixels of the boundary, which is entirely within the nucleus. The innermost pixels of a
            nucleus always count as inside, however thin it is.

    Raises:
        ConfigError: If `thickness` is less than 1.
    """

    params_type: ClassVar[type[Params]] = GrowingParams
    classes = 3

    def __init__(self, thickness: int = 2) -> None:
        if thickness < 1:
            raise ConfigError(f"thickness is {thickness} px, but a boundary is at least 1 px thick")
        self.thickness = thickness

    def encode(self, truth: Instances) -> Targets:
        """Return ``classes``: 0 = outside, 1 = inside, 2 = boundary.

        Raises:
            DataError: If the annotation has no outlines.
        """
        labels = _labels(truth)
        distance = chessboard(labels)
        rim = np.minimum(largest(distance, labels, truth.count) - 1, self.thickness)[labels]
        classes = np.where(distance > rim, INSIDE, BOUNDARY) * (labels > 0)
        return {"classes": classes.astype(np.int64)}

    def decode(self, maps: Mapping[str, Array], params: GrowingParams) -> Instances:
        """Return the grown seeds."""
        probability = np.asarray(maps["classes"], np.float32)
        seeds, _ = connected_components(probability[INSIDE] > params.seed, 4)
        seeds = remove_small(seeds, params.smallest)
        nuclear = probability[INSIDE] + probability[BOUNDARY] > params.nuclear
        labels = grow(seeds, probability[BOUNDARY], nuclear, params.steps, params.fall)
        return Instances(labels.shape, labels=labels)


class ForegroundCodec(_PatchCodec[ForegroundParams]):
    """Classes outside and nucleus; components are the nuclei. The target separates touching nuclei by 1 px."""

    params_type: ClassVar[type[Params]] = ForegroundParams
    classes = 2

    def encode(self, truth: Instances) -> Targets:
        """Return ``classes``: 0 = outside, 1 = nucleus.

        Raises:
            DataError: If the annotation has no outlines.
        """
        return {"classes": (part_touching(_labels(truth)) > 0).astype(np.int64)}

    def decode(self, maps: Mapping[str, Array], params: ForegroundParams) -> Instances:
        """Return the components of the thresholded probability."""
        nuclear = fill_holes(np.asarray(maps["classes"][INSIDE] > params.seed))
        labels = remove_small(connected_components(nuclear, 4)[0], params.smallest)
        return Instances(labels.shape, labels=labels)


def _labels(truth: Instances) -> LabelMap:
    if truth.labels is None:
        raise DataError("patch classifiers need outlines and this annotation has none. Use a dataset with label maps.")
    return truth.labels


def grow(seeds: LabelMap, boundary: Map, nuclear: NDArray[np.bool_], steps: int, fall: float) -> LabelMap:
    """Grow all seeds layer by layer, as long as the boundary is ahead of them.

    The next layer of a region consists of the free nuclear pixels among the 8 neighbours of its pixels. A pixel next to
    several regions joins the one with the most neighbours there; ties go to the lowest id.

    Args:
        seeds: int32 (H, W), ids 1..N.
        boundary: (H, W), probability of the boundary.
        nuclear: (H, W), pixels that regions may take.
        steps: Maximum number of layers.
        fall: A region stops when a layer's mean boundary probability is below this fraction of the highest so far.

    Returns:
        int32 (H, W), ids 1..N.
    """
    return _grow(np.array(seeds, np.int32, order="C"), boundary, nuclear, steps, fall)


@compiled
def _grow(labels: LabelMap, boundary: Map, nuclear: NDArray[np.bool_], steps: int, fall: float) -> LabelMap:
    # Only free nuclear pixels can be joined, so each step visits the list of those that remain.
    width = labels.shape[1]
    free = np.flatnonzero((labels == 0) & nuclear)
    joined = np.empty(free.size, np.int32)
    best = np.zeros(labels.max() + 1 if labels.size else 1, np.float64)
    active = np.ones(best.size, np.bool_)
    near = np.empty(8, np.int32)
    for _ in range(steps):
        size, total = np.zeros(best.size, np.int64), np.zeros(best.size, np.float64)
        for k in range(free.size):
            y, x = free[k] // width, free[k] % width
            joined[k] = _most_frequent(near, _active_around(labels, active, y, x, near))
            size[joined[k]] += 1
            total[joined[k]] += boundary[y, x]
        for region in range(1, best.size):
            mean = total[region] / max(size[region], 1)
            active[region] &= size[region] > 0 and mean >= fall * best[region]
            best[region] = max(best[region], mean)
        left = 0
        for k in range(free.size):
            if joined[k] != 0 and active[joined[k]]:
                labels[free[k] // width, free[k] % width] = joined[k]
            else:
                free[left] = free[k]
                left += 1
        if left == free.size:
            break
        free = free[:left]
    return labels


@compiled
def _active_around(labels: LabelMap, active: NDArray[np.bool_], y: int, x: int, near: NDArray[np.int32]) -> int:
    """Write the active regions among the 8 neighbours of a free pixel to `near`, and return their number."""
    size = 0
    for ny in range(max(y - 1, 0), min(y + 2, labels.shape[0])):
        for nx in range(max(x - 1, 0), min(x + 2, labels.shape[1])):
            if labels[ny, nx] != 0 and active[labels[ny, nx]]:
                near[size] = labels[ny, nx]
                size += 1
    return size


@compiled
def _most_frequent(near: NDArray[np.int32], size: int) -> int:
    """Return the most frequent of `size` regions, in ties the lowest, or 0 if there is none."""
    most, found = 0, 0
    for k in range(size):
        number = 0
        for other in near[:size]:
            number += other == near[k]
        if number > most or (number == most and near[k] < found):
            most, found = number, near[k]
    return found
