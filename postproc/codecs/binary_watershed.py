"""Foreground maps as published comparisons decoded them: with and without a watershed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from postproc.codec import Array, Codec, Maps, Params, Targets, tunable
from postproc.codecs.binary import ForegroundCodec
from postproc.errors import DataError
from postproc.instances import Instances
from postproc.pixels.compiled import compiled
from postproc.pixels.components import connected_components, fill_holes, remove_small
from postproc.pixels.euclidean import squared_distance
from postproc.pixels.labels import LabelMap
from postproc.pixels.spans import Spans, find_spans, join_spans
from postproc.pixels.watershed import Ties, watershed

GREY = 255
"""Level of the largest distance of each component."""
CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


@dataclass(frozen=True)
class ObjectParams(Params):
    """Post-processing of the rows FCN8 and SegNet (Graham et al. 2019, table III; values of the public code).

    Attributes:
        threshold: Pixels with a higher probability are nuclear.
        minimum: Minimum area of a nucleus in pixels.
    """

    threshold: float = tunable(0.5, (0.3, 0.4, 0.5, 0.6, 0.7))
    minimum: float = 10


@dataclass(frozen=True)
class WatershedParams(ObjectParams):
    """Post-processing of the rows "+ WS" (Graham et al. 2019, table III; values of the public code).

    Attributes:
        marker: Pixels whose distance exceeds this belong to markers, in 1/255 of the largest distance of their
            connected component.
    """

    marker: float = tunable(125, (75, 100, 125, 150, 175))


P = TypeVar("P", bound=ObjectParams)


class _PlainCodec(Codec[P]):
    """Targets of plain foreground methods: touching nuclei are one component, all pixels have equal weight."""

    def encode(self, truth: Instances) -> Targets:
        """Return ``foreground``, int64 (H, W), 1 on nuclei.

        Raises:
            DataError: If the annotation has no outlines.
        """
        if truth.labels is None:
            raise DataError(
                "foreground maps need outlines and this annotation has none. Use a dataset with label maps."
            )
        return {"foreground": (truth.labels > 0).astype(np.int64)}

    def nuclear(self, maps: Mapping[str, Array]) -> Array | None:
        """Return ``foreground``."""
        return np.asarray(maps["foreground"][0])

    def perfect(self, targets: Mapping[str, Array]) -> Maps:
        """Return the foreground as the probabilities 0 and 1."""
        return {"foreground": targets["foreground"][None].astype(np.float32)}


def filled_objects(maps: Mapping[str, Array], params: ObjectParams) -> LabelMap:
    """Number the 4-connected components of the thresholded ``foreground``, holes filled, that are large enough."""
    nuclear = fill_holes(np.asarray(maps["foreground"][0]) > params.threshold)
    return remove_small(connected_components(nuclear, 4)[0], round(params.minimum))


class ObjectCodec(_PlainCodec[ObjectParams]):
    """Foreground maps whose 4-connected components, with their holes filled, are the nuclei.

    Targets: ``foreground`` int64 (H, W), 0 or 1. Maps: ``foreground`` float (1, H, W), probability of nucleus.
    """

    params_type: ClassVar[type[Params]] = ObjectParams

    def decode(self, maps: Mapping[str, Array], params: ObjectParams) -> Instances:
        """Return the components of the thresholded ``foreground`` that are large enough."""
        labels = filled_objects(maps, params)
        return Instances(labels.shape, labels=labels)


class BorderedObjectCodec(ForegroundCodec[ObjectParams]):
    """Foreground maps in which a border separates touching nuclei, decoded as in `ObjectCodec` (the row U-Net).

    Targets: ``foreground`` int64 (H, W), 0 or 1, and ``weight`` float32 (H, W), with a border of 1 px between touching
        nuclei, which decoding restores. Maps: ``foreground`` float (1, H, W), probability of nucleus.
    """

    params_type: ClassVar[type[Params]] = ObjectParams

    def __init__(self) -> None:
        super().__init__(split=True)

    def decode(self, maps: Mapping[str, Array], params: ObjectParams) -> Instances:
        """Return the components of the thresholded ``foreground`` that are large enough, with the borders."""
        return self._instances(filled_objects(maps, params))

    def support(self, maps: Mapping[str, Array], params: ObjectParams) -> NDArray[np.bool_]:
        """Mark the nuclear pixels and those around them."""
        return self._with_seams(np.asarray(maps["foreground"][0]) > params.threshold)


class BinaryWatershedCodec(_PlainCodec[WatershedParams]):
    """Foreground maps that are split by a watershed of their distance transform (the rows "+ WS").

    Graham et al. 2019 name the watershed without describing it; this follows their public code. Markers are the inner
    parts of each foreground component, where the distance to the outside exceeds about half of its maximum, with holes
    filled and eroded by 1 px, if at least 10 px remain. Components without a marker, which are the smallest nuclei, are
    dropped.

    Targets: ``foreground`` int64 (H, W), 0 or 1. Maps: ``foreground`` float (1, H, W), probability of nucleus.

    Args:
        ties: Order in which the watershed processes seeds of equal level (see `postproc.pixels.watershed.watershed`);
            ``skimage`` reproduces the public code to the pixel and takes twice as long.
    """

    params_type: ClassVar[type[Params]] = WatershedParams

    def __init__(self, *, ties: Ties = "raster") -> None:
        self.ties = ties

    def decode(self, maps: Mapping[str, Array], params: WatershedParams) -> Instances:
        """Return the watershed regions of the thresholded ``foreground`` that are large enough."""
        nuclear = np.asarray(maps["foreground"][0]) > params.threshold
        minimum = round(params.minimum)
        levels = relative_distance(nuclear)
        inner = fill_holes(levels > params.marker).view(np.uint8)
        inner = cv2.erode(inner, CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        markers = remove_small(connected_components(inner > 0, 4)[0], minimum)
        labels = remove_small(watershed(GREY - levels, markers, nuclear, ties=self.ties), minimum)
        return Instances(labels.shape, labels=labels)


def relative_distance(nuclear: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Compute the depth of each pixel in its 4-connected component, relative to the deepest pixel.

    One distance transform of the whole mask equals that of each component: the nearest pixel outside a component cannot
    belong to another component, since a background pixel between the two would be nearer.

    Args:
        nuclear: bool (H, W). The border of the image counts as outside only if the mask covers the whole image.

    Returns:
        uint8 (H, W): Euclidean distance to the nearest pixel outside in 1/255 of the component's largest, rounded down;
        0 outside.
    """
    if not nuclear.any():
        return np.zeros(nuclear.shape, np.uint8)
    square = squared_distance(np.pad(nuclear, 1))[1:-1, 1:-1] if nuclear.all() else squared_distance(nuclear)
    spans = find_spans(nuclear)
    return _levels(square, spans, *join_spans(spans, 4))


@compiled
def _levels(square: NDArray[np.int32], spans: Spans, component: NDArray[np.int32], count: int) -> NDArray[np.uint8]:
    """Scale squared distances to those of the deepest pixel of each component."""
    place, _, _ = spans
    deepest = np.zeros(count + 1, np.int32)
    for span in range(component.size):
        own = component[span]
        for x in range(place[span, 1], place[span, 2]):
            deepest[own] = max(deepest[own], square[place[span, 0], x])
    levels = np.zeros(square.shape, np.uint8)
    for span in range(component.size):
        y, largest = place[span, 0], math.sqrt(deepest[component[span]])
        for x in range(place[span, 1], place[span, 2]):
            levels[y, x] = np.uint8(GREY * (math.sqrt(square[y, x]) / largest))
    return levels
