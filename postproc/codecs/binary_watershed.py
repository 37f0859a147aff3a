"""Nuclei from plain foreground maps, as published comparisons decoded them: with and without a watershed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from postproc.codec import Array, Codec, Maps, Params, Targets, tunable
from postproc.codecs.binary import ForegroundCodec
from postproc.codecs.distance import largest
from postproc.errors import DataError
from postproc.instances import Instances
from postproc.pixels.components import connected_components, fill_holes, remove_small
from postproc.pixels.labels import LabelMap
from postproc.pixels.watershed import Ties, watershed

GREY = 255
"""Level of the largest distance of each component."""
CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


@dataclass(frozen=True)
class ObjectParams(Params):
    """Post-processing of the rows FCN8 and SegNet (Graham et al. 2019, table III; values of the public code).

    Attributes:
        threshold: Pixels of a higher probability are nuclear.
        minimum: Least area of a nucleus in px.
    """

    threshold: float = tunable(0.5, (0.3, 0.4, 0.5, 0.6, 0.7))
    minimum: float = 10


@dataclass(frozen=True)
class WatershedParams(ObjectParams):
    """Post-processing of the rows "+ WS" (Graham et al. 2019, table III; values of the public code).

    Attributes:
        marker: Pixels belong to markers where their distance exceeds this, in 1/255 of the largest distance of their
            piece of foreground.
    """

    marker: float = tunable(125, (75, 100, 125, 150, 175))


P = TypeVar("P", bound=ObjectParams)


class _PlainCodec(Codec[P]):
    """Targets of plain foreground methods: touching nuclei are one piece, every px weighs the same."""

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
    """Foreground maps in which a border parts touching nuclei, decoded as `ObjectCodec` does (the row U-Net).

    Targets: ``foreground`` int64 (H, W), 0 or 1, and ``weight`` float32 (H, W), with a border of 1 px between touching
    nuclei, which decoding gives back. Maps: ``foreground`` float (1, H, W), probability of nucleus.
    """

    params_type: ClassVar[type[Params]] = ObjectParams

    def __init__(self) -> None:
        super().__init__(split=True)

    def decode(self, maps: Mapping[str, Array], params: ObjectParams) -> Instances:
        """Return the components of the thresholded ``foreground`` that are large enough, with the borders."""
        return self._instances(filled_objects(maps, params))

    def support(self, maps: Mapping[str, Array], params: ObjectParams) -> NDArray[np.bool_]:
        """Mark the nuclear px and those around them."""
        return self._with_seams(np.asarray(maps["foreground"][0]) > params.threshold)


class BinaryWatershedCodec(_PlainCodec[WatershedParams]):
    """Foreground maps that are split by a watershed of their distance transform (the rows "+ WS").

    Graham et al. 2019 name the watershed without describing it; this is what their public code does. Markers are the
    inner parts of each piece of foreground, where the distance to its outside exceeds about half of its largest,
    with holes filled, eroded by 1 px, of at least ten px; pieces without a marker, which are the smallest nuclei,
    are dropped.

    Targets: ``foreground`` int64 (H, W), 0 or 1. Maps: ``foreground`` float (1, H, W), probability of nucleus.

    Args:
        ties: In which order the watershed takes seeds of equal level (see `postproc.pixels.watershed.watershed`); that
            of scikit-image repeats the public code to the px and takes twice as long.
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
    """Measure how deep each px lies in its 4-connected component, relative to the deepest.

    One distance transform of the whole mask is that of each component: were a px of another component the nearest one
    outside, its 4-neighbour on the way would be nearer still and, being of the own component, join the two.

    Args:
        nuclear: bool (H, W). The border of the image is no outside, except where there is no other.

    Returns:
        uint8 (H, W): Euclidean distance to the nearest px outside in 1/255 of the component's largest, rounded down;
        0 outside.
    """
    if not nuclear.any():
        return np.zeros(nuclear.shape, np.uint8)
    rim = int(nuclear.all())
    padded = np.pad(nuclear, rim).view(np.uint8)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    distance = distance[rim : rim + nuclear.shape[0], rim : rim + nuclear.shape[1]]
    # OpenCV's last bits depend on where its input lies in memory. Squared distances are whole numbers: restore them.
    squared = np.rint(distance.astype(np.float64) ** 2)
    components, count = connected_components(nuclear, 4)
    deepest = largest(squared, components, count).astype(np.float64)
    deepest[0] = 1
    levels: NDArray[np.uint8] = (GREY * (np.sqrt(squared) / np.sqrt(deepest)[components])).astype(np.uint8)
    return levels
