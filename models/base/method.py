"""`NucleiMethod`: base class of all methods."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from benchmark.forward.maps import InferenceSettings, predict_maps
from benchmark.forward.network import Network, Outputs
from benchmark.forward.scaling import check_magnification, decode, rescale
from datamodules.drawing.crops import CropDrawer, Drawer
from datamodules.drawing.labelled import has_nuclei
from datamodules.drawing.loading import Loading
from datamodules.reading.sample import Sample
from models.base.card import MethodCard
from models.base.foreign import Foreign
from models.base.memory_format import keep_format
from models.base.optimizers import kernels_decay
from models.base.recipe import Phase, Recipe
from models.base.scores import VALIDATION, ImageScores, rounds_every
from models.base.targets import crop_targets
from models.base.weight_average import WeightAverage
from models.base.weights import NONE, State, is_weight_option
from postproc.codec import Codec, Maps, Params, Targets
from postproc.errors import ConfigError, unknown_name
from postproc.instances import Instances
from postproc.symmetry import Symmetry

if TYPE_CHECKING:
    from datamodules.base import NucleiDataModule
    from datamodules.reading.card import DatasetCard

Batch = dict[str, Any]
"""Result of `NucleiMethod.collate`: ``image`` uint8 (B, 3, H, W), and the targets of the codec."""


@dataclass(frozen=True)
class Task:
    """Types and pixel size of the training data, which determine the network.

    Attributes:
        types: Names of the nucleus types 1..T; empty if there are none.
        mpp: Microns per pixel of the training images, to which all other images are rescaled; None if unknown.
    """

    types: tuple[str, ...] = ()
    mpp: float | None = None

    @classmethod
    def of(cls, data: NucleiDataModule) -> Task:
        """Return the task of a dataset."""
        return cls.of_card(data.card)

    @classmethod
    def of_card(cls, card: DatasetCard) -> Task:
        """Return the task of a dataset with this card; a magnification without a pixel size gives the usual one."""
        return cls(card.types, card.mpp or (10 / card.magnification if card.magnification else None))


UNTYPED = Task()
"""Task of training data without types, at an unknown magnification."""

torch.serialization.add_safe_globals([Task])  # checkpoints contain it; loading refuses other pickled objects


def learnt_types(task: Task, classify: bool | None) -> int:
    """Return the number of types that a method learns, 0 = none.

    Args:
        task: Types and pixel size of the training data.
        classify: Option ``classify`` of the method: True or False, None = if the data has types.

    Raises:
        ConfigError: If types are requested but the data has none.
    """
    if classify and not task.types:
        raise ConfigError("classify=true, but the training data has no types. Use classify=false.")
    return len(task.types) if classify is None or classify else 0


class NucleiMethod(Network):
    """A method: card, codecs, network, loss and recipe.

    A subclass sets `card` and `recipe`; its constructor sets `codecs`, `geometry` and the modules of the network. It
    implements `forward`, `loss` and `activate`. Constructor arguments after `task` are the options of the method:
    keyword arguments with a type and the paper's value as default.

    The base class prepares images, crops targets to the output of valid convolutions, computes losses in float32,
    logs, applies the learning-rate schedule, and processes whole images: `segment`, and the scores of validation and
    test. Methods without a dense network override `losses`, `predict_batch` and `stitcher` (Mask R-CNN), or `drawer`
    (self-supervision).

    Attributes:
        small: Options that make the network small enough for any machine; used by the tests and the demo.
        codecs: Variant key -> codec, one entry per `card.variants`; the first encodes the training targets.
        weighs_types: True if the loss has a cross-entropy over types that uses `type_weights`.
        weight_decay: L2 penalty on kernels in the default `optimizer`.
        type_weights: float32 (T + 1,), weights of background and of each type in the cross-entropy over types; None =
            equal weights.
        progress: Completed share of the phase, in [0, 1]; some losses depend on it.
        magnification: Magnification of the training images, to which `segment` rescales others; None = unknown.
            Training sets it.
        validation_scores: Scores of the whole validation images in the last epoch, by name; empty if they were not
            scored.
    """

    card: ClassVar[MethodCard]
    small: ClassVar[Mapping[str, Any]] = {}
    recipe: Recipe
    codecs: Mapping[str, Codec[Any]]
    weighs_types: bool = False
    weight_decay: float = 0.0

    def __init__(self, task: Task = UNTYPED) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.task = task
        self.magnification = 10 / task.mpp if task.mpp else None
        self.progress = 0.0
        self.type_weights: Tensor | None = None
        self.validation_scores: dict[str, float] = {}
        self._phase: Phase | None = None
        self._share: Callable[[], float] | None = None
        self._scores: ImageScores | None = None

    @property
    def phase(self) -> Phase:
        """The current phase: that given to `begin`, otherwise the first phase of the recipe."""
        return self._phase or self.recipe.phases[0]

    def begin(
        self, phase: Phase, *, type_weights: Tensor | None = None, share: Callable[[], float] | None = None
    ) -> None:
        """Begin a phase; otherwise a trainer trains the first phase of the recipe.

        Args:
            phase: Phase to train.
            type_weights: float32 (T + 1,), weights of background and types in the loss; None = equal weights.
            share: Returns the completed share of the phase; None = completed steps of the trainer / all its steps.
        """
        self._phase, self.type_weights, self._share = phase, type_weights, share

    @property
    def training_crop(self) -> int:
        """Side of the recipe's crops in pixels."""
        return self.recipe.crop

    # ---- implemented by dense methods ----------------------------------------------------------------------------

    @abstractmethod
    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of the loss by name, already weighted; their sum is minimised.

        Args:
            outputs: Outputs of `forward`, in float32.
            batch: Targets, cropped to the size of the outputs.
        """

    # ---- overridden by other methods -----------------------------------------------------------------------------

    @classmethod
    def read_foreign(cls, state: State) -> Foreign:
        """Return the tensors of a weights file under the names of the method, for `nucbench adopt`."""
        return Foreign.own(state)

    @property
    def codec(self) -> Codec[Any]:
        """The codec of the default variant, which encodes the training targets."""
        return next(iter(self.codecs.values()))

    def check_symmetries(self) -> None:
        """Check that maps of mirrored and rotated images can be averaged.

        Raises:
            ConfigError: If they cannot.
        """
        if not self.card.trained:
            raise ConfigError(f"{self.card.name} has no network, so --tta would have no effect; leave it out")
        for codec in self.codecs.values():
            codec.check_symmetries()

    def undo(self, maps: Maps, symmetry: Symmetry) -> Maps:
        """Return the maps of a tile from those of the mirrored and rotated tile."""
        return self.codec.undo(maps, symmetry)

    def drawer(self, recipe: Recipe, *, augment: bool) -> Drawer:
        """Return the drawer of one training item from a sample; validation items are drawn without augmentation."""
        return CropDrawer(recipe.crop, self.codec, recipe.augment if augment else "none")

    def loading(self, recipe: Recipe | None = None, phase: Phase | None = None, **how: Any) -> Loading:
        """Return the settings for drawing and batching the items of a phase.

        Args:
            recipe: Recipe; None = that of the method.
            phase: Phase; None = the first of the recipe.
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
            **({"choose": self.choose} | how),
        )

    def choose(self, samples: list[Sample]) -> list[Sample]:
        """Return the images that have the annotation needed for training."""
        return [sample for sample in samples if self.learns_from(sample)]

    def learns_from(self, sample: Sample) -> bool:
        """Return whether an image has the annotation that the current phase needs; crops come from such images only."""
        return self.card.needs == "none" or has_nuclei(sample.truth)

    def collate(self, items: list[Targets]) -> Batch:
        """Stack items into a batch."""
        return {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the terms of the loss of one batch."""
        outputs = self(self.prepare(batch["image"]))
        with torch.autocast(self.device.type, enabled=False):
            outputs = {name: keep_format(value.float()) for name, value in outputs.items()}
            return self.loss(outputs, crop_targets(batch, next(iter(outputs.values())).shape[-2:]))

    def optimizer(self, parameters: list[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """Return the paper's optimiser of the parameters that the current phase trains.

        By default it is Adam, and `weight_decay` applies to kernels only.
        """
        groups = kernels_decay(parameters, self.weight_decay) if self.weight_decay else parameters
        return torch.optim.Adam(groups, lr=lr)

    # ---- implemented by the base class ---------------------------------------------------------------------------

    def segment(
        self,
        image: NDArray[np.uint8],
        magnification: float | None = None,
        *,
        variant: str | None = None,
        params: Params | None = None,
        settings: InferenceSettings | None = None,
    ) -> Instances:
        """Find the nuclei of a whole image of any size.

        Args:
            image: uint8 (H, W, 3), RGB.
            magnification: Magnification of the image, which is rescaled to that of the training images; the nuclei are
                mapped back. None = magnification of the training images.
            variant: Post-processing, a key of `codecs`; None = the default.
            params: Post-processing parameters; None = the paper's.
            settings: Precision and tiles.

        Returns:
            The nuclei, in pixels of the image.

        Raises:
            ConfigError: If the variant is unknown or the magnification is invalid.
            DataError: If the image is not uint8 (H, W, 3).
        """
        check_magnification(magnification)
        variant = variant or next(iter(self.codecs))
        if variant not in self.codecs:
            raise unknown_name("variant", variant, self.codecs)
        codec = self.codecs[variant]
        maps = predict_maps(self, rescale(image, self.magnification, magnification), settings)
        return decode(codec, maps, params or codec.defaults(), (image.shape[0], image.shape[1]))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch and log its terms."""
        return self._step(batch, "train")

    def on_validation_epoch_start(self) -> None:
        """Decide whether this validation scores whole images."""
        self.validation_scores = {}
        self._scores = self._new_scores() if self._scores_now() else None

    def validation_step(self, batch: Batch | Sample, batch_idx: int) -> Tensor | None:
        """Return the loss of a batch of validation crops, or score a whole validation image.

        Protocol ``strict`` chooses its checkpoint by ``val/loss`` or the scores of whole images (``val/aji`` and
        others).
        """
        if not isinstance(batch, Sample):
            return self._step(batch, "val")
        if self._scores is not None:
            self._scores.add(self._found(batch), batch.truth)
        return None

    def on_validation_epoch_end(self) -> None:
        """Log the scores of whole images and store them in `validation_scores`."""
        if self._scores is None:
            return
        found = self._scores.compute()
        self.validation_scores = {name: value for name, value in found.items() if name in VALIDATION}
        for name, value in self.validation_scores.items():
            shown = name == self._scores.shown
            self.log(f"val/{name}", value, prog_bar=shown, on_epoch=True, rank_zero_only=True)

    def on_test_epoch_start(self) -> None:
        """Reset the scores."""
        self._scores = self._new_scores()

    def test_step(self, sample: Sample, batch_idx: int) -> None:
        """Segment a whole image and score its nuclei."""
        if self._scores is not None and has_nuclei(sample.truth):
            self._scores.add(self._found(sample), sample.truth)

    def on_test_epoch_end(self) -> None:
        """Log all scores with the prefix ``test/``, for example ``test/aji``."""
        if self._scores is not None:
            self.log_dict({f"test/{name}": value for name, value in self._scores.compute().items()})

    def predict_step(self, sample: Sample, batch_idx: int) -> Instances:
        """Return the nuclei of a whole image."""
        return self._found(sample)

    def _found(self, sample: Sample) -> Instances:
        settings = InferenceSettings(precision=str(self.trainer.precision))
        return self.segment(sample.image, sample.magnification, settings=settings)

    def _new_scores(self) -> ImageScores | None:
        card = getattr(getattr(self.trainer, "datamodule", None), "scored_card", None)
        if card is None:  # custom loaders, whose annotation is unknown
            return None
        outlines = "segmentation" in self.card.tasks
        return ImageScores(card, outlines=outlines, types=self.task.types, device=self.device)

    def _scores_now(self) -> bool:
        """Return whether this validation scores whole images: during training some do, otherwise all do."""
        trainer = self.trainer
        if trainer.sanity_checking:
            return False
        if trainer.state.fn != TrainerFn.FITTING:
            return True
        total = trainer.estimated_stepping_batches
        last = trainer.should_stop or trainer.global_step >= total
        return last or (trainer.current_epoch + 1) % rounds_every(total, trainer.num_training_batches) == 0

    def _step(self, batch: Batch, stage: str) -> Tensor:
        terms = self.losses(batch)
        total = torch.stack(list(terms.values())).sum()
        size = len(batch["image"])
        every_step = stage == "train"
        how: dict[str, Any] = {"on_epoch": True, "batch_size": size}
        self.log(f"{stage}/loss", total, prog_bar=True, on_step=every_step, **how)
        if len(terms) > 1:
            for name, value in terms.items():
                self.log(f"{stage}/{name}", value.detach(), on_step=False, **how)
        return total

    def setup(self, stage: str) -> None:
        """Store the magnification of the training images."""
        data = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and data is not None:
            self.magnification = data.magnification

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the magnification, and set weight options to ``none`` so that loading needs no pretrained weights."""
        checkpoint["magnification"] = self.magnification
        options: dict[str, Any] = checkpoint.get(self.CHECKPOINT_HYPER_PARAMS_KEY, {})
        for name in options:
            if is_weight_option(name):
                options[name] = NONE

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the magnification of the training images."""
        self.magnification = checkpoint.get("magnification", self.magnification)

    def configure_callbacks(self) -> list[pl.Callback]:
        """Return a `WeightAverage` if the recipe has a moving average and the trainer has no such callback."""
        fitting = self.trainer.state.fn == TrainerFn.FITTING
        callbacks: list[pl.Callback] = self.trainer.callbacks  # type: ignore[attr-defined]  # untyped there
        if self.recipe.ema is None or not fitting or any(isinstance(each, WeightAverage) for each in callbacks):
            return []
        return [WeightAverage(self.recipe.ema)]

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Limit the norm of the gradient to the trainer's value, otherwise to the recipe's."""
        limit = self.recipe.gradient_clip if gradient_clip_val is None else gradient_clip_val
        self.clip_gradients(optimizer, limit, gradient_clip_algorithm)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Freeze the parameters that the phase names and return the optimiser of the others.

        The learning rate follows the schedule of the phase (`on_train_batch_start`).
        """
        frozen = self.phase.frozen
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(not name.startswith(frozen) if frozen else True)
        return self.optimizer([p for p in self.parameters() if p.requires_grad], self.phase.lr)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Update the completed share of the phase and set the learning rate accordingly."""
        if self._share is not None:
            self.progress = self._share()
        else:
            total = float(self.trainer.estimated_stepping_batches)  # infinite if the trainer has no limit
            self.progress = min(self.trainer.global_step / total, 1.0)
        rate = self.phase.lr * self.phase.schedule(self.progress)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate
