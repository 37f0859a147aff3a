"""Nuclei as star-convex polygons: distances to the outline along rays (StarDist, Schmidt et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from postproc.codec import Array, Codec, Maps, Params, Targets, tunable
from postproc.errors import ConfigError, DataError
from postproc.instances import Instances
from postproc.pixels.labels import relabel
from postproc.pixels.polygons import gather_radii, paint, ray_distances
from postproc.pixels.suppression import suppress
from postproc.symmetry import Symmetry

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class StarConvexParams(Params):
    """Post-processing of StarDist (Schmidt et al. 2018, section 2).

    Attributes:
        probability: Only pixels with at least this object probability propose a polygon.
        overlap: A polygon is dropped if its intersection with a likelier one exceeds this fraction of the smaller area.
    """

    probability: float = tunable(0.5, (0.3, 0.4, 0.5, 0.6, 0.7))
    overlap: float = tunable(0.4, (0.3, 0.4, 0.5))


class StarConvexCodec(Codec[StarConvexParams]):
    """Nuclei as the distance from each of their pixels to the outline in every direction.

    Targets and maps: ``probability`` float32 (1, H, W), the distance to the outline divided by the nucleus' largest, 0
    on background; ``rays`` float32 (rays, H, W), distance in pixels to the outline along direction k at the angle ``2
    pi k / rays`` from the x axis towards the y axis, 0 on background.

    Args:
        rays: Number of directions.

    Raises:
        ConfigError: If there are fewer than 3 rays.
    """

    params_type: ClassVar[type[Params]] = StarConvexParams

    def __init__(self, rays: int = 32) -> None:
        if rays < 3:
            raise ConfigError(f"rays is {rays}: a polygon has at least 3 corners")
        self.rays = rays

    def encode(self, truth: Instances) -> Targets:
        """Return ``probability`` and ``rays``.

        Raises:
            DataError: If the annotation has no outlines.
        """
        if truth.labels is None:
            raise DataError("polygons need outlines and this annotation has none. Use a dataset with label maps.")
        labels = np.ascontiguousarray(truth.labels)
        return {"probability": object_probability(labels)[None], "rays": ray_distances(labels, self.rays)}

    def perfect(self, targets: Mapping[str, Array]) -> Maps:
        """Return the targets themselves: the network regresses them."""
        return {name: np.array(targets[name], np.float32) for name in ("probability", "rays")}

    def check_symmetries(self) -> None:
        """Check that quarter turns map the rays onto each other.

        Raises:
            ConfigError: If they do not.
        """
        if self.rays % 4:
            raise ConfigError(f"{self.rays} rays cannot be averaged over rotated images (--tta); use a multiple of 4")

    def undo(self, maps: Mapping[str, Array], symmetry: Symmetry) -> Maps:
        """Return the maps of an image from those of the mirrored and rotated image, with the rays turned back."""
        return {**super().undo(maps, symmetry), "rays": symmetry.undo_directions(maps["rays"])}

    def decode(self, maps: Mapping[str, Array], params: StarConvexParams) -> Instances:
        """Return the polygons that no likelier one suppresses; where two overlap, the likelier one is on top.

        Args:
            maps: ``probability`` and ``rays``.
            params: Thresholds.

        Returns:
            Label map, and the object probability of each nucleus as its score.
        """
        probability = np.asarray(maps["probability"][0], np.float32)
        rows, columns = np.nonzero(probability >= params.probability)
        order = np.argsort(-probability[rows, columns], kind="stable")
        rays = np.asarray(maps["rays"], np.float32)
        radii = gather_radii(rays, rows, columns, order, max(probability.shape))
        rows, columns = rows[order], columns[order]
        kept = suppress(rows, columns, radii, probability.shape, params.overlap)
        painted = paint(rows[kept], columns[kept], radii[kept], probability.shape)
        labels, _, ids = relabel(painted)
        return Instances(labels.shape, labels=labels, scores=probability[rows, columns][kept][ids - 1])


def object_probability(labels: NDArray[np.integer[Any]]) -> Floats:
    """Compute the Euclidean distance of each pixel to its nucleus' outline, divided by the nucleus' largest.

    The border of the image does not count as outline.

    Args:
        labels: (H, W), 0 = background.

    Returns:
        float32 (H, W) in [0, 1].
    """
    probability = np.zeros(labels.shape, np.float32)
    for label, box in enumerate(find_objects(labels), start=1):
        if box is None:
            continue
        around = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
        inside = labels[around] == label
        if inside.all():  # one nucleus fills the image: measure from the image border
            distance = cv2.distanceTransform(np.pad(inside, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            distance = distance[1:-1, 1:-1]
        else:
            distance = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        probability[around][inside] = (distance / distance.max())[inside]
    return probability
