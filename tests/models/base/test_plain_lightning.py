"""Methods and datasets under a plain `pl.Trainer`, without the runner."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import ClassVar

import matplotlib.figure
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray

from benchmark.forward.maps import InferenceSettings
from benchmark.metrics.image import score_image
from benchmark.registry import dataset_class, method_class
from datamodules.base import NucleiDataModule
from models.base.method import NucleiMethod, Task
from models.base.recipe import Cosine, Phase
from models.base.weight_average import WeightAverage
from models.dist import DIST
from postproc.errors import ConfigError, DataError
from postproc.instances import Instances

DATA = {"self-supervised": "monuseg", "kinet": "ki67"}
"""Datasets of methods that do not learn from outlines."""
NAMES = ["dist", pytest.param("hovernet", marks=pytest.mark.slow), "mask-rcnn", "kinet", "self-supervised"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for name in {"kumar", *DATA.values()}:
        dataset_class(name).write_synthetic(root / name, size=256)
    return root


def trainer(folder: Path, **settings: object) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return pl.Trainer(**(quiet | {"enable_checkpointing": False, "default_root_dir": folder} | settings))


def small(name: str, data: NucleiDataModule) -> NucleiMethod:
    kind = method_class(name)
    return kind(Task.of(data), **kind.small)


@pytest.mark.parametrize("name", NAMES)
def test_a_plain_trainer_trains_validates_and_its_checkpoint_loads(name: str, folder: Path, tmp_path: Path) -> None:
    data_name = DATA.get(name, "kumar")
    data = dataset_class(data_name)(folder / data_name, batch_size=1, crops_per_image=1)
    method = small(name, data)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    fit = trainer(tmp_path, max_epochs=1, limit_train_batches=1, limit_val_batches=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning.*")
        fit.fit(method, data)
    assert fit.global_step == 1
    assert any(not torch.equal(before[key], value) for key, value in method.state_dict().items())
    if any(record.validation for record in data.select("train")):
        (scores,) = fit.validate(method, data, verbose=False)
        assert np.isfinite(scores["val/loss"])
    fit.save_checkpoint(tmp_path / "one.ckpt")
    loaded = method_class(name).load_from_checkpoint(tmp_path / "one.ckpt", weights_only=True)
    assert loaded.task == method.task
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in method.state_dict().items())


def test_epochs_draw_different_crops_and_the_rate_follows_the_schedule(folder: Path, tmp_path: Path) -> None:
    class Watched(DIST):
        def on_train_batch_start(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
            super().on_train_batch_start(batch, batch_idx)
            seen.append(batch["image"].clone())
            rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    seen: list[torch.Tensor] = []
    rates: list[float] = []
    data = dataset_class("kumar")(folder / "kumar", batch_size=2, crops_per_image=1)
    method = Watched(Task.of(data), **DIST.small)
    phase = Phase(batch_size=2, lr=0.001, epochs=1, schedule=Cosine(warmup=0.0))
    method.recipe = dataclasses.replace(method.recipe, phases=(phase,))
    trainer(tmp_path, max_epochs=3, limit_train_batches=1, limit_val_batches=0).fit(method, data)
    assert len(seen) == 3
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])
    assert rates == pytest.approx([0.001, 0.00075, 0.00025])


class Perfect(DIST):
    """Finds what is annotated: `segment` looks the image up."""

    known: ClassVar[dict[bytes, Instances]] = {}

    def segment(self, image: NDArray[np.uint8], *_: object, **__: object) -> Instances:
        return self.known[image.tobytes()]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
def test_whole_images_are_scored_in_validation_and_test_and_predicted(name: str, folder: Path, tmp_path: Path) -> None:
    data_name = {"self-supervised": "kumar"}.get(name, DATA.get(name, "kumar"))
    data = dataset_class(data_name)(folder / data_name, batch_size=4, crops_per_image=1)
    method = small(name, data).eval()
    quick = trainer(tmp_path, limit_test_batches=2, limit_predict_batches=2)
    (tested,) = quick.test(method, data, verbose=False)
    found = quick.predict(method, data)
    assert found is not None
    samples = [sample for sample, _ in zip(data.test_dataloader(), range(2), strict=False)]
    expected = [method.segment(s.image, s.magnification, settings=InferenceSettings("32-true")) for s in samples]
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert one.count == other.count
    scores = [score_image(s.truth, f, radius=data.card.radius) for s, f in zip(samples, expected, strict=True)]
    if "aji" in scores[0]:
        assert tested["test/aji"] == pytest.approx(np.mean([one["aji"] for one in scores]), nan_ok=True)
    else:
        assert 0 <= tested["test/f1"] <= 1


def test_perfect_instances_score_1_in_validation_and_test(folder: Path, tmp_path: Path) -> None:
    data = dataset_class("kumar")(folder / "kumar", batch_size=4)
    method = Perfect(Task.of(data), **DIST.small)
    Perfect.known.update({s.image.tobytes(): s.truth for split in ("validation", "test") for s in data.samples(split)})
    (validated,) = trainer(tmp_path).validate(method, data, verbose=False)
    assert validated["val/aji"] == validated["val/pq"] == validated["val/dice"] == 1
    assert np.isfinite(validated["val/loss"])
    (tested,) = trainer(tmp_path).test(method, data, verbose=False)
    assert {tested[f"test/{name}"] for name in ("aji", "pq", "dice", "aji_plus", "sq")} == {1.0}


def test_an_image_of_any_size_is_segmented_and_wrong_arrays_are_refused(folder: Path) -> None:
    method = DIST(**DIST.small)
    rng = np.random.default_rng(0)
    for shape in ((31, 57), (300, 200)):
        image = rng.integers(0, 256, (*shape, 3), np.uint8)
        assert method.segment(image).shape == shape
    assert method.training, "segment leaves the mode as it was"
    for wrong in (image / 255, image.astype(np.uint16), image[..., 0], np.dstack([image, image[..., 0]])):
        with pytest.raises(DataError, match=r"uint8|shape"):
            method.segment(wrong)
    with pytest.raises(ConfigError, match="variant"):
        method.segment(image, variant="nosuch")
    with pytest.raises(ConfigError, match="magnification"):
        method.segment(image, -20)


def test_another_magnification_gives_nuclei_of_the_same_image(folder: Path, tmp_path: Path) -> None:
    data = dataset_class("kumar")(folder / "kumar", batch_size=2, crops_per_image=1)
    method = small("dist", data)
    trainer(tmp_path, max_epochs=1, limit_train_batches=1, limit_val_batches=0).fit(method, data)
    assert method.magnification == 40
    image = next(data.samples("test")).image
    assert method.segment(image, magnification=20).shape == image.shape[:2]


def test_the_average_and_the_clipping_of_the_recipe_are_used(folder: Path, tmp_path: Path) -> None:
    data = dataset_class("kumar")(folder / "kumar", batch_size=2, crops_per_image=1)
    method = small("dist", data)
    method.recipe = dataclasses.replace(method.recipe, ema=0.9, gradient_clip=1e-12)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    fit = trainer(tmp_path, max_epochs=2, limit_train_batches=1, limit_val_batches=0)
    fit.fit(method, data)
    (average,) = [each for each in fit.callbacks if isinstance(each, WeightAverage)]
    assert average.steps == 2
    for key, value in average.weights().items():
        assert torch.equal(value, method.state_dict()[key])
    weight = next(key for key, _ in method.named_parameters())
    assert float((method.state_dict()[weight] - before[weight]).abs().max()) < 2e-3


def test_validation_images_are_not_trained_on(folder: Path) -> None:
    data = dataset_class("kumar")(folder / "kumar")
    data.trainer = trainer(folder)
    data.trainer.strategy.connect(small("dist", data))
    data.setup("fit")
    sources = data._set_up().sources
    trained = {sample.image_id for sample in sources.training_images}
    validated = {sample.image_id for sample in sources.validation_images}
    assert trained
    assert validated
    assert not trained & validated


def test_another_module_is_told_what_is_missing(folder: Path) -> None:
    data = dataset_class("kumar")(folder / "kumar")
    data.trainer = trainer(folder)
    data.trainer.strategy.connect(pl.LightningModule())
    with pytest.raises(ConfigError, match="LightningModule does not define how"):
        data.setup("fit")


def test_checkpoints_do_not_ask_for_initial_weights() -> None:
    checkpoint = {"hyper_parameters": {"weights": "imagenet", "encoder_weights": "imagenet", "features": 8}}
    DIST(Task(), **DIST.small).on_save_checkpoint(checkpoint)
    assert checkpoint["hyper_parameters"] == {"weights": "none", "encoder_weights": "none", "features": 8}


@pytest.mark.parametrize("name", ["kumar", "ki67"])
def test_an_image_is_drawn_with_its_annotation(name: str, folder: Path, tmp_path: Path) -> None:
    data = dataset_class(name)(folder / name)
    sample = next(data.samples("test"))
    figure = data.plot(sample)
    assert isinstance(figure, matplotlib.figure.Figure)
    figure.savefig(tmp_path / "by_sample.png")
    data.plot(sample.image_id).savefig(tmp_path / "by_name.png")
    assert (tmp_path / "by_sample.png").read_bytes() == (tmp_path / "by_name.png").read_bytes()
    assert len(figure.axes[0].collections) == 1
    with pytest.raises(ConfigError, match="unknown image of"):
        data.plot("nosuch")
