"""Time metrics, targets and post-processing on synthetic label maps, in one thread."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmark.metrics.centroids import label_centroids
from benchmark.metrics.contingency import contingency
from benchmark.metrics.image import object_scores, score_image
from benchmark.speed.reach import (
    ALL_SCORES,
    CENTROIDS,
    CHESSBOARD,
    DIST_DECODING,
    HOVER_DECODING,
    HOVER_EVERYTHING,
    HOVER_TARGETS,
    METRICS,
    TO_REACH,
)
from benchmark.speed.timing import Timing, measure
from datamodules.synthetic.images import generate
from postproc.codec import Codec, Maps
from postproc.codecs.distance import DistanceCodec, chessboard
from postproc.codecs.hover import HoverCodec, HoverParams, find_markers, gradient_measure
from postproc.instances import Instances
from postproc.pixels.components import connected_components
from postproc.pixels.labels import LabelMap
from postproc.pixels.morphology import h_maxima_transform
from postproc.pixels.outlines import bounding_boxes, outlines
from postproc.pixels.watershed import watershed

TYPES = ("miscellaneous", "inflammatory", "epithelial", "spindle")
DENSITY = 7e-4
"""Nuclei per pixel: 700 in an image of 1000 x 1000 px."""
WATERSHED = "watershed"
LABELLING = "connected components"
H_MAXIMA = "cutting of h-maxima"


@dataclasses.dataclass(frozen=True)
class Scene:
    """A synthetic image with annotation and simulated network outputs.

    Attributes:
        side: Height and width in pixels.
        image: uint8 (side, side, 3).
        truth: Label map with types.
        found: Simulated prediction: the truth shifted by two pixels, without one nucleus in ten.
        hover: Smoothed maps ``np``, ``hv`` and ``tp`` of the truth.
        distance: Smoothed map ``distance`` of the truth.
        flooding: Inputs of the watershed of HoVer-Net: basins float32, markers int32, mask bool, each (side, side).
        levels: uint8 (side, side), `distance` in whole pixels, input of the post-processing of DIST.
    """

    side: int
    image: NDArray[np.uint8]
    truth: Instances
    found: Instances
    hover: Maps
    distance: Maps
    flooding: tuple[NDArray[np.float32], LabelMap, NDArray[np.bool_]]
    levels: NDArray[np.uint8]

    @property
    def labels(self) -> LabelMap:
        """The annotated label map."""
        assert self.truth.labels is not None
        return self.truth.labels

    @property
    def predicted(self) -> LabelMap:
        """The predicted label map."""
        assert self.found.labels is not None
        return self.found.labels

    @property
    def size(self) -> str:
        """Name of the size in tables."""
        return f"{self.side} px"


def make_scene(side: int, seed: int = 0) -> Scene:
    """Generate a scene with 700 nuclei per 1000 x 1000 px.

    Args:
        side: Height and width in pixels.
        seed: Seed of image and prediction.
    """
    rng = np.random.default_rng(seed)
    image, truth = generate((side, side), rng, density=DENSITY)
    hover, distance = (_predicted_maps(codec, truth) for codec in (HoverCodec(len(TYPES)), DistanceCodec()))
    levels = np.clip(distance["distance"][0], 0, 255).astype(np.uint8)
    return Scene(side, image, truth, perturbed(truth, rng), hover, distance, _flooding(hover), levels)


def perturbed(truth: Instances, rng: np.random.Generator) -> Instances:
    """Return a simulated prediction: shifted by two pixels, with one nucleus in ten missing."""
    assert truth.labels is not None
    assert truth.types is not None
    labels = np.roll(truth.labels, (2, 1), axis=(0, 1))
    keep = np.concatenate([[True], rng.random(truth.count) > 0.1])
    numbers = np.where(keep, np.cumsum(keep) - 1, 0)
    return Instances(truth.shape, labels=numbers[labels].astype(np.int32), types=truth.types[keep[1:]])


def _predicted_maps(codec: Codec[Any], truth: Instances) -> Maps:
    """Smooth the ideal maps of an annotation to simulate network outputs."""
    perfect = codec.perfect(codec.encode(truth))
    return {
        name: np.stack([cv2.GaussianBlur(channel.astype(np.float32), (0, 0), 1.0) for channel in value])
        for name, value in perfect.items()
    }


def _flooding(hover: Maps) -> tuple[NDArray[np.float32], LabelMap, NDArray[np.bool_]]:
    params = HoverParams()
    nuclear = hover["np"][0] >= params.h
    smooth = gradient_measure(*hover["hv"])
    markers = find_markers(nuclear & (smooth > 1 - params.k), params.smallest)
    return -np.asarray(cv2.GaussianBlur(smooth * nuclear, (3, 3), 0), np.float32), markers, nuclear


def everything(scene: Scene) -> tuple[Instances, Any, Any, Any]:
    """Decode HoVer maps into label map, types, centroids, boxes and contours."""
    codec = HoverCodec(len(TYPES))
    nuclei = codec.decode(scene.hover, codec.defaults())
    assert nuclei.labels is not None
    labels, count = nuclei.labels, nuclei.count
    return nuclei, label_centroids(labels), bounding_boxes(labels, count), outlines(labels, count)


def component_jobs(scene: Scene) -> dict[str, Callable[[], Any]]:
    """Return all jobs of nucbench on a scene as functions."""
    plain, distance = HoverCodec(0), DistanceCodec()
    return {
        METRICS: lambda: object_scores(contingency(scene.labels, scene.predicted)),
        ALL_SCORES: lambda: score_image(scene.truth, scene.found, radius=12.0, types=len(TYPES)),
        CENTROIDS: lambda: label_centroids(scene.labels),
        HOVER_TARGETS: lambda: plain.encode(scene.truth),
        CHESSBOARD: lambda: chessboard(scene.labels),
        HOVER_DECODING: lambda: plain.decode(scene.hover, plain.defaults()),
        HOVER_EVERYTHING: lambda: everything(scene),
        DIST_DECODING: lambda: distance.decode(scene.distance, distance.defaults()),
        WATERSHED: lambda: watershed(*scene.flooding),
        H_MAXIMA: lambda: h_maxima_transform(scene.levels, 1.0),
        LABELLING: lambda: connected_components(scene.flooding[2], 4),
    }


def component_timings(scene: Scene, repeats: int) -> dict[str, Timing]:
    """Time all jobs on a scene.

    Args:
        scene: Scene of `make_scene`.
        repeats: Counted runs of each job.

    Returns:
        Job -> timing, with the target time if there is one for this size.
    """
    return {
        job: measure(job, scene.size, scene.truth.count, call, repeats, to_reach_ms=TO_REACH.get((job, scene.side)))
        for job, call in component_jobs(scene).items()
    }


def patch_timing(repeats: int) -> Timing:
    """Time the HoVer targets of a patch of 256 px as the mean of 100 calls."""
    _, truth = generate((256, 256), np.random.default_rng(0), density=DENSITY)
    codec, runs = HoverCodec(0), 100
    found = measure(HOVER_TARGETS, "256 px", truth.count, lambda: [codec.encode(truth) for _ in range(runs)], repeats)
    mean = {name: getattr(found, name) / runs for name in ("median_ms", "fastest_ms", "slowest_ms")}
    return dataclasses.replace(found, **mean, to_reach_ms=TO_REACH[HOVER_TARGETS, 256], note=f"mean of {runs}")
