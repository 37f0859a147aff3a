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
"""Distances to a core beyond this many px count as equal when cores grow."""


@dataclass(frozen=True)
class ContourParams(Params):
    """Post-processing of object and contour maps (Chen et al. 2016, equation 4, for the two thresholds).

    Attributes:
        threshold_object: Pixels of a higher probability are nuclear.
        threshold_contour: Nuclear pixels of a lower contour probability belong to the core of a nucleus.
        minimum: Smallest core that is kept, in px. The default is that with which true maps decode best.
    """

    threshold_object: float = tunable(0.5, (0.4, 0.5, 0.6))
    threshold_contour: float = tunable(0.5, (0.3, 0.4, 0.5, 0.6))
    minimum: int = tunable(5, (5, 10, 20))


class ContourCodec(Codec[ContourParams]):
    """Nuclear pixels and the band around the border of each nucleus, which parts those that touch.

    Targets: ``object`` int64 (H, W), 0 or 1, and ``contour`` int64 (H, W), 0 or 1 (`contour_band`). Maps: ``object``
    and ``contour``, float (1, H, W), probabilities.

    Decoding takes the pixels that are nuclear and no contour for the cores of the nuclei (their 4-connected
    components), drops small cores and fills holes of the rest. Cores then grow back over the nuclear pixels, nearest
    pixels first, at most `reach` px far. A nucleus that the contour covers whole has no core and is lost: so are true
    nuclei no wider than twice `inner` px.

    Args:
        inner: Width in px of the band inside of the border.
        outer: Width in px of the band outside; at most `inner`.
        reach: How far cores grow, in px (number of steps to one of the 4 neighbours); None = `inner` + 2: growing by
            `inner` alone does not restore what is narrower than the contour, such as pointed ends.

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
        threshold: Pixels of a higher probability are nuclear.
        minimum: Smallest component that is kept, in px.
    """

    threshold: float = tunable(0.5, (0.3, 0.4, 0.5, 0.6, 0.7))
    minimum: int = 10


class ErodedCodec(Codec[ErodedParams]):
    """Foreground that lacks the outermost pixels of each nucleus, so that no two nuclei touch.

    As the comparison of HoVer-Net prepared Micro-Net and undid it (public code of Graham et al. 2019): each nucleus is
    eroded by its 4 neighbours, and decoding fills holes, drops small components and dilates the others by the same
    pixel. A pixel that two nuclei claim goes to one of them (`grow`), not to the one of the higher id.

    Targets: ``foreground`` int64 (H, W), 0 = background, 1 = nucleus or 1..T its type; ``weight`` float32 (H, W), 1
    plus the border weight of U-Net, the weight of each pixel in the loss. Maps: ``foreground`` float (C, H, W), C = 2
    or T + 1, probabilities.

    Args:
        types: Number of types T; 0 = types are not told apart.
        w0: Height of the border weight.
        sigma: Its width in px.
    """

    params_type: ClassVar[type[Params]] = ErodedParams

    def __init__(self, types: int = 0, *, w0: float = 10.0, sigma: float = 5.0) -> None:
        self.types = types
        self.w0 = w0
        self.sigma = sigma

    def encode(self, truth: Instances) -> Targets:
        """Return ``foreground`` and ``weight``.

        Raises:
            DataError: If the annotation lacks outlines, or types that are asked for.
        """
        labels = _outlines(truth)
        kept = ~contour_band(labels, 1, 0)
        classes = type_map(truth, self.types) if self.types else (labels > 0).astype(np.int64)
        weight = 1 + border_weights(np.where(kept, labels, 0).astype(np.int32), self.w0, self.sigma)
        return {"foreground": np.where(kept, classes, 0), "weight": weight.astype(np.float32)}

    def perfect(self, targets: Mapping[str, Array]) -> Maps:
        """Return the classes as the probabilities 0 and 1."""
        return {"foreground": one_hot(targets["foreground"], max(self.types, 1) + 1)}

    def decode(self, maps: Mapping[str, Array], params: ErodedParams) -> Instances:
        """Return the components of the foreground, all types together, dilated by a pixel."""
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
    is the union over nuclei. Where `outer` <= `inner` this holds the nuclear pixels that have a pixel of another label
    within `inner` steps, and the background pixels that have a nuclear one within `outer` steps. Both follow from one
    distance transform: the nearest pixel of another label is one step behind the nearest pixel that has a 4 neighbour
    of another label.

    Args:
        labels: (H, W), 0 = background; any ids.
        inner: Width inside, px.
        outer: Width outside, px; at most `inner`.

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
    """Grow objects over a mask, all at the same pace.

    A pixel is taken if it is in the mask, a path of 4 neighbours in the mask leads to it from the object, and its
    distance to the nearest core is at most `reach`; of several objects the nearest has it, and among equally near ones
    the order of the watershed decides.

    Args:
        cores: int32 (H, W), 0 = background. Kept as they are, also outside of the mask.
        mask: (H, W), where objects may grow.
        reach: Largest distance in px: number of steps to a 4 neighbour, at most `FAR`.
    """
    if reach == 0 or not cores.any():
        return cores
    distance = cv2.distanceTransform((cores == 0).view(np.uint8), cv2.DIST_L1, 3)
    area = (distance == 0) | (mask & (distance <= min(reach, FAR)))
    return watershed(np.minimum(distance, FAR + 1).astype(np.uint8), cores, area, ties="raster")
