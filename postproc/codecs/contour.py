"""Nuclei with their contours (DCAN, CIA-Net, DRAN), and nuclei eroded by a pixel (Micro-Net)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from postproc.codec import Array, Codec, Maps, Params, Targets, one_hot, tunable
from postproc.codecs.binary import border_weights
from postproc.codecs.types import majority_of_probabilities, type_map
from postproc.errors import ConfigError, DataError
from postproc.instances import Instances
from postproc.pixels.components import compact, connected_components, fill_object_holes, remove_small
from postproc.pixels.labels import LabelMap
from postproc.pixels.watershed import watershed

CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
"""A pixel and its 4 neighbours."""
FAR = 254
"""When cores grow, distances to a core beyond this many pixels count as equal."""


@dataclass(frozen=True)
class ContourParams(Params):
    """Post-processing of object and contour maps (Chen et al. 2016, equation 4, for the two thresholds).

    Attributes:
        threshold_object: Pixels with a higher probability are nuclear.
        threshold_contour: Nuclear pixels with a lower contour probability belong to the core of a nucleus.
        minimum: Smallest core that is kept, in pixels. With the default, annotated maps decode best.
    """

    threshold_object: float = tunable(0.5, (0.4, 0.5, 0.6))
    threshold_contour: float = tunable(0.5, (0.3, 0.4, 0.5, 0.6))
    minimum: int = tunable(5, (5, 10, 20))


class ContourCodec(Codec[ContourParams]):
    """Nuclear pixels and a band along the border of each nucleus, which separates touching nuclei.

    Targets: ``object`` int64 (H, W), 0 or 1, and ``contour`` int64 (H, W), 0 or 1 (`contour_band`). Maps: ``object``
    and ``contour``, float (1, H, W), probabilities.

    In decoding, the cores of the nuclei are the 4-connected components of nuclear pixels outside the contour. Small
    cores are dropped and holes of the rest filled. Cores then grow back over the nuclear pixels, nearest pixels first,
    by at most `reach` px. A nucleus entirely covered by its contour has no core and is lost; this includes true nuclei
    no wider than twice `inner` px.

    Args:
        inner: Width in pixels of the band inside the border.
        outer: Width in pixels of the band outside; at most `inner`.
        reach: How far cores grow, in pixels (number of steps to one of the 4 neighbours); None = `inner` + 2: growing
            by only `inner` does not restore parts narrower than the contour, such as pointed ends.

    Raises:
        ConfigError: If a width is negative, `outer` exceeds `inner`, or `reach` is negative.
    """

    params_type: ClassVar[type[Params]] = ContourParams

    def __init__(self, inner: int = 3, outer: int = 3, *, reach: int | None = None) -> None:
        if not 0 <= outer <= inner:
            raise ConfigError(f"contour of {inner} px inside and {outer} px outside: give 0 <= outer <= inner")
        if reach is not None and reach < 0:
            raise ConfigError(f"reach={reach}: cores grow by 0 px or more")
        self.inner = inner
        self.outer = outer
        self.reach = inner + 2 if reach is None else reach

    def encode(self, truth: Instances) -> Targets:
        """Return ``object`` and ``contour``.

        Raises:
            DataError: If the annotation has no outlines.
        """
        labels = _outlines(truth)
        band = contour_band(labels, self.inner, self.outer)
        return {"object": (labels > 0).astype(np.int64), "contour": band.astype(np.int64)}

    def nuclear(self, maps: Mapping[str, Array]) -> Array | None:
        """Return ``object``."""
        return np.asarray(maps["object"][0])

    def perfect(self, targets: Mapping[str, Array]) -> Maps:
        """Return both targets as the probabilities 0 and 1."""
        return {name: targets[name][None].astype(np.float32) for name in ("object", "contour")}

    def decode(self, maps: Mapping[str, Array], params: ContourParams) -> Instances:
        """Return the cores of the nuclei, grown back."""
        nuclear = np.asarray(maps["object"][0]) > params.threshold_object
        core = nuclear & (np.asarray(maps["contour"][0]) < params.threshold_contour)
        cores = fill_object_holes(remove_small(connected_components(core, 4)[0], params.minimum))
        labels = compact(grow(cores, nuclear, self.reach))
        return Instances(labels.shape, labels=labels)


@dataclass(frozen=True)
class ErodedParams(Params):
    """Post-processing of nuclei eroded by a pixel.

    Attributes:
        threshold: Pixels with a higher probability are nuclear.
        minimum: Smallest component that is kept, in pixels.
    """

    threshold: float = tunable(0.5, (0.3, 0.4, 0.5, 0.6, 0.7))
    minimum: int = 10


class ErodedCodec(Codec[ErodedParams]):
    """Foreground without the outermost pixels of each nucleus, so that no two nuclei touch.

    This is how the comparison of HoVer-Net trained and decoded Micro-Net (public code of Graham et al. 2019): each
    nucleus is eroded by its 4 neighbours, and decoding fills holes, drops small components and dilates the others by
    the same pixel. A pixel that two nuclei reach is assigned by `grow`, not to the higher id.

    Targets: ``foreground`` int64 (H, W), 0 = background, 1 = nucleus or 1..T its type; ``weight`` float32 (H, W), 1
    plus the border weight of U-Net, the weight of each pixel in the loss. Maps: ``foreground`` float (C, H, W), C = 2
    or T + 1, probabilities.

    Args:
        types: Number of types T; 0 = types are not distinguished.
        w0: Height of the border weight.
        sigma: Its width in pixels.
    """

    params_type: ClassVar[type[Params]] = ErodedParams

    def __init__(self, types: int = 0, *, w0: float = 10.0, sigma: float = 5.0) -> None:
        self.types = types
        self.w0 = w0
        self.sigma = sigma

    def encode(self, truth: Instances) -> Targets:
        """Return ``foreground`` and ``weight``.

        Raises:
            DataError: If the annotation lacks outlines, or types although they are requested.
        """
        labels = _outlines(truth)
        kept = ~contour_band(labels, 1, 0)
        classes = type_map(truth, self.types) if self.types else (labels > 0).astype(np.int64)
        weight = 1 + border_weights(np.where(kept, labels, 0).astype(np.int32), self.w0, self.sigma)
        return {"foreground": np.where(kept, classes, 0), "weight": weight.astype(np.float32)}

    def nuclear(self, maps: Mapping[str, Array]) -> Array | None:
        """Return the sum of the classes but the background."""
        return np.asarray(maps["foreground"][1:].sum(axis=0))

    def perfect(self, targets: Mapping[str, Array]) -> Maps:
        """Return the classes as the probabilities 0 and 1."""
        return {"foreground": one_hot(targets["foreground"], max(self.types, 1) + 1)}

    def decode(self, maps: Mapping[str, Array], params: ErodedParams) -> Instances:
        """Return the components of the foreground, all types merged, dilated by 1 px."""
        probabilities = np.asarray(maps["foreground"])
        nuclear = probabilities[1:].sum(axis=0) > params.threshold
        labels = fill_object_holes(connected_components(nuclear, 4)[0])
        labels = grow(remove_small(labels, params.minimum), np.ones_like(nuclear), 1)
        types = majority_of_probabilities(labels, probabilities) if self.types else None
        return Instances(labels.shape, labels=labels, types=types)


def _outlines(truth: Instances) -> LabelMap:
    if truth.labels is None:
        raise DataError("contours need outlines and this annotation has none. Use a dataset with label maps.")
    return truth.labels


def contour_band(labels: NDArray[np.integer[Any]], inner: int, outer: int) -> NDArray[np.bool_]:
    """Mark the pixels near the border of a nucleus.

    The band of one nucleus is its dilation by `outer` px minus its erosion by `inner` px, with the diamond (all pixels
    within that many steps to a 4 neighbour) as structuring element; the border of the image erodes nothing. The result
    is the union over nuclei. If `outer` <= `inner`, it consists of the nuclear pixels with a pixel of another label
    within `inner` steps and the background pixels with a nuclear pixel within `outer` steps. Both follow from one
    distance transform: the nearest pixel of another label is one step beyond the nearest pixel that has a 4 neighbour
    of another label.

    Args:
        labels: (H, W), 0 = background; any ids.
        inner: Width inside, in pixels.
        outer: Width outside, in pixels; at most `inner`.

    Returns:
        bool (H, W).
    """
    edge = np.zeros(labels.shape, np.bool_)
    for above, below in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        differs = labels[above] != labels[below]
        edge[above] |= differs
        edge[below] |= differs
    if not edge.any():
        return edge
    distance = cv2.distanceTransform((~edge).view(np.uint8), cv2.DIST_L1, 3)
    return np.asarray(distance < np.where(labels != 0, np.float32(inner), np.float32(outer)))


def grow(cores: LabelMap, mask: NDArray[np.bool_], reach: int) -> LabelMap:
    """Grow all objects over a mask simultaneously.

    A pixel joins an object if it is in the mask, a path of 4 neighbours in the mask connects them, and its distance to
    the nearest core is at most `reach`. The nearest object wins; ties are resolved by the order of the watershed.

    Args:
        cores: int32 (H, W), 0 = background. Cores stay unchanged, even outside the mask.
        mask: (H, W), where objects may grow.
        reach: Largest distance in pixels: number of steps to a 4 neighbour, at most `FAR`.
    """
    if reach == 0 or not cores.any():
        return cores
    distance = cv2.distanceTransform((cores == 0).view(np.uint8), cv2.DIST_L1, 3)
    area = (distance == 0) | (mask & (distance <= min(reach, FAR)))
    return watershed(np.minimum(distance, FAR + 1).astype(np.uint8), cores, area, ties="raster")
