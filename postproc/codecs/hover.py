"""Horizontal and vertical distance maps (HoVer-Net), and their decoding by Sobel gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from postproc.codec import Array, Codec, Maps, Params, Survey, Targets, one_hot, tunable
from postproc.codecs.types import majority_of_probabilities, type_map
from postproc.errors import ConfigError, DataError
from postproc.instances import Instances
from postproc.pixels.compiled import compiled
from postproc.pixels.components import compact, fill_holes, large_components, without_small
from postproc.pixels.labels import LabelMap
from postproc.pixels.spans import Spans, find_spans, join_spans
from postproc.pixels.watershed import watershed
from postproc.symmetry import Symmetry

Energy = Literal["sobel", "pseudo-distance"]
Markers = Literal["sobel", "threshold"]
FloatMap = NDArray[np.float32]

SOBEL = 21
"""Side of the Sobel kernel in pixels, at 40x."""
SLOPES = ("horizontal", "vertical")
"""Names of the two derivatives in the survey of an image."""
LEARNT = 30
"""Minimum area in pixels of a part of a nucleus that has distances, as in the public code of HoVer-Net."""


@dataclass(frozen=True)
class HoverParams(Params):
    """Post-processing parameters of HoVer-Net (Graham et al. 2019, section III-C; official values).

    Attributes:
        h: Pixels with at least this probability are nuclear.
        k: Pixels whose gradient measure S_m, scaled to [0, 1] over the image, is at least this are excluded from
            markers.
        smallest: Nuclear regions and markers of fewer pixels are dropped.
        reach: Markers by threshold (table A2) are where both distances to the centre are at most this. The paper does
            not state the value; among 0.4 to 0.8, the default has the best mean PQ on the annotated maps of 6 training
            images each of Kumar and CoNSeP (0.987 and 0.919).
    """

    h: float = tunable(0.5, (0.4, 0.5, 0.6))
    k: float = tunable(0.4, (0.3, 0.4, 0.5))
    smallest: int = 10
    reach: float = 0.6


class HoverCodec(Codec[HoverParams]):
    """Nuclei as a probability, two distance maps and, if the data has them, types.

    Targets: ``np`` int64 (H, W), 0 or 1; ``hv`` float32 (2, H, W), horizontal and vertical distance in [-1,
        1]; ``tp`` int64 (H, W), 0..types. Maps: ``np`` (1, H, W), probability of nucleus; ``hv`` (2, H, W);
        ``tp`` (types + 1, H, W), probabilities. ``tp`` exists only with types.

    Args:
        types: Number of nucleus types; 0 = no types.
        energy: Landscape of the watershed: gradients (the method) or squared distance from the centre (table A2).
        markers: Its markers: regions of low gradient (the method) or near the centre (table A2).

    Raises:
        ConfigError: If a name is unknown or `types` is negative.
    """

    params_type: ClassVar[type[Params]] = HoverParams
    surroundings: ClassVar[int | None] = SOBEL // 2 + 1

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
            DataError: If the annotation lacks outlines, or types although they are requested.
        """
        if truth.labels is None:
            raise DataError("HoVer maps need outlines and this annotation has none. Use a dataset with label maps.")
        targets: Targets = {"np": (truth.labels > 0).astype(np.int64), "hv": hover_maps(truth.labels)}
        if self.types:
            targets["tp"] = type_map(truth, self.types)
        return targets

    def nuclear(self, maps: Mapping[str, Array]) -> Array | None:
        """Return ``np``."""
        return np.asarray(maps["np"][0])

    def perfect(self, targets: Mapping[str, Array]) -> Maps:
        """Return the classes as the probabilities 0 and 1, and the distances unchanged."""
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
        return self.decode_region(maps, params, {})

    def support(self, maps: Mapping[str, Array], params: HoverParams) -> NDArray[np.bool_]:
        """Mark the nuclear pixels."""
        return np.asarray(maps["np"][0]) >= params.h

    def survey(self, maps: Mapping[str, Array], core: tuple[slice, slice], params: HoverParams) -> Survey:
        """Return the extremes of the gradients, which define their scaling (see `gradient_measure`)."""
        if "sobel" not in (self.energy, self.markers):
            return {}
        slopes = [slope[core] for slope in gradients(*np.asarray(maps["hv"], np.float32))]
        return {name: (float(s.min()), float(s.max())) for name, s in zip(SLOPES, slopes, strict=True)}

    def decode_region(self, maps: Mapping[str, Array], params: HoverParams, survey: Survey) -> Instances:
        """Return the nuclei of a region, as `decode`; an empty survey means that the region is the whole image.

        Args:
            maps: As in `decode`.
            params: Thresholds.
            survey: Extremes of the gradients over the whole image.
        """
        height, width = maps["np"].shape[-2:]
        nuclear = without_small(self.support(maps, params), params.smallest)
        if not nuclear.any():
            labels = np.zeros(nuclear.shape, np.int32)
        else:
            horizontal, vertical = np.asarray(maps["hv"], np.float32)
            labels = self._split(nuclear, horizontal, vertical, params, survey)
        types = majority_of_probabilities(labels, maps["tp"]) if self.types else None
        return Instances((height, width), labels=labels, types=types)

    def undo(self, maps: Mapping[str, Array], symmetry: Symmetry) -> Maps:
        """Return the maps of an image from those of the mirrored and rotated image, with the distances turned back."""
        return {**super().undo(maps, symmetry), "hv": symmetry.undo_vectors(maps["hv"])}

    def _split(
        self, nuclear: NDArray[np.bool_], horizontal: FloatMap, vertical: FloatMap, p: HoverParams, survey: Survey
    ) -> LabelMap:
        smooth = gradient_measure(horizontal, vertical, survey) if "sobel" in (self.energy, self.markers) else None
        if self.markers == "sobel" and smooth is not None:
            inner = nuclear & (smooth > 1 - p.k)
        else:
            inner = nuclear & (np.abs(horizontal) <= p.reach) & (np.abs(vertical) <= p.reach)
        if self.energy == "sobel" and smooth is not None:
            basins = cv2.GaussianBlur(np.multiply(smooth, nuclear, out=smooth), (3, 3), 0)
            np.negative(basins, out=basins)
        else:
            basins = horizontal**2 + vertical**2
        markers = find_markers(inner, p.smallest)
        # Squared distances of symmetric nuclei are often equal; only the energy of the method has a published order.
        labels = watershed(basins, markers, nuclear, ties="skimage" if self.energy == "sobel" else "raster")
        # A filled hole may be a marker outside all nuclei.
        return compact(labels) if ((markers != 0) > nuclear).any() else labels


