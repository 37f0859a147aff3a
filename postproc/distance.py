"""Chessboard distance maps (DIST) and their decoding by morphological dynamics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from postproc.codec import Array, Codec, Maps, Params, Targets, tunable
from postproc.compiled import compiled
from postproc.dynamics import dynamics_watershed
from postproc.errors import ConfigError, DataError
from postproc.instances import Instances

Target = Literal["raw", "normalised"]

GREY = 255
"""Largest level of the official post-processing, which works on 8-bit maps."""

P1_UNIT, P2_UNIT = 0.3, 0.1
"""What 1 in `DistanceParams` stands for in normalised maps, as shares of a nucleus' largest distance."""


@dataclass(frozen=True)
class DistanceParams(Params):
    """Post-processing parameters of DIST (Naylor et al. 2018, section IV-D, ranges of table I).

    As in the official code, the predicted map is truncated to whole px before its maxima are sought, so the
    dynamics are whole numbers, and bumps of less than one level are mostly plateaus even with ``p1 = 0``. The
    threshold is compared with the map as predicted: on the truncated one all values of `p2` below 1 would
    mean the same.

    Table III reports ``p1 = 0``, selected on validation images for the authors' network. The chessboard
    distance of a true nucleus often has several maxima one level above their pass, all of which ``p1 = 0``
    takes for nuclei: decoding the exact distance maps of Kumar's 16 training images gives a mean PQ of 0.894 with
    ``p1 = 0``, 0.992 with 1 and 0.979 with 2 (10 of CoNSeP's: 0.805, 0.983, 0.942), so 1 is the default.
    ``DistanceParams(p1=0.0)`` gives the published setting; protocol ``strict`` tries it.

    Attributes:
        p1: Morphological dynamics that a maximum must exceed to be a nucleus (equation 4), in px. Normalised
            maps: in units of 0.3 of the largest distance, the step by which small nuclei rise.
        p2: Pixels whose predicted distance exceeds this are nuclear, in px. Normalised maps: in tenths of the
            largest distance.
    """

    p1: float = tunable(1.0, (0.0, 1.0, 2.0))
    p2: float = tunable(0.5, (0.5, 0.6, 0.7, 0.8, 0.9, 1.0))


class DistanceCodec(Codec[DistanceParams]):
    """Nuclei as a map of distances to whatever is not the same nucleus.

    Targets and maps are ``distance``, float32 (1, H, W): px, or divided by the nucleus' largest distance.

    Args:
        target: ``raw`` distances in px (what DIST uses) or ``normalised`` to [0, 1] in each nucleus (the
            paper's alternative, section IV-C).
        line: Leave the pixels along the watershed between two nuclei empty, as early versions of the official
            code did (see `postproc.dynamics.dynamics_watershed`).

    Raises:
        ConfigError: If `target` is neither.
    """

    params_type: ClassVar[type[Params]] = DistanceParams

    def __init__(self, target: Target = "raw", *, line: bool = False) -> None:
        if target not in ("raw", "normalised"):
            raise ConfigError(f"distance target {target!r} is unknown. Choices: raw, normalised.")
        self.target = target
        self.line = line

    def encode(self, truth: Instances) -> Targets:
        """Return ``distance``, float32 (1, H, W).

        Raises:
            DataError: If the annotation has no outlines.
        """
        if truth.labels is None:
            raise DataError("distance maps need outlines and this annotation has none. Use a dataset with label maps.")
        distance = chessboard(truth.labels)
        if self.target == "normalised":
            distance /= np.maximum(largest(distance, truth.labels, truth.count), 1)[truth.labels]
        return {"distance": distance[None]}

    def perfect(self, targets: Mapping[str, Array]) -> Maps:
        """Return the targets themselves: the network regresses them."""
        return {"distance": np.array(targets["distance"], np.float32)}

    def decode(self, maps: Mapping[str, Array], params: DistanceParams) -> Instances:
        """Return the watershed regions of the maxima whose dynamics exceed `params.p1`.

        Args:
            maps: ``distance``, float (1, H, W).
            params: Thresholds.
        """
        distance = np.asarray(maps["distance"][0], np.float32)
        p1, p2 = params.p1, params.p2
        levels = distance
        if self.target == "normalised":
            p1, p2 = p1 * P1_UNIT * GREY, p2 * P2_UNIT
            levels = distance * GREY
        truncated = np.clip(levels, 0, GREY).astype(np.uint8)
        labels = dynamics_watershed(truncated, distance > p2, p1, line=self.line)
        return Instances(labels.shape, labels=labels)


def chessboard(labels: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    """Measure how far each nuclear pixel is from anything else, in the chessboard metric.

    "Anything else" is background or another nucleus inside the image; the border of the image is neither.
    Where one nucleus fills the image, only the outside bounds the distance; that to the outside is returned.

    A pixel at distance d > 1 from anything else is at distance d - 1 from the nearest pixel that has a
    differing 8-neighbour, so one distance transform over all nuclei at once is exact.

    Args:
        labels: (H, W), 0 = background; any ids.

    Returns:
        float32 (H, W) in px, 0 on background, 1 on the outermost pixels of a nucleus.
    """
    if not labels.any():
        return np.zeros(labels.shape, np.float32)
    inner = interior(np.ascontiguousarray(labels))
    if inner.all():
        outside = cv2.distanceTransform(np.pad(inner, 1), cv2.DIST_C, 3)[1:-1, 1:-1]
        return np.ascontiguousarray(outside, np.float32)
    distance = np.asarray(cv2.distanceTransform(inner, cv2.DIST_C, 3), np.float32)
    return np.where(labels != 0, distance + 1, np.float32(0))


@compiled
def interior(labels: Array) -> NDArray[np.uint8]:
    """Return uint8 (H, W): 1 where all 8 neighbours inside the image have the pixel's own label."""
    height, width = labels.shape
    same = np.zeros((height, width), np.uint8)
    for y in range(height):
        up, down = max(y - 1, 0), min(y + 1, height - 1)
        for x in range(width):
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            label = labels[y, x]
            same[y, x] = (
                labels[up, left] == label
                and labels[up, x] == label
                and labels[up, right] == label
                and labels[y, left] == label
                and labels[y, right] == label
                and labels[down, left] == label
                and labels[down, x] == label
                and labels[down, right] == label
            )
    return same


@compiled
def largest(values: Array, labels: Array, count: int) -> NDArray[np.float32]:
    """Return float32 (count + 1,): the largest value of each label, 0 for labels without pixels."""
    top = np.zeros(count + 1, np.float32)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label = labels[y, x]
            if values[y, x] > top[label]:
                top[label] = values[y, x]
    return top
