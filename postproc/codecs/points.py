"""Nucleus centres as proximity maps, and their decoding (KiNet, structured regression).

Xing et al., Pixel-to-pixel Learning with Weak Supervision for Single-stage Nucleus Recognition in Ki67
Images, IEEE TBME 2019, equation 1 and section III-C.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from postproc.codec import Array, Codec, Maps, Params, Targets, tunable
from postproc.errors import DataError
from postproc.instances import Instances

IGNORED = -100
"""Class of a pixel without region annotation; cross-entropy ignores this value."""

WEAKEST = 0.01
"""Minimum response of a candidate peak, as a fraction of the highest; it excludes noise in the background."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class PointsParams(Params):
    """Parameters of the search for peaks.

    Attributes:
        xi: Responses below this fraction of the image's highest response are suppressed (section III-C).
        distance: Minimum distance of detections: they are more than this many pixels apart along rows or columns. The
            paper does not state it; the authors' public code uses 5.
        floor: Responses below this are always suppressed. Without it, an image without nuclei yields the peaks of its
            noise. It only takes effect if the highest response is below ``floor / xi``.
    """

    xi: float = tunable(0.5, (0.2, 0.3, 0.4, 0.5, 0.6, 0.7))
    distance: int = 5
    floor: float = 0.1


@dataclass(frozen=True)
class PointsCodec(Codec[PointsParams]):
    """Centres and types of nuclei as one proximity map per type.

    The paper leaves these details open:

    - A nucleus with a response in several channels is one detection: peaks are searched in the maximum over the
      channels (as in the authors' code), and the highest channel at the peak is the type.
    - A plateau is one detection, at its centre; of two peaks closer than `distance` the higher one is kept; ties go to
      the upper, then to the left one.
    - Peaks at the image border are included.
    - Suppression removes low values only, so it never lets a new peak appear: decoding once with ``xi = floor
      = 0`` and thresholding `scores` yields the detections for every xi (the precision-recall curve).

    Attributes:
        types: Number of nucleus types; 0 = data without types: one map, and detections without a type.
        alpha: Decay of the proximity (equation 1).
        radius: Pixels from the centre at which the proximity reaches 0 (d in equation 1).
    """

    types: int
    alpha: float = 3.0
    radius: float = 15.0

    params_type: ClassVar[type[Params]] = PointsParams

    @property
    def channels(self) -> int:
        """Number of proximity maps."""
        return max(1, self.types)

    def encode(self, truth: Instances) -> Targets:
        """Return the proximity maps and the annotated regions of a crop.

        If the data has types, nuclei of type 0 appear in none of the maps.

        Args:
            truth: Annotation with points or labels, regions, both or neither.

        Returns:
            ``proximity`` float32 (channels, H, W) in [0, 1]; ``has_points`` float32 (), 0 if the nuclei are not
            annotated at all (`proximity` is then 0 and must be ignored), else 1; ``regions`` int64 (H, W), 0 = other
            tissue, 1 = tumour, -100 = not annotated.

        Raises:
            DataError: If nuclei have no types although the codec has types.
        """
        annotated = truth.points is not None or truth.labels is not None
        maps = np.zeros((self.channels, *truth.shape), np.float32)
        for channel, centres in enumerate(self._centres(truth)):
            maps[channel] = proximity(centres, truth.shape, self.alpha, self.radius)
        return {
            "proximity": maps,
            "has_points": np.array(annotated, np.float32),
            "regions": region_classes(truth),
        }

    def _centres(self, truth: Instances) -> list[Floats]:
        centres = truth.centroids()
        if not self.types:
            return [centres]
        if truth.types is None:
            if len(centres):
                raise DataError(
                    f"{len(centres)} nuclei have no types, but the method is to learn {self.types}. "
                    "Train on a dataset with types, or without asking for types."
                )
            return [centres] * self.types
        return [centres[truth.types == kind] for kind in range(1, self.types + 1)]

    def decode(self, maps: Mapping[str, Array], params: PointsParams) -> Instances:
        """Return the detections of an image, the most confident one first.

        Args:
            maps: ``proximity`` float (channels, H, W).
            params: Parameters of the search.

        Returns:
            `points`, `scores` (the response at the peak, cut to [0, 1]) and, if the codec has types, `types`
            1..T.
        """
        responses = np.asarray(maps["proximity"], np.float32)
        threshold = max(params.xi * float(responses.max(initial=0)), params.floor)
        return self._detections(responses, threshold, params.distance, 1.0)

    def _detections(self, responses: Floats, threshold: float, distance: int, unit: float) -> Instances:
        """Return the peaks of at least `threshold`; scores are responses divided by `unit`, cut to [0, 1]."""
        best = responses.max(axis=0)
        points, rows, columns = find_peaks(best, distance, threshold)
        types = responses[:, rows, columns].argmax(axis=0).astype(np.int64) + 1 if self.types else None
        scores = np.clip(best[rows, columns] / unit, 0, 1)
        return Instances(best.shape, points=points, types=types, scores=scores)

    def candidates(self, maps: Mapping[str, Array], params: PointsParams) -> Instances:
        """Return all peaks of an image above `WEAKEST`, scored by their fraction of the highest response.

        Candidates with a score of at least xi are the detections at that xi (section III-C), subject to `floor`.
        """
        responses = np.asarray(maps["proximity"], np.float32)
        highest = max(float(responses.max(initial=0)), float(np.finfo(np.float32).tiny))
        return self._detections(responses, WEAKEST * highest, params.distance, highest)

    def perfect(self, targets: Mapping[str, Array]) -> Maps:
        """Return the proximity maps themselves."""
        return {"proximity": np.asarray(targets["proximity"], np.float32)}


