"""Scores of whole images in validation and test steps."""

from __future__ import annotations

import math
import warnings

import torch
from torchmetrics import MetricCollection

from benchmark.metrics.distributed import ClassificationMetrics, DetectionMetrics, ObjectMetrics
from datamodules.reading.card import DatasetCard
from postproc.instances import Instances

ROUNDS = 40
"""Maximum number of epochs of a phase, evenly spaced, after which whole validation images are scored."""
VALIDATION = {"dice", "aji", "pq", "f1", "F_d"}
"""Scores logged in validation; the others follow from these or are of little use during training."""


def rounds_every(total_steps: float, steps_per_epoch: float) -> int:
    """Return the number of epochs between two scorings of validation images, at most `ROUNDS` times in a phase."""
    if not math.isfinite(total_steps) or not math.isfinite(steps_per_epoch):
        return 1
    return max(1, -(-int(total_steps) // (int(steps_per_epoch) * ROUNDS)))


class ImageScores:
    """Scores of whole images, which `torchmetrics` sums over distributed processes.

    Outlines are scored by Dice, AJI and PQ, points by precision, recall and F1. Types are scored by F_d and F_c if
    method and annotation have the same types.

    Args:
        card: Card of the annotated dataset.
        outlines: Whether the method finds outlines.
        types: Names of the types that the method predicts.
        device: Device for the exchange between processes.
    """

    def __init__(self, card: DatasetCard, *, outlines: bool, types: tuple[str, ...], device: torch.device) -> None:
        self._outlines = outlines and card.annotation == "instances"
        self._objects, self._detection = ObjectMetrics(), DetectionMetrics(card.radius)
        self._typed = ClassificationMetrics(len(types), card.radius) if types and types == card.types else None
        metrics = [self._objects if self._outlines else self._detection, *([self._typed] if self._typed else [])]
        self._metrics = MetricCollection(metrics)
        self._metrics.to(device)

    @property
    def shown(self) -> str:
        """Score shown in a progress bar."""
        return "aji" if self._outlines else "f1"

    def add(self, found: Instances, truth: Instances) -> None:
        """Add one image."""
        centres, true_centres = torch.from_numpy(found.centroids()), torch.from_numpy(truth.centroids())
        if self._outlines and truth.labels is not None and found.labels is not None:
            self._objects.update(torch.from_numpy(found.labels), torch.from_numpy(truth.labels))
        else:
            self._detection.update(centres, true_centres)
        if self._typed is not None and truth.types is not None and found.types is not None:
            self._typed.update(centres, torch.from_numpy(found.types), true_centres, torch.from_numpy(truth.types))

    def compute(self) -> dict[str, float]:
        """Return the finite scores over all images and processes."""
        with warnings.catch_warnings():  # without predicted types their metric is never updated
            warnings.filterwarnings("ignore", message="The ``compute`` method of metric")
            found = {name: float(value) for name, value in self._metrics.compute().items()}
        return {name: value for name, value in found.items() if math.isfinite(value)}


__all__ = ["ROUNDS", "VALIDATION", "ImageScores", "rounds_every"]
