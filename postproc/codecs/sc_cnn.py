"""Nucleus centres as the spatially constrained likelihood of SC-CNN, and their decoding by local maxima.

Sirinukunwattana et al., Locality Sensitive Deep Learning for Detection and Classification of Nuclei in Routine Colon
Cancer Histology Images, IEEE TMI 35(5), 2016. The network works on cells of `factor` x `factor` px of the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from postproc.codec import Array, Codec, Maps, Params, Targets, tunable
from postproc.codecs.points import Floats, find_peaks
from postproc.errors import DataError
from postproc.instances import Instances

WINDOW = 11
"""Side in cells of the window at the centre of a patch in which centres are predicted."""
REACH = 4.0
"""Cells from a centre within which the likelihood is above 0 (d in the paper)."""
WEAKEST = 0.01
"""Minimum likelihood of a candidate."""


@dataclass(frozen=True)
class SCCNNParams(Params):
    """Parameters of the search for local maxima.

    Attributes:
        threshold: Maxima of lower likelihood are discarded; the paper chose its value empirically.
        distance: Of maxima at most this many cells apart along rows and columns, only the highest counts. The paper
            does not state the value.
    """

    threshold: float = tunable(0.15, (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4))
    distance: int = tunable(3, (2, 3, 4))


@dataclass(frozen=True)
class SCCNNCodec(Codec[SCCNNParams]):
    """Centres of nuclei, and around each centre the type of the closest nucleus.

    Attributes:
        types: Number of nucleus types T; 0 = data without types, and detections without a type.
        factor: Pixels of the image along each side of a cell.
        neighbourhood: Radius in cells around a centre within which patches determine the type of its nucleus: the
            classifier trains on them, and the neighbouring ensemble averages their predictions.
    """

    types: int
    factor: int = 1
    neighbourhood: float = 4.0

    params_type: ClassVar[type[Params]] = SCCNNParams

    def encode(self, truth: Instances) -> Targets:
        """Return centres and types of a crop.

        Args:
            truth: Annotation with points or labels, or neither.

        Returns:
            ``centres`` float32 (H, W), 1 at the pixel of each centre, else 0; ``classes`` int64 (H, W), type 1..T of
            the closest nucleus within the neighbourhood, 0 without such a nucleus or if its type is unknown; ``known``
            float32 (), 0 if nuclei are not annotated at all, else 1.

        Raises:
            DataError: If nuclei have no types although the codec has types.
        """
        points = truth.centroids()
        if self.types and truth.types is None and len(points):
            raise DataError(
                f"{len(points)} nuclei have no types, but the method is to learn {self.types}. "
                "Train on a dataset with types, or without asking for types."
            )
        height, width = truth.shape
        columns, rows = np.rint(points).astype(np.int64).T
        rows, columns = rows.clip(0, height - 1), columns.clip(0, width - 1)
        centres = np.zeros(truth.shape, np.float32)
        centres[rows, columns] = 1
        kinds = np.zeros(truth.shape, np.int64)
        if self.types and truth.types is not None:
            kinds[rows, columns] = truth.types
        annotated = truth.points is not None or truth.labels is not None
        return {
            "centres": centres,
            "classes": nearest(centres, kinds, self.neighbourhood * self.factor),
            "known": np.array(annotated, np.float32),
        }

    def decode(self, maps: Mapping[str, Array], params: SCCNNParams) -> Instances:
        """Return the local maxima of the likelihood, the highest first.

        Args:
            maps: ``likelihood`` float (1, H, W), constant within each cell; with types, ``types`` float (T, H, W), the
                ensemble's probability of each type, all 0 where it made no prediction.
            params: Parameters of the search.

        Returns:
            `points`, `scores` (the likelihood) and, if the codec has types, `types` 1..T, 0 without a prediction.
        """
        return self._peaks(maps, params.threshold, params.distance)

    def candidates(self, maps: Mapping[str, Array], params: SCCNNParams) -> Instances:
        """Return all local maxima above `WEAKEST`; thresholding their scores yields the detections at any threshold."""
        return self._peaks(maps, WEAKEST, params.distance)

    def _peaks(self, maps: Mapping[str, Array], threshold: float, distance: int) -> Instances:
        step = self.factor
        likelihood = np.ascontiguousarray(maps["likelihood"][0, ::step, ::step], np.float32)
        cells, rows, columns = find_peaks(likelihood, distance, threshold)
        types = None
        if self.types:
            votes = np.asarray(maps["types"])[:, ::step, ::step][:, rows, columns]
            types = np.where(votes.max(axis=0) > 0, votes.argmax(axis=0) + 1, 0).astype(np.int64)
        shape = (maps["likelihood"].shape[1], maps["likelihood"].shape[2])
        # the centre of a cell; the last row and column of cells may extend beyond the image
        points = np.minimum(cells * step + (step - 1) / 2, np.array(shape[::-1]) - 1).astype(np.float32)
        scores = np.clip(likelihood[rows, columns], 0, 1)
        return Instances(shape, points=points, types=types, scores=scores)

    def perfect(self, targets: Mapping[str, Array]) -> Maps:
        """Return the maps of a network that knows every centre: the mean over all windows that contain a cell.

        If a window contains several centres, a cell has the highest of their values.
        """
        shape = targets["centres"].shape
        cells = _cells(np.asarray(targets["centres"], np.float32), self.factor)
        padded = np.pad(cells, WINDOW)
        likelihood = np.zeros_like(cells)
        height, width = cells.shape
        for y, x, value in spread():
            part = padded[WINDOW + y : WINDOW + y + height, WINDOW + x : WINDOW + x + width]
            np.maximum(likelihood, np.float32(value) * part, out=likelihood)
        maps = {"likelihood": _pixels(likelihood, self.factor, shape)[None]}
        if self.types:
            classes = np.asarray(targets["classes"])[:: self.factor, :: self.factor]
            disc = neighbours(self.neighbourhood)
            votes = [
                cv2.filter2D((classes == kind).astype(np.float32), -1, disc / disc.sum(), borderType=cv2.BORDER_REFLECT)
                for kind in range(1, self.types + 1)
            ]
            maps["types"] = np.stack([_pixels(vote, self.factor, shape) for vote in votes])
        return maps


def nearest(centres: Floats, kinds: NDArray[np.int64], radius: float) -> NDArray[np.int64]:
    """Return the entry of `kinds` at the closest centre within `radius` px of each pixel; 0 without such a centre.

    Args:
        centres: (H, W), above 0 at centres.
        kinds: (H, W); only its values at centres are used.
        radius: Search radius in pixels.
    """
    if not centres.any():
        return np.zeros(centres.shape, np.int64)
    distance, place = distance_transform_edt(centres == 0, return_indices=True)
    return np.where(distance <= radius, kinds[tuple(place)], 0)


def neighbours(radius: float) -> Floats:
    """Return the disc of cells within `radius` of its centre, 1 inside and 0 outside, float32 of odd side."""
    side = int(radius)
    offset = np.arange(-side, side + 1)
    return (offset[:, None] ** 2 + offset**2 <= radius**2).astype(np.float32)


def spread(window: int = WINDOW, reach: float = REACH) -> Iterator[tuple[int, int, float]]:
    """Yield the contribution of one centre to the cells around it, averaged over windows: (rows, columns, value).

    A cell at offset (y, x) from a centre shares (window - |y|) (window - |x|) of its window ** 2 windows with it; in
    these its value is 1 / (1 + distance ** 2 / 2).
    """
    side = int(reach)
    for y in range(-side, side + 1):
        for x in range(-side, side + 1):
            if y * y + x * x <= reach * reach:
                share = (window - abs(y)) * (window - abs(x)) / window**2
                yield y, x, share / (1 + (y * y + x * x) / 2)


def _cells(centres: Floats, factor: int) -> Floats:
    """Return the maximum over the pixels of each cell, with zeros beyond the border."""
    height, width = centres.shape
    padded = np.pad(centres, ((0, -height % factor), (0, -width % factor)))
    blocks = padded.reshape(padded.shape[0] // factor, factor, padded.shape[1] // factor, factor)
    return np.asarray(blocks.max(axis=(1, 3)), np.float32)


def _pixels(cells: Floats, factor: int, shape: tuple[int, ...]) -> Floats:
    """Repeat the value of each cell over its pixels."""
    return cells.repeat(factor, axis=0).repeat(factor, axis=1)[: shape[0], : shape[1]]


__all__ = ["REACH", "WINDOW", "SCCNNCodec", "SCCNNParams", "nearest", "neighbours", "spread"]
