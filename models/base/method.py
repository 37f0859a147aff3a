"""`NucleiMethod`: the base of every method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from datamodules.drawing.crops import CropDrawer, Drawer
from datamodules.drawing.labelled import has_nuclei
from datamodules.drawing.loading import Loading
from datamodules.reading.sample import Sample
from models.base.card import MethodCard
from models.base.recipe import Phase, Recipe
from models.base.weights import NONE, is_weight_option
from postproc.codec import Codec, Maps, Targets
from postproc.errors import ConfigError
from postproc.tiles import DenseStitcher, Geometry, Stitcher

if TYPE_CHECKING:
    from datamodules.base import NucleiDataModule
    from datamodules.reading.card import DatasetCard

Outputs = dict[str, Tensor]
"""Raw output of a network: name -> logits (B, C, h, w)."""
Batch = dict[str, Any]
"""What `NucleiMethod.collate` returns: ``image`` uint8 (B, 3, H, W), and the targets of the codec."""


@dataclass(frozen=True)
class Task:
    """What the training data asks of a network.

    Attributes:
        types: Names of the nucleus types 1..T; empty where there are none.
        mpp: Microns per px of the training images, to which all others are rescaled; None where unknown.
    """

    types: tuple[str, ...] = ()
    mpp: float | None = None

    @classmethod
    def of(cls, data: NucleiDataModule) -> Task:
        """Return what a dataset asks of a network."""
        return cls.of_card(data.card)

    @classmethod
    def of_card(cls, card: DatasetCard) -> Task:
        """Return what a dataset with that card asks; the usual microns per px where it states a magnification alone."""
        return cls(card.types, card.mpp or (10 / card.magnification if card.magnification else None))


torch.serialization.add_safe_globals([Task])  # checkpoints hold it, and are read without unpickling anything else


def learnt_types(task: Task, classify: bool | None) -> int:
    """Return the number of types that a method learns, 0 = none.

    Args:
        task: What the training data asks for.
        classify: The method's option of that name: True or False, None = where the data has types.

    Raises:
        ConfigError: If types are asked of data without types.
    """
    if classify and not task.types:
        raise ConfigError("classify=true, but the training data has no types. Use classify=false.")
    return len(task.types) if classify is None or classify else 0


class NucleiMethod(pl.LightningModule, ABC):
    """A method: card, codecs, network, loss and recipe.

    A subclass sets `card` and `recipe`, and in its constructor `codecs` and `geometry` and the network's modules; it
    writes `forward`, `loss` and `activate`. Constructor arguments after `task` are the method's options: keyword
    arguments with a type and the paper's value as default.

    The base owns preparing images, cropping targets to the output of valid convolutions, running losses in float32,
    logging, and the optimiser with its schedule. Methods that are no dense network override `losses`, `predict_batch`
    and `stitcher` (Mask R-CNN), or `drawer` (self-supervision).

    Attributes:
        small: Options that make the network small enough to try on any machine; the tests and the demo use them.
        codecs: Variant key -> codec, one entry per `card.variants`; the first encodes the training targets.
        geometry: Input sizes, margin and context of the network.
        mean: Per-channel mean of the input, in [0, 1] (ImageNet's for encoders trained on it).
        std: Per-channel standard deviation of the input.
        weighs_types: True where the loss has a cross-entropy over types that heeds `type_weights`.
        type_weights: float32 (T + 1,), weights of background and of each type in the cross-entropy over types; None =
            all alike. Set by the runner (`benchmark.runs.balance`).
    """

    card: ClassVar[MethodCard]
    small: ClassVar[Mapping[str, Any]] = {}
    recipe: Recipe
    codecs: Mapping[str, Codec[Any]]
    geometry: Geometry
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    weighs_types: bool = False

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.task = task
        self.phase: Phase | None = None
        self._follows_trainer = False
        self.progress = 0.0
        self.type_weights: Tensor | None = None

    # ---- what a dense method writes ------------------------------------------------------------------------------

    @abstractmethod
    def forward(self, images: Tensor) -> Outputs:
        """Return the logits, each (B, C, h, w), of prepared images, float (B, 3, H, W)."""

    @abstractmethod
    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of the loss by name, already weighted; their sum is minimised.

        Args:
            outputs: What `forward` gave, in float32.
            batch: The targets, cropped to the outputs' size.
        """

    @abstractmethod
    def activate(self, outputs: Outputs) -> Outputs:
        """Turn logits into the maps that the codec decodes (probabilities, distances), same (B, C, h, w)."""

    # ---- what other methods override -----------------------------------------------------------------------------

    @property
    def codec(self) -> Codec[Any]:
        """The codec of the default variant, which encodes the training targets."""
        return next(iter(self.codecs.values()))

    def drawer(self, recipe: Recipe, *, augment: bool) -> Drawer:
        """Return what draws one training item from a sample; validation items are drawn without augmentation."""
        return CropDrawer(recipe.crop, self.codec, recipe.augment if augment else "none")

    def loading(self, recipe: Recipe | None = None, phase: Phase | None = None, **how: Any) -> Loading:
        """Return how the items of a phase are drawn and batched.

        Args:
            recipe: None = the method's own.
            phase: None = the recipe's first.
            how: Further settings of `Loading`.
        """
        recipe = recipe or self.recipe
        phase = phase or recipe.phases[0]
        return Loading(
            train=self.drawer(recipe, augment=True),
            validation=self.drawer(recipe, augment=False),
            collate=self.collate,
            batch_size=phase.batch_size,
            crops_per_image=recipe.crops_per_image,
            annotated=self.card.needs != "none",
            **({"choose": self.choose} | how),
        )

    def choose(self, samples: list[Sample]) -> list[Sample]:
        """Return the images that have something to learn from."""
        return [sample for sample in samples if self.learns_from(sample)]

    def learns_from(self, sample: Sample) -> bool:
        """Tell whether an image has anything that is learnt in the current phase; others are not drawn from."""
        return self.card.needs == "none" or has_nuclei(sample.truth)

    def collate(self, items: list[Targets]) -> Batch:
        """Put items together into a batch."""
        return {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}

    def statistics(self, images: Tensor) -> Tensor:
        """Return mean and standard deviation per channel, (B, 2, 3), that `prepare` takes out of `images`.

        Args:
            images: float (B, 3, H, W) in [0, 1]: crops in training; in inference the whole image, so that all its
                tiles are prepared alike.
        """
        fixed = torch.tensor([self.mean, self.std], device=images.device)
        return fixed.expand(len(images), 2, 3)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of the loss of one batch."""
        outputs = self(self.prepare(batch["image"]))
        with torch.autocast(self.device.type, enabled=False):
            outputs = {name: value.float() for name, value in outputs.items()}
            return self.loss(outputs, crop_targets(batch, next(iter(outputs.values())).shape[-2:]))

    def predict_batch(self, images: Tensor) -> list[Maps]:
        """Return the activated maps of prepared tiles of one size, one dictionary of float32 arrays per tile."""
        outputs = {name: value.float() for name, value in self(images).items()}
        arrays = {name: value.float().cpu().numpy() for name, value in self.activate(outputs).items()}
        return [{name: value[i] for name, value in arrays.items()} for i in range(len(images))]

    def stitcher(self, shape: tuple[int, int]) -> Stitcher:
        """Return what puts the tiles of an image of (H, W) px together."""
        return DenseStitcher(shape)

    def optimizer(self, parameters: list[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """Return the paper's optimiser over the parameters that are trained in the current phase."""
        return torch.optim.Adam(parameters, lr=lr)

    # ---- what the base owns --------------------------------------------------------------------------------------

    def prepare(self, images: Tensor, statistics: Tensor | None = None) -> Tensor:
        """Scale uint8 (B, 3, H, W) to [0, 1] and standardise by `statistics` (default: those of `images`)."""
        scaled = images.to(self.device).float() / 255
        given = self.statistics(scaled) if statistics is None else statistics.to(scaled)
        prepared = (scaled - given[:, 0, :, None, None]) / given[:, 1, :, None, None]
        return prepared.contiguous(memory_format=torch.channels_last)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch, and log its terms."""
        return self._step(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one validation batch; ``val/loss`` chooses the checkpoint of protocol ``strict``."""
        return self._step(batch, "val")

    def _step(self, batch: Batch, stage: str) -> Tensor:
        terms = self.losses(batch)
        total = torch.stack(list(terms.values())).sum()
        size = len(batch["image"])
        every_step = stage == "train"
        self.log(f"{stage}/loss", total, prog_bar=True, on_step=every_step, on_epoch=True, batch_size=size)
        if len(terms) > 1:
            for name, value in terms.items():
                self.log(f"{stage}/{name}", value.detach(), on_step=False, on_epoch=True, batch_size=size)
        return total

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let a checkpoint be loaded where the initial weights are not: it has its own."""
        options: dict[str, Any] = checkpoint.get(self.CHECKPOINT_HYPER_PARAMS_KEY, {})
        for name in options:
            if is_weight_option(name):
                options[name] = NONE

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Freeze what `phase` says and return the optimiser over the rest.

        A plain `pl.Trainer` trains the recipe's first phase; the learning rate follows its schedule over the trainer's
        own length (`on_train_batch_start`).
        """
        if self.phase is None or self._follows_trainer:
            self.phase, self._follows_trainer = self.recipe.phases[0], True
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(not name.startswith(self.phase.frozen) if self.phase.frozen else True)
        return self.optimizer([p for p in self.parameters() if p.requires_grad], self.phase.lr)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the learning rate for the share of the phase that is done (`progress`; the runner keeps it)."""
        if self.phase is None:
            return
        if self._follows_trainer:
            total = float(self.trainer.estimated_stepping_batches)  # infinite where the trainer has no length
            self.progress = min(self.trainer.global_step / total, 1.0)
        rate = self.phase.lr * self.phase.schedule(self.progress)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate


def crop_targets(batch: Batch, size: torch.Size | tuple[int, int]) -> Batch:
    """Crop every dense target of a batch to the centre (h, w) that the network gave back."""
    height, width = batch["image"].shape[-2:]
    top, left = (height - size[0]) // 2, (width - size[1]) // 2

    def centre(value: Any) -> Any:
        if isinstance(value, Tensor) and value.shape[-2:] == (height, width):
            return value[..., top : top + size[0], left : left + size[1]]
        return value

    return {name: value if name == "image" else centre(value) for name, value in batch.items()}
