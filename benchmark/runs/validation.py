"""Scores of decoded validation images during training, and what chooses the checkpoint."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import pytorch_lightning as pl
import torch
from torchmetrics import MetricCollection

from benchmark.inference.decoding import decode
from benchmark.inference.maps import InferenceSettings, predict_maps
from benchmark.inference.scaling import rescale
from benchmark.metrics.distributed import ClassificationMetrics, DetectionMetrics, ObjectMetrics
from datamodules.drawing.labelled import has_nuclei
from models.base.method import NucleiMethod
from postproc.errors import ConfigError

if TYPE_CHECKING:
    from datamodules.reading.sample import Sample
    from models.base.card import MethodCard

ROUNDS = 40
"""Whole validation images are decoded and scored after at most so many epochs of a phase, evenly spread."""
LOGGED = {"dice", "aji", "pq", "f1", "F_d"}
"""Scores that are logged; the others follow from them or say little during training."""


def check_monitor(monitor: str, card: MethodCard, annotation: str) -> None:
    """Refuse a score that validation will not give.

    Args:
        monitor: One of `benchmark.results.spec.MONITORS`.
        card: Of the method.
        annotation: Of the validation images, as on a dataset's card.

    Raises:
        ConfigError: If outlines are needed and the method or the annotation has points alone, or the reverse.
    """
    outlines = annotation == "instances" and "segmentation" in card.tasks
    if not outlines and monitor in ("dice", "aji", "pq"):
        raise ConfigError(f"monitor={monitor} needs outlines; {card.name} is validated on points here. Use f1 or loss.")
    if outlines and monitor == "f1":
        raise ConfigError(f"monitor=f1 is for points; {card.name} is validated on outlines here. Use aji, pq or dice.")


class ValidationScores(pl.Callback):
    """Predicts, decodes and scores whole validation images at the end of chosen validation epochs.

    The network's default post-processing parameters are used. Processes that train together take every k-th image, and
    `torchmetrics` adds up what they found. Logged are ``val/dice``, ``val/aji``, ``val/pq`` and, with types,
    ``val/F_d``; of annotations of points ``val/f1``.

    Args:
        images: Validation images with nuclei.
        radius: Px within which a detection counts.
        types: Number of types that method and annotation share; 0 = none.
        magnification: Of the training images, to which the others are rescaled.
        precision: Lightning precision of inference.
        every: Epochs between two rounds.
    """

    def __init__(
        self,
        images: list[Sample],
        *,
        radius: float,
        types: int,
        magnification: float | None,
        precision: str,
        every: int,
    ) -> None:
        self.every = every
        self.scores: dict[str, float] = {}
        self._images = [sample for sample in images if has_nuclei(sample.truth)]
        self._radius, self._types = radius, types
        self._magnification = magnification
        self._settings = InferenceSettings(precision=precision)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Score, log, and keep the scores of this epoch; none are kept of an epoch without a round."""
        self.scores = {}
        if not self._images or not self._due(trainer):
            return
        assert isinstance(pl_module, NucleiMethod)
        found = self._score(pl_module, trainer.global_rank, trainer.world_size)
        self.scores = {name: value for name, value in found.items() if name in LOGGED and math.isfinite(value)}
        shown = "f1" if "f1" in self.scores else "aji"
        for name, value in self.scores.items():
            pl_module.log(f"val/{name}", value, prog_bar=name == shown, on_epoch=True, rank_zero_only=True)

    def _due(self, trainer: pl.Trainer) -> bool:
        last = trainer.should_stop or trainer.global_step >= (trainer.max_steps or 0) > 0
        return last or (trainer.current_epoch + 1) % self.every == 0

    def _score(self, method: NucleiMethod, rank: int, world: int) -> dict[str, float]:
        outlines = "segmentation" in method.card.tasks and self._images[0].truth.labels is not None
        objects, detection = ObjectMetrics(), DetectionMetrics(self._radius)
        typed = ClassificationMetrics(max(self._types, 1), self._radius)
        metrics = MetricCollection([objects if outlines else detection, *([typed] if self._types else [])])
        metrics.to(method.device)  # where processes exchange what they have counted
        training = method.training
        method.eval()
        for sample in self._images[rank::world]:
            truth = sample.truth
            image = rescale(sample.image, self._magnification, sample.magnification)
            maps = predict_maps(method, image, self._settings)
            found = decode(method.codec, maps, method.codec.defaults(), truth.shape)
            centres, true_centres = torch.from_numpy(found.centroids()), torch.from_numpy(truth.centroids())
            if outlines and truth.labels is not None and found.labels is not None:
                objects.update(torch.from_numpy(found.labels), torch.from_numpy(truth.labels))
            else:
                detection.update(centres, true_centres)
            if self._types and truth.types is not None and found.types is not None:
                typed.update(centres, torch.from_numpy(found.types), true_centres, torch.from_numpy(truth.types))
        method.train(training)
        with warnings.catch_warnings():  # a method that predicts no types leaves their metric as it was
            warnings.filterwarnings("ignore", message="The ``compute`` method of metric")
            return {name: float(value) for name, value in metrics.compute().items()}


def rounds_every(total_steps: int, steps_per_epoch: int) -> int:
    """Return after how many epochs validation images are scored again, at most `ROUNDS` times in a phase."""
    return max(1, -(-total_steps // (steps_per_epoch * ROUNDS)))


__all__ = ["ROUNDS", "ValidationScores", "check_monitor", "rounds_every"]
