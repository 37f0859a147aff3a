"""Foreground maps: the border weight map of U-Net, and decoding with and without morphological dynamics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from postproc.codec import Array, Codec, Maps, P, Params, Targets, tunable
from postproc.errors import DataError
from postproc.instances import Instances
from postproc.pixels.compiled import compiled
from postproc.pixels.components import connected_components
from postproc.pixels.dynamics import dynamics_support, dynamics_watershed
from postproc.pixels.labels import LabelMap, relabel

NEGLIGIBLE = 1e-3
"""Border weights below this are set to 0; they are added to class weights of the order of 1."""


@dataclass(frozen=True)
class BinaryParams(Params):
    """Post-processing of plain foreground maps.

    Attributes:
        threshold: Pixels with a higher probability are nuclear.
    """

    threshold: float = tunable(0.5, (0.3, 0.4, 0.5, 0.6, 0.7))


@dataclass(frozen=True)
class DynamicsParams(Params):
    """Post-processing of the rows "+ PP" (Naylor et al. 2018, section IV-D and table I).

    Attributes:
        p1: Morphological dynamics that a maximum of the probability must exceed, in 1/255. Each method sets its own
            default.
        p2: Pixels with a higher probability are nuclear.
    """

    p1: float = tunable(10.0, (6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0))
    p2: float = 0.5


class ForegroundCodec(Codec[P]):
    """Base of the foreground codecs: their targets, independent of the decoding."""

    surroundings: ClassVar[int | None] = 2

    def __init__(
        self,
        split: bool,
        *,
        w0: float = 10.0,
        sigma: float = 5.0,
        balance: tuple[float, float] = (1.0, 1.0),
        params: P | None = None,
    ) -> None:
        self.split = split
        self.w0 = w0
        self.sigma = sigma
        self.balance = balance
        self.params = params

    def defaults(self) -> P:
        """Return the parameters set by the method, else those of the codec."""
        return super().defaults() if self.params is None else self.params

    def encode(self, truth: Instances) -> Targets:
        """Return ``foreground`` and ``weight``.

        Raises:
            DataError: If the annotation has no outlines.
        """
        if truth.labels is None:
            raise DataError(
                "foreground maps need outlines and this annotation has none. Use a dataset with label maps."
            )
        nuclei = part_touching(truth.labels) if self.split else truth.labels
        foreground = nuclei > 0
        weight = np.where(foreground, self.balance[1], self.balance[0]).astype(np.float32)
        weight += border_weights(nuclei, self.w0, self.sigma)
        return {"foreground": foreground.astype(np.int64), "weight": weight}

    def nuclear(self, maps: Mapping[str, Array]) -> Array | None:
        """Return ``foreground``."""
        return np.asarray(maps["foreground"][0])

    def perfect(self, targets: Mapping[str, Array]) -> Maps:
        """Return the foreground as the probabilities 0 and 1."""
        return {"foreground": targets["foreground"][None].astype(np.float32)}

    def _instances(self, labels: LabelMap) -> Instances:
        return Instances(labels.shape, labels=close_seams(labels) if self.split else labels)

    def _with_seams(self, support: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Add the pixels that `close_seams` may assign to nuclei, so that the nuclei on both sides are one part."""
        if not self.split:
            return support
        return cv2.dilate(support.view(np.uint8), np.ones((3, 3), np.uint8)).view(np.bool_)  # type: ignore[no-any-return]


class BinaryCodec(ForegroundCodec[BinaryParams]):
    """Foreground maps whose 8-connected components are the nuclei.

    Targets: ``foreground`` int64 (H, W), 0 or 1, and ``weight`` float32 (H, W), the weight of each pixel in
    the loss. Maps: ``foreground`` float (1, H, W), probability of nucleus.

    Args:
        split: Separate touching nuclei in the target by a background border of 1 px, as U-Net does, and close such
            borders after decoding. If False, touching nuclei form one connected foreground.
        w0: Height of the border weight.
        sigma: Its width in pixels.
        balance: Class weights (background, nucleus): w_c of U-Net's equation 2.
    """

    params_type: ClassVar[type[Params]] = BinaryParams

    def decode(self, maps: Mapping[str, Array], params: BinaryParams) -> Instances:
        """Return the components of the thresholded ``foreground``."""
        nuclear = np.asarray(maps["foreground"][0]) > params.threshold
        return self._instances(connected_components(nuclear, 8)[0])

    def support(self, maps: Mapping[str, Array], params: BinaryParams) -> NDArray[np.bool_]:
        """Mark the nuclear pixels and, with `split`, their neighbours."""
        return self._with_seams(np.asarray(maps["foreground"][0]) > params.threshold)


