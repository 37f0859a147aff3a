"""Pictures for dashboards: part of an image with the outlines of annotation (left) and prediction (right)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmark.forward.maps import InferenceSettings, predict_maps
from benchmark.forward.scaling import decode, rescale
from benchmark.results.pictures import color, densest_window, overlay
from benchmark.results.run import Run
from benchmark.results.spec import Target
from benchmark.results.store import RunStore, read_instances
from datamodules.base import NucleiDataModule
from datamodules.drawing.crops import cut_window
from datamodules.drawing.labelled import has_nuclei
from datamodules.reading.records import Record
from datamodules.reading.sample import Sample
from postproc.codec import Params
from postproc.instances import Instances

COUNT = 3
"""Number of images per set."""
SIDE = 256
"""Side of the part of an image in pixels."""
ENLARGED = 2
"""Pixels of the picture per pixel of the image, so that outlines do not hide small nuclei."""
HEADER = 24
"""Height of the title in pixels."""


class Picture(NamedTuple):
    """A picture with its caption.

    Attributes:
        pixels: uint8 (H, W, 3), RGB.
        caption: Caption.
    """

    pixels: NDArray[np.uint8]
    caption: str


def of_evaluation(store: RunStore, data: NucleiDataModule, target: Target, variant: str) -> list[Picture]:
    """Draw the stored predictions of the first images of a target that have nuclei."""
    found = []
    for record, sample in _annotated(data, target.split):
        path = store.prediction_file(data.card.name, variant, record.image_id)
        if path.exists():
            seen = _fullest(sample, replace(sample, truth=read_instances(path)))
            found.append(panel(_fullest(sample, sample), seen.truth, data.card.types))
        if len(found) == COUNT:
            break
    return found


def validation_crops(data: NucleiDataModule, split: str) -> list[Sample]:
    """Return the part with the most nuclei of each of the first validation images that have nuclei."""
    return [_fullest(sample, sample) for _, sample in islice(_annotated(data, split), COUNT)]


def _annotated(data: NucleiDataModule, split: str) -> Iterator[tuple[Record, Sample]]:
    for record in data.select(split):
        sample = data.read(record)
        if has_nuclei(sample.truth):
            yield record, sample


def _fullest(annotated: Sample, shown: Sample) -> Sample:
    """Crop `shown` to the part with the most annotated nuclei."""
    rows, columns = densest_window(annotated.truth, SIDE)
    return cut_window(shown, ((columns.start + columns.stop) / 2, (rows.start + rows.stop) / 2), SIDE)


def of_network(run: Run, params: Params, tiles: Sequence[Sample]) -> list[Picture]:
    """Draw the predictions of the current network; its training mode and the random state are kept.

    Args:
        run: Run whose method is on its device.
        params: Post-processing parameters of the default variant.
        tiles: Parts of images.
    """
    import torch

    method, settings = run.method, InferenceSettings(precision=run.spec.precision)
    training = method.training
    found = []
    with torch.random.fork_rng():
        method.eval()
        try:
            for tile in tiles:
                maps = predict_maps(method, rescale(tile.image, run.magnification, tile.magnification), settings)
                nuclei = decode(method.codec, maps, params, tile.truth.shape)
                found.append(panel(tile, nuclei, method.task.types))
        finally:
            method.train(training)
    return found


def panel(tile: Sample, found: Instances, types: tuple[str, ...]) -> Picture:
    """Draw a tile with the outlines of the annotation (left) and of the prediction (right), coloured by type."""
    sides = [
        _titled(_drawn(tile.image, truth), f"{title}: {truth.count}", types if truth.types is not None else ())
        for title, truth in (("annotation", tile.truth), ("prediction", found))
    ]
    gap = np.full((sides[0].shape[0], 2 * ENLARGED, 3), 255, np.uint8)
    pixels = np.concatenate([sides[0], gap, sides[1]], axis=1)
    return Picture(pixels, f"{tile.image_id}: annotation {tile.truth.count}, prediction {found.count} nuclei")


def _drawn(image: NDArray[np.uint8], nuclei: Instances) -> NDArray[np.uint8]:
    """Draw nuclei over an enlarged image, so that outlines are thin relative to the nuclei."""
    size = (image.shape[1] * ENLARGED, image.shape[0] * ENLARGED)
    large = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    labels = nuclei.labels
    if labels is not None:
        labels = np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), np.int32)
    points = None if nuclei.points is None else nuclei.points * np.float32(ENLARGED)
    return overlay(large, Instances(large.shape[:2], labels=labels, points=points, types=nuclei.types), thickness=2)


def _titled(image: NDArray[np.uint8], title: str, types: tuple[str, ...]) -> NDArray[np.uint8]:
    """Add a title above an image, followed by the names of the types in their colours."""
    header = np.full((HEADER, image.shape[1], 3), 255, np.uint8)
    x = 4
    words = [(title, (0, 0, 0)), *((name, color(kind)) for kind, name in enumerate(types, start=1))]
    for text, ink in words:
        cv2.putText(header, text, (x, HEADER - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.45, ink, 1, cv2.LINE_AA)
        x += cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)[0][0] + 12
    return np.concatenate([header, image])
