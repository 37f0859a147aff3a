"""Horizontal and vertical distance maps (HoVer-Net), and their decoding by Sobel gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from postproc.codec import Array, Codec, Maps, Params, Targets, one_hot, tunable
from postproc.compiled import compiled
from postproc.components import compact, connected_components, fill_holes, remove_small
from postproc.errors import ConfigError, DataError
from postproc.instances import Instances, LabelMap
from postproc.types import majority_of_probabilities, type_map
from postproc.watershed import watershed

Energy = Literal["sobel", "pseudo-distance"]
Markers = Literal["sobel", "threshold"]
FloatMap = NDArray[np.float32]

SOBEL = 21
"""Side of the Sobel kernel in px, at 40x."""


@dataclass(frozen=True)
class HoverParams(Params):
    """Post-processing parameters of HoVer-Net (Graham et al. 2019, section III-C; official values).

    Attributes:
        h: Pixels of at least this probability are nuclear.
        k: Pixels whose gradient measure S_m, scaled to [0, 1] over the image, is at least this are no marker.
        smallest: Nuclear regions and markers of fewer px are dropped.
        reach: Markers by threshold (table A2): where both distances are within this of the centre. The paper
            states no value; of 0.4 to 0.8, this one has the best mean PQ on the annotated maps of 6 training
            images each of Kumar and CoNSeP (0.987 and 0.919).
    """

    h: float = tunable(0.5, (0.4, 0.5, 0.6))
    k: float = tunable(0.4, (0.3, 0.4, 0.5))
    smallest: int = 10
    reach: float = 0.6


class HoverCodec(Codec[HoverParams]):
    """Nuclei as a probability, two distance maps and, where the data has them, types.

    Targets: ``np`` int64 (H, W), 0 or 1; ``hv`` float32 (2, H, W), horizontal and vertical distance in [-1,
        1]; ``tp`` int64 (H, W), 0..types. Maps: ``np`` (1, H, W), probability of nucleus; ``hv`` (2, H, W);
        ``tp`` (types + 1, H, W), probabilities. ``tp`` exists with types only.

    Args:
        types: Number of nucleus types; 0 = no types.
        energy: What the watershed floods: gradients (the method) or squared distance from the centre (table
            A2).
        markers: What it floods from: regions of low gradient (the method) or near the centre (table A2).

    Raises:
        ConfigError: If a name is unknown or `types` is negative.
    """

    params_type: ClassVar[type[Params]] = HoverParams

    def __init__(self, types: int = 0, energy: Energy = "sobel", markers: Markers = "sobel") -> None:
        if types < 0:
            raise ConfigError(f"types is {types}, expected 0 (none) or the number of types")
        if energy not in ("sobel", "pseudo-distance"):
            raise ConfigError(f"energy {energy!r} is unknown. Choices: pseudo-distance, sobel.")
        if markers not in ("sobel", "threshold"):
            raise ConfigError(f"markers {markers!r} is unknown. Choices: sobel, threshold.")
        self.types = types
        self.energy = energy
        self.markers = markers

    def encode(self, truth: Instances) -> Targets:
        """Return ``np``, ``hv`` and, with types, ``tp``.

        Raises:
            DataError: If the annotation lacks outlines, or types that are asked for.
        """
        if truth.labels is None:
            raise DataError("HoVer maps need outlines and this annotation has none. Use a dataset with label maps.")
        targets: Targets = {"np": (truth.labels > 0).astype(np.int64), "hv": hover_maps(truth.labels)}
        if self.types:
            targets["tp"] = type_map(truth, self.types)
        return targets

    def perfect(self, targets: Mapping[str, Array]) -> Maps:
        """Return the probabilities 0 and 1 that `targets` stand for, and the distances themselves."""
        maps = {"np": targets["np"][None].astype(np.float32), "hv": np.array(targets["hv"], np.float32)}
        if self.types:
            maps["tp"] = one_hot(targets["tp"], self.types + 1)
        return maps

    def decode(self, maps: Mapping[str, Array], params: HoverParams) -> Instances:
        """Return the watershed regions of the markers, with the majority type of their pixels.

        Args:
            maps: ``np``, ``hv`` and, with types, ``tp``.
            params: Thresholds.
        """
        height, width = maps["np"].shape[-2:]
        nuclear = np.asarray(maps["np"][0]) >= params.h
        nuclear = remove_small(connected_components(nuclear, 4)[0], params.smallest) > 0
        if not nuclear.any():
            labels = np.zeros(nuclear.shape, np.int32)
        else:
            horizontal, vertical = np.asarray(maps["hv"], np.float32)
            labels = self._split(nuclear, horizontal, vertical, params)
        types = majority_of_probabilities(labels, maps["tp"]) if self.types else None
        return Instances((height, width), labels=labels, types=types)

    def _split(self, nuclear: NDArray[np.bool_], horizontal: FloatMap, vertical: FloatMap, p: HoverParams) -> LabelMap:
        smooth = gradient_measure(horizontal, vertical) if "sobel" in (self.energy, self.markers) else None
        if self.markers == "sobel" and smooth is not None:
            inner = nuclear & (smooth > 1 - p.k)
        else:
            inner = nuclear & (np.abs(horizontal) <= p.reach) & (np.abs(vertical) <= p.reach)
        if self.energy == "sobel" and smooth is not None:
            basins = -cv2.GaussianBlur(smooth * nuclear, (3, 3), 0)
        else:
            basins = horizontal**2 + vertical**2
        return compact(watershed(basins, find_markers(inner, p.smallest), nuclear))


def find_markers(inner: NDArray[np.bool_], smallest: int) -> LabelMap:
    """Turn the inner parts of nuclei into markers: fill holes, open by a disk of 5 px, drop small ones.

    Args:
        inner: bool (H, W).
        smallest: Smallest area that is kept, in px.

    Returns:
        int32 (H, W), 4-connected markers 1..N.
    """
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    opened = cv2.morphologyEx(fill_holes(inner).astype(np.uint8), cv2.MORPH_OPEN, kernel)
    return remove_small(connected_components(opened, 4)[0], smallest)


def gradient_measure(horizontal: FloatMap, vertical: FloatMap) -> FloatMap:
    """Return ``1 - S_m`` (section III-C): how little the distances fall to the right and to the bottom.

    Within a nucleus the distances rise; between two of them they fall steeply. Each derivative is scaled to
    [0, 1] over the image, as in the official code, and the lower of the two counts.

    Args:
        horizontal: float32 (H, W).
        vertical: float32 (H, W).

    Returns:
        float32 (H, W) in [0, 1]: 1 within nuclei, 0 at the steepest fall.
    """
    rise = [
        cv2.normalize(cv2.Sobel(values, cv2.CV_32F, dx, dy, ksize=SOBEL), None, 0, 1, cv2.NORM_MINMAX)
        for values, dx, dy in ((horizontal, 1, 0), (vertical, 0, 1))
    ]
    return np.asarray(np.minimum(rise[0], rise[1]), np.float32)


def hover_maps(labels: NDArray[np.integer[Any]]) -> FloatMap:
    """Measure where each nuclear pixel lies between the centre of its nucleus and the nucleus' extremes.

    Section III-A. As in the official code, every 4-connected part of a nucleus has a centre of its own
    (mirrored borders make such parts), the zero lies one pixel left of and above the rounded centroid, and
    the negative and the positive side are each divided by their largest distance.

    Args:
        labels: (H, W), 0 = background; any ids.

    Returns:
        float32 (2, H, W): horizontal (left to right) and vertical (top to bottom) distance in [-1, 1], 0 on
        background.
    """
    parts, count = connected_components(labels, 4)
    return _hover_maps(parts, count)


@compiled
def _hover_maps(parts: NDArray[Any], count: int) -> FloatMap:
    height, width = parts.shape
    area = np.zeros(count + 1, np.int64)
    total = np.zeros((count + 1, 2), np.int64)
    low = np.full((count + 1, 2), max(height, width), np.int64)
    high = np.full((count + 1, 2), -1, np.int64)
    for y in range(height):
        for x in range(width):
            part = parts[y, x]
            if part != 0:
                area[part] += 1
                total[part, 0] += x
                total[part, 1] += y
                low[part, 0], high[part, 0] = min(low[part, 0], x), max(high[part, 0], x)
                low[part, 1], high[part, 1] = min(low[part, 1], y), max(high[part, 1], y)
    zero = np.zeros((count + 1, 2), np.int64)
    scale = np.zeros((count + 1, 2, 2), np.float32)  # of the negative and of the positive side
    for part in range(1, count + 1):
        for axis in range(2):
            # floor(centroid + 0.5) in whole numbers
            zero[part, axis] = (2 * total[part, axis] + area[part]) // (2 * area[part]) - 1
            scale[part, axis, 0] = 1 / max(zero[part, axis] - low[part, axis], 1)
            scale[part, axis, 1] = 1 / max(high[part, axis] - zero[part, axis], 1)
    maps = np.zeros((2, height, width), np.float32)
    for y in range(height):
        for x in range(width):
            part = parts[y, x]
            if part != 0:
                right, down = x - zero[part, 0], y - zero[part, 1]
                maps[0, y, x] = right * scale[part, 0, 1 if right > 0 else 0]
                maps[1, y, x] = down * scale[part, 1, 1 if down > 0 else 0]
    return maps