class BinaryDynamicsCodec(ForegroundCodec[DynamicsParams]):
    """Foreground maps that are split between maxima with high dynamics (the rows "+ PP").

    Targets: ``foreground`` int64 (H, W), 0 or 1, and ``weight`` float32 (H, W), the weight of each pixel in
    the loss. Maps: ``foreground`` float (1, H, W), probability of nucleus.

    Args:
        split: Separate touching nuclei in the target by a background border of 1 px, as U-Net does, and close such
            borders after decoding. If False, touching nuclei form one connected foreground.
        w0: Height of the border weight.
        sigma: Its width in pixels.
        balance: Class weights (background, nucleus): w_c of U-Net's equation 2.
        params: Default parameters. Naylor et al. 2018 selected p1 = 10 for FCN (the codec's own) and 11 for U-Net
            (table III); Naylor et al. 2017 used 7 (lambda, section 6).
    """

    params_type: ClassVar[type[Params]] = DynamicsParams

    def decode(self, maps: Mapping[str, Array], params: DynamicsParams) -> Instances:
        """Return the watershed regions of the maxima whose dynamics exceed p1.

        As in the official code, maxima and watershed use ``foreground`` rounded to 1/255.
        """
        probability = np.asarray(maps["foreground"][0], np.float32)
        levels = np.rint(np.clip(probability, 0, 1) * 255).astype(np.uint8)
        return self._instances(dynamics_watershed(levels, probability > params.p2, params.p1))

    def support(self, maps: Mapping[str, Array], params: DynamicsParams) -> NDArray[np.bool_]:
        """Mark the nuclear pixels, those of slightly lower probability and, with `split`, their neighbours."""
        probability = np.asarray(maps["foreground"][0], np.float32)
        levels = np.rint(np.clip(probability, 0, 1) * 255).astype(np.uint8)
        lowest = 255 * params.p2 - 1  # levels are rounded
        return self._with_seams(dynamics_support(levels, probability > params.p2, lowest, params.p1))


@compiled
def part_touching(labels: NDArray[Any]) -> NDArray[Any]:
    """Separate touching nuclei by a border of 1 px.

    Of two 8-neighbours of different nuclei, the one with the higher id becomes background.

    Args:
        labels: (H, W), 0 = background; any ids.

    Returns:
        A new map of the same dtype, in which no two nuclei touch, not even at a corner.
    """
    height, width = labels.shape
    parted = labels.copy()
    for y in range(height):
        for x in range(width):
            label = labels[y, x]
            if label == 0:
                continue
            for ny in range(max(y - 1, 0), min(y + 2, height)):
                for nx in range(max(x - 1, 0), min(x + 2, width)):
                    if labels[ny, nx] != 0 and labels[ny, nx] < label:
                        parted[y, x] = 0
    return parted


@compiled
def close_seams(labels: NDArray[Any]) -> NDArray[Any]:
    """Restore the borders that `part_touching` removed.

    Args:
        labels: (H, W), 0 = background.

    Returns:
        A new map in which each background pixel with two or more nuclei among its 8 neighbours belongs to the nucleus
        with the most pixels there. Ties go to the highest id, the one that lost the pixel in `part_touching`.
    """
    # Two passes over the neighbours of background pixels only: collect their ids, then, if they differ, count votes.
    height, width = labels.shape
    closed = labels.copy()
    near = np.empty(9, labels.dtype)
    for y in range(height):
        for x in range(width):
            if labels[y, x] != 0:
                continue
            size = 0
            several = False
            for ny in range(max(y - 1, 0), min(y + 2, height)):
                for nx in range(max(x - 1, 0), min(x + 2, width)):
                    if labels[ny, nx] != 0:
                        near[size] = labels[ny, nx]
                        several |= near[size] != near[0]
                        size += 1
            if several:
                best, most = near[0], 0
                for k in range(size):
                    number = np.sum(near[:size] == near[k])
                    if number > most or (number == most and near[k] > best):
                        best, most = near[k], number
                closed[y, x] = best
    return closed


def border_weights(labels: NDArray[np.integer[Any]], w0: float = 10.0, sigma: float = 5.0) -> NDArray[np.float32]:
    """Compute weights for the background between close nuclei (Ronneberger et al. 2015, second term of equation 2).

    The weight is ``w0 exp(-(d1 + d2)^2 / (2 sigma^2))`` with the Euclidean distances d1, d2 to the two
    nearest nuclei. It is below `NEGLIGIBLE` where ``d1 + d2 > reach = sigma sqrt(2 ln(w0 / NEGLIGIBLE))``. On
    background d1 >= 1, so that elsewhere d2 <= reach - 1: computing the distance to each nucleus within that radius of
    its bounding box finds both distances of every pixel with a weight. There the result is exact; elsewhere it is 0,
    which is too small by less than `NEGLIGIBLE`.

    Args:
        labels: (H, W), 0 = background; any ids.
        w0: Height.
        sigma: Width in pixels.

    Returns:
        float32 (H, W), 0 on nuclei.
    """
    weight = np.zeros(labels.shape, np.float32)
    if w0 <= NEGLIGIBLE:
        return weight
    reach = sigma * math.sqrt(2 * math.log(w0 / NEGLIGIBLE))
    margin = max(math.ceil(reach - 1), 1)
    compact = labels if labels.dtype == np.int32 else relabel(labels)[0]
    first = np.full(labels.shape, 2 * reach, np.float32)
    second = first.copy()
    for index, box in enumerate(find_objects(compact), start=1):
        if box is None:
            continue
        around = tuple(slice(max(side.start - margin, 0), side.stop + margin) for side in box)
        distance = cv2.distanceTransform((compact[around] != index).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        near = first[around]
        np.minimum(second[around], np.maximum(near, distance), out=second[around])
        np.minimum(near, distance, out=near)
    close = (first + second <= reach + 1) & (labels == 0)
    # OpenCV's last bits depend on the memory address of its input. Squared distances are integers: restore them.
    d1, d2 = (np.sqrt(np.rint(distance[close].astype(np.float64) ** 2)) for distance in (first, second))
    weight[close] = np.where(d1 + d2 <= reach, w0 * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2)), 0)
    return weight
