"""Encoders: weights of packages, unused stages, depthwise convolutions, and other decoders."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import timm
import torch
from torch import nn

from models.base.method import Task
from models.hover_lite import HoverLite
from models.networks.encoders import (
    PACKAGED,
    DepthwiseConv2d,
    EncoderDecoder,
    from_package,
    in_order,
    load_encoder,
    quicken_depthwise,
)
from postproc.errors import ConfigError, DataError

WIDTHS = (32, 16, 8, 8, 8)
LITE = "tf_efficientnet_lite0"


def images(size: int = 64) -> torch.Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("encoder", [LITE, "tf_efficientnet_lite1"])
def test_weights_of_a_package_classify_a_photograph(encoder: str) -> None:
    from skimage.data import chelsea
    from skimage.transform import resize

    found = from_package(encoder)
    assert found is not None
    model = timm.create_model(encoder).eval()
    model.load_state_dict(found.state)
    size = model.pretrained_cfg["input_size"][-1]
    picture = resize(chelsea()[:, 75:375], (size, size), anti_aliasing=True)
    prepared = (picture - np.array(found.mean)) / np.array(found.std)
    with torch.no_grad():
        logits = model(torch.from_numpy(prepared.transpose(2, 0, 1)[None]).float())
    assert 281 <= int(logits.argmax()) <= 285  # the domestic cats of ImageNet


def test_encoder_holds_the_package_s_weights() -> None:
    network = EncoderDecoder(LITE, "unet", 4, WIDTHS)
    origin = load_encoder(network, LITE, "imagenet")
    assert "efficientnet-lite0" in origin
    found = from_package(LITE)
    assert found is not None
    for name, value in network.encoder.model.state_dict().items():
        assert torch.equal(value, found.state[name])
    assert network.mean == network.std == (0.5, 0.5, 0.5)


def test_a_file_of_weights_is_loaded_and_a_foreign_one_refused(tmp_path) -> None:
    model = timm.create_model(LITE)
    torch.save(model.state_dict(), tmp_path / "own.pt")
    network = EncoderDecoder(LITE, "unet", 4, WIDTHS)
    load_encoder(network, LITE, str(tmp_path / "own.pt"))
    assert torch.equal(network.encoder.model.conv_stem.weight, model.conv_stem.weight)
    torch.save(timm.create_model("tf_efficientnet_lite1").state_dict(), tmp_path / "other.pt")
    other = EncoderDecoder("tf_efficientnet_lite2", "unet", 4, WIDTHS)
    with pytest.raises(DataError, match=r"other\.pt"):
        load_encoder(other, "tf_efficientnet_lite2", str(tmp_path / "other.pt"))


@pytest.mark.slow
def test_missing_package_and_network_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGED, LITE, ("a_package_that_is_not_installed", "Name"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match=r"nucbench\[encoders\]"):
        load_encoder(EncoderDecoder(LITE, "unet", 4, WIDTHS), LITE, "imagenet")


def test_tensors_that_differ_from_timm_s_are_refused() -> None:
    state = {"a": torch.zeros(2), "b": torch.zeros(3)}
    assert list(in_order(state, {"x": torch.ones(2), "y": torch.ones(3)}, "file")) == ["x", "y"]
    with pytest.raises(DataError, match="2 tensors"):
        in_order(state, {"x": torch.ones(2)}, "file")
    with pytest.raises(DataError, match="b is"):
        in_order(state, {"x": torch.ones(2), "y": torch.ones(4)}, "file")


@pytest.mark.parametrize("size", [64, 63])
def test_depthwise_convolutions_keep_their_output(size: int) -> None:
    model = timm.create_model(LITE, features_only=True).eval()
    quick = copy.deepcopy(model)
    quicken_depthwise(quick)
    assert sum(isinstance(m, DepthwiseConv2d) for m in quick.modules()) == 16
    assert quick.state_dict().keys() == model.state_dict().keys()
    with torch.no_grad():
        for expected, found in zip(model(images(size)), quick(images(size)), strict=True):
            torch.testing.assert_close(found, expected)


def test_depthwise_convolutions_run_in_float32_under_autocast() -> None:
    layer = DepthwiseConv2d(nn.Conv2d(8, 8, 3, groups=8), same=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(torch.randn(1, 8, 16, 16).bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("depth", [3, 4, 5])
def test_no_stage_is_left_without_use(depth: int) -> None:
    network = EncoderDecoder(LITE, "unet", depth, WIDTHS)
    network(images()).square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    ("encoder", "decoder", "depth"),
    [
        (LITE, "unet", 3),
        (LITE, "unet", 5),
        (LITE, "fpn", 4),
        (LITE, "deeplab", 5),
        ("resnet18", "unet", 4),
        ("convnext_atto", "unet", 5),
        ("convnext_atto", "fpn", 5),
    ],
)
def test_every_decoder_gives_maps_of_the_image_s_size(encoder: str, decoder: str, depth: int) -> None:
    method = HoverLite(Task(("a", "b")), encoder=encoder, decoder=decoder, depth=depth, weights="none", width=0.5)
    outputs = method.eval()(images(method.geometry.valid_input(64)))
    size = method.geometry.valid_input(64)
    assert {name: tuple(value.shape[1:]) for name, value in outputs.items()} == {
        "np": (2, size, size),
        "hv": (2, size, size),
        "tp": (3, size, size),
    }


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"encoder": "resnet81"}, "resnet"),
        ({"decoder": "unett"}, "unet"),
        ({"depth": 6}, "depth=6"),
        ({"width": 0.0}, "width=0.0"),
        ({"decoder": "deeplab", "depth": 2}, "depth=2"),
        ({"encoder": "convnext_atto", "decoder": "fpn", "depth": 4}, "do not fit"),
    ],
)
def test_wrong_options_are_named(options: dict, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        HoverLite(Task(), **{"weights": "none"} | options)