def proximity(centres: Floats, shape: tuple[int, int], alpha: float, radius: float) -> Floats:
    """Return the proximity to the closest centre (equation 1): 1 at its pixel, 0 from `radius` on.

    Args:
        centres: (N, 2) as (x, y) px; each is rounded to the nearest pixel, as in the authors' published maps.
        shape: (H, W) px.
        alpha: Decay; the larger, the sharper the peak.
        radius: Pixels at which the proximity reaches 0.

    Returns:
        float32 (H, W) in [0, 1].
    """
    if not len(centres):
        return np.zeros(shape, np.float32)
    height, width = shape
    columns, rows = np.rint(centres).astype(np.int64).T
    away = np.ones(shape, np.uint8)
    away[rows.clip(0, height - 1), columns.clip(0, width - 1)] = 0
    distance = cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    decay = np.expm1(alpha * (1 - distance / radius)) / math.expm1(alpha)
    return np.where(distance <= radius, decay, 0).astype(np.float32)


def region_classes(truth: Instances) -> NDArray[np.int64]:
    """Return classes of the weak regions, int64 (H, W): 0 other tissue, 1 tumour, -100 unknown."""
    if truth.regions is None:
        return np.full(truth.shape, IGNORED, np.int64)
    return np.where(truth.regions == 0, IGNORED, truth.regions.astype(np.int64) - 1)


def find_peaks(
    response: Floats, distance: int, threshold: float
) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Find the local maxima of a map (non-maximum suppression).

    Args:
        response: float32 (H, W).
        distance: A peak is the highest value of the square that reaches this many pixels to each side.
        threshold: Minimum value of a peak.

    Returns:
        The peaks, highest first: float32 (N, 2) as (x, y) px (the centre of a plateau may be between pixels), and the
        row and column of one pixel of each, int64 (N,).
    """
    side = 2 * distance + 1
    highest = cv2.dilate(response, np.ones((side, side), np.uint8))
    candidates = ((response == highest) & (response >= threshold)).astype(np.uint8)
    count, plateaus, _, centres = cv2.connectedComponentsWithStats(candidates, connectivity=8)
    _, first = np.unique(plateaus, return_index=True)
    rows, columns = np.divmod(first[-(count - 1) :] if count > 1 else first[:0], response.shape[1])
    order = np.argsort(-response[rows, columns], kind="stable")
    kept = order[_apart(centres[1:][order], distance)]
    return centres[1:][kept].astype(np.float32), rows[kept], columns[kept]


def _apart(points: NDArray[np.float64], distance: float) -> NDArray[np.bool_]:
    """Mark the points that remain when each removes the later ones within `distance` px along both axes."""
    stays = np.ones(len(points), np.bool_)
    if len(points) < 2:
        return stays
    pairs = cKDTree(points).query_pairs(distance, p=np.inf, output_type="ndarray")
    for before, after in pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]:
        if stays[before]:
            stays[after] = False
    return stays


__all__ = ["IGNORED", "PointsCodec", "PointsParams", "find_peaks", "proximity", "region_classes"]