def find_markers(inner: NDArray[np.bool_], smallest: int) -> LabelMap:
    """Turn the inner parts of nuclei into markers: fill holes, open with a disk of 5 px, drop small ones.

    Args:
        inner: bool (H, W).
        smallest: Smallest area that is kept, in pixels.

    Returns:
        int32 (H, W), 4-connected markers 1..N.
    """
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    opened = cv2.morphologyEx(fill_holes(inner).view(np.uint8), cv2.MORPH_OPEN, kernel)
    return large_components(opened.view(np.bool_), smallest)[0]


def gradient_measure(horizontal: FloatMap, vertical: FloatMap, survey: Survey | None = None) -> FloatMap:
    """Return ``1 - S_m`` (section III-C), which is low where the distances fall steeply to the right or downwards.

    Within a nucleus the distances rise; between two nuclei they fall steeply. Each derivative is scaled to [0, 1] over
    the image, as in the official code, and the lower of the two is returned.

    Args:
        horizontal: float32 (H, W).
        vertical: float32 (H, W).
        survey: Extremes of both derivatives over the whole image, by the names in `SLOPES`, if the maps cover only a
            part of it; None or empty = use the extremes of the maps.

    Returns:
        float32 (H, W) in [0, 1]: 1 within nuclei, 0 at the steepest fall.
    """
    rise = [
        _scaled(slope, survey[name] if survey else None)
        for name, slope in zip(SLOPES, gradients(horizontal, vertical), strict=True)
    ]
    return np.minimum(rise[0], rise[1], out=rise[0])


def gradients(horizontal: FloatMap, vertical: FloatMap) -> tuple[FloatMap, FloatMap]:
    """Return the derivatives of the horizontal distance in x and of the vertical one in y, float32 (H, W)."""
    right = cv2.Sobel(horizontal, cv2.CV_32F, 1, 0, ksize=SOBEL)
    down = cv2.Sobel(vertical, cv2.CV_32F, 0, 1, ksize=SOBEL)
    return np.asarray(right, np.float32), np.asarray(down, np.float32)


