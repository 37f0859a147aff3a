"""Calls of other packages: each function imports one, converts a scene, and returns the call to time."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.speed.components import Scene

Call = Callable[[], Any]
SOBEL = 21
"""Side of HoVer-Net's Sobel kernel, in pixels."""


def cellpose_aji(scene: Scene) -> Call:
    """Return a call that computes cellpose's aggregated Jaccard index."""
    metrics = import_module("cellpose.metrics")
    return lambda: metrics.aggregated_jaccard_index([scene.labels], [scene.predicted])[0]


def cellpose_average_precision(scene: Scene) -> Call:
    """Return a call that computes TP / (TP + FP + FN) of pairs with an IoU of 0.5."""
    metrics = import_module("cellpose.metrics")
    return lambda: metrics.average_precision([scene.labels], [scene.predicted], threshold=[0.5])[0][0, 0]


def stardist_pq(scene: Scene) -> Call:
    """Return a call that computes StarDist's PQ."""
    matching = import_module("stardist.matching").matching
    return lambda: matching(scene.labels, scene.predicted, thresh=0.5).panoptic_quality


def torchmetrics_pq(scene: Scene) -> Call:
    """Return a call that computes the PQ of torchmetrics, for the category of nuclei only."""
    quality = import_module("torchmetrics.functional.detection").panoptic_quality
    true, predicted = (_categories(labels, axis=-1) for labels in (scene.labels, scene.predicted))
    return lambda: quality(predicted, true, things={1}, stuffs={0}, return_per_class=True)[0, 0]


def monai_pq(scene: Scene) -> Call:
    """Return a call that computes MONAI's PQ."""
    import torch

    quality = import_module("monai.metrics.panoptic_quality").compute_panoptic_quality
    true, predicted = torch.from_numpy(scene.labels), torch.from_numpy(scene.predicted)
    return lambda: quality(pred=predicted, gt=true, metric_name="pq")


def _categories(labels: NDArray[np.int32], axis: int) -> Any:
    """Return (1, H, W, 2): category (1 = nucleus) and number of the instance."""
    import torch

    return torch.from_numpy(np.stack([labels > 0, labels], axis=axis)[None])


def skimage_centroids(scene: Scene) -> Call:
    """Return a call that computes the centroids with scikit-image, (N, 2) as (x, y)."""
    regionprops = import_module("skimage.measure").regionprops
    return lambda: np.array([region.centroid[::-1] for region in regionprops(scene.labels)])


def scipy_centroids(scene: Scene) -> Call:
    """Return a call that computes the centroids with scipy, (N, 2) as (x, y)."""
    center_of_mass = import_module("scipy.ndimage").center_of_mass
    mask, ids = scene.labels > 0, np.arange(1, scene.truth.count + 1)
    return lambda: np.array(center_of_mass(mask, scene.labels, ids))[:, ::-1]


def monai_hover_maps(scene: Scene) -> Call:
    """Return a call that computes MONAI's horizontal and vertical distances, (2, H, W)."""
    transform = import_module("monai.transforms").ComputeHoVerMaps()
    return lambda: np.asarray(transform(scene.labels[None]))


def scipy_chessboard(scene: Scene) -> Call:
    """Return a call that transforms each nucleus separately, in its box plus one pixel."""
    ndimage = import_module("scipy.ndimage")

    def transform() -> NDArray[np.float32]:
        result: NDArray[np.float32] = np.zeros(scene.labels.shape, np.float32)
        for number, box in enumerate(ndimage.find_objects(scene.labels), start=1):
            wider = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
            own = scene.labels[wider] == number
            result[wider][own] = ndimage.distance_transform_cdt(own, "chessboard")[own]
        return result

    return transform


def monai_label_map(scene: Scene) -> Call:
    """Return a call of MONAI's HoVer-Net transforms that computes the label map, (H, W)."""
    steps = import_module("monai.apps.pathology.transforms")
    mask = steps.GenerateWatershedMask(activation=_identity, threshold=0.5)
    border = steps.GenerateInstanceBorder(kernel_size=SOBEL)
    distance, markers, watershed = (
        steps.GenerateDistanceMap(),
        steps.GenerateWatershedMarkers(),
        steps.Watershed(connectivity=1),
    )

    def decode() -> NDArray[Any]:
        nuclear = mask(scene.hover["np"])
        edges = border(nuclear, scene.hover["hv"])
        labels: NDArray[Any] = np.asarray(watershed(distance(nuclear, edges), nuclear, markers(nuclear, edges)))[0]
        return labels

    return decode


def monai_everything(scene: Scene) -> Call:
    """Return a call of MONAI's complete post-processing, up to the label map, (H, W)."""
    steps = import_module("monai.apps.pathology.transforms")
    decode = steps.HoVerNetInstanceMapPostProcessing(
        activation=_identity, mask_threshold=0.5, sobel_kernel_size=SOBEL, marker_threshold=0.4
    )
    return lambda: np.asarray(decode(scene.hover["np"], scene.hover["hv"])[1])[0]


def _identity(probability: Any) -> Any:
    return probability


def skimage_watershed(scene: Scene) -> Call:
    """Return a call of scikit-image's watershed over the whole image."""
    watershed = import_module("skimage.segmentation").watershed
    basins, markers, mask = scene.flooding
    return lambda: watershed(basins, markers, mask=mask)


def skimage_reconstruction(scene: Scene) -> Call:
    """Return a call of scikit-image's reconstruction by dilation over 8 neighbours, from one level below."""
    reconstruction = import_module("skimage.morphology").reconstruction
    levels = scene.levels
    seed = levels - np.minimum(levels, 1)
    return lambda: reconstruction(seed, levels, footprint=np.ones((3, 3)))


def scipy_label(scene: Scene) -> Call:
    """Return a call of scipy's labelling over 4 neighbours."""
    label = import_module("scipy.ndimage").label
    return lambda: label(scene.flooding[2])[0]


def skimage_label(scene: Scene) -> Call:
    """Return a call of scikit-image's labelling over 4 neighbours."""
    label = import_module("skimage.measure").label
    return lambda: label(scene.flooding[2], connectivity=1)