def _scaled(slope: FloatMap, limits: tuple[float, float] | None) -> FloatMap:
    """Scale to [0, 1] between the limits or, without limits and in place, between the slope's own extremes."""
    if limits is None:
        # in place, since allocating an array of this size is slow
        return np.asarray(cv2.normalize(slope, slope, 0, 1, cv2.NORM_MINMAX), np.float32)
    # two extra rows with the extremes make OpenCV compute every pixel as in the whole image
    extended = np.concatenate([slope, np.repeat(np.array(limits, np.float32)[:, None], slope.shape[1], axis=1)])
    return np.asarray(cv2.normalize(extended, None, 0, 1, cv2.NORM_MINMAX)[: len(slope)], np.float32)


def hover_maps(labels: NDArray[np.integer[Any]], smallest: int = LEARNT) -> FloatMap:
    """Compute the position of each nuclear pixel between the centre of its nucleus and the nucleus' extremes.

    Section III-A. As in the official code, every 4-connected part of a nucleus has its own centre (mirrored borders
    create such parts), the zero is one pixel left of and above the rounded centroid, the negative and the positive side
    are each divided by their largest distance, and parts smaller than `smallest` have no distances.

    Args:
        labels: (H, W), 0 = background; any ids.
        smallest: Minimum area in pixels of a part that has distances; the maps are 0 on smaller ones.

    Returns:
        float32 (2, H, W): horizontal (left to right) and vertical (top to bottom) distance in [-1, 1], 0 on
        background.
    """
    spans = find_spans(labels)
    part, count = join_spans(spans, 4)
    maps = np.zeros((2, *labels.shape), np.float32)
    _write_hover_maps(spans, part, *_scales(spans, part, count, smallest), maps)
    return maps


@compiled
def _scales(spans: Spans, part: NDArray[np.int32], count: int, smallest: int) -> tuple[NDArray[np.int64], FloatMap]:
    """Return the zero of each part, int64 (count + 1, 2) as (x, y), and the scale per pixel on either side of it.

    The latter is float32 (count + 1, 2, 2): part, axis, then the negative and the positive side; 0 on small parts.
    """
    place, _, _ = spans
    area = np.zeros(count + 1, np.int64)
    total = np.zeros((count + 1, 2), np.int64)
    low = np.full((count + 1, 2), np.iinfo(np.int64).max, np.int64)
    high = np.full((count + 1, 2), -1, np.int64)
    for span in range(part.size):
        own, y, start, stop = part[span], np.int64(place[span, 0]), np.int64(place[span, 1]), np.int64(place[span, 2])
        area[own] += stop - start
        total[own, 0] += (start + stop - 1) * (stop - start) // 2
        total[own, 1] += y * (stop - start)
        low[own, 0], high[own, 0] = min(low[own, 0], start), max(high[own, 0], stop - 1)
        low[own, 1], high[own, 1] = min(low[own, 1], y), max(high[own, 1], y)
    zero = np.zeros((count + 1, 2), np.int64)
    scale = np.zeros((count + 1, 2, 2), np.float32)
    for own in range(1, count + 1):
        if area[own] < smallest:
            continue
        for axis in range(2):
            # floor(centroid + 0.5) in integer arithmetic
            zero[own, axis] = (2 * total[own, axis] + area[own]) // (2 * area[own]) - 1
            scale[own, axis, 0] = 1 / max(zero[own, axis] - low[own, axis], 1)
            scale[own, axis, 1] = 1 / max(high[own, axis] - zero[own, axis], 1)
    return zero, scale


@compiled
def _write_hover_maps(
    spans: Spans, part: NDArray[np.int32], zero: NDArray[np.int64], scale: FloatMap, maps: FloatMap
) -> None:
    place, _, _ = spans
    for span in range(part.size):
        own, y = part[span], place[span, 0]
        left, right = scale[own, 0, 0], scale[own, 0, 1]
        for x in range(place[span, 1], place[span, 2]):
            distance = np.float32(x - zero[own, 0])
            maps[0, y, x] = distance * (right if distance > 0 else left)
        down = y - zero[own, 1]
        vertical = np.float32(down) * scale[own, 1, 1 if down > 0 else 0]
        for x in range(place[span, 1], place[span, 2]):
            maps[1, y, x] = vertical
