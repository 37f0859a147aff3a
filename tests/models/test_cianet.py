from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.models import densenet121

from models.base.method import Batch, Task
from models.base.weights import rename
from models.cianet import CIANet, smooth_truncated_loss, soft_dice
from models.networks.cianet import (
    HEADS,
    TORCHVISION_DROP,
    TORCHVISION_RULES,
    Aggregation,
    CIANetwork,
    DenseEncoder,
)
from postproc.errors import ConfigError
from postproc.instances import Instances


def build(features: int = 4, stride: int = 2) -> CIANet:
    torch.manual_seed(0)
    return CIANet(Task(), features=features, stride=stride, weights="none")


def batch_of(method: CIANet, size: int = 48) -> Batch:
    y, x = np.mgrid[:size, :size]
    labels = np.zeros((size, size), np.int32)
    labels[(y - 24) ** 2 + (x - 15) ** 2 <= 64] = 1
    labels[(y - 24) ** 2 + (x - 32) ** 2 <= 64] = 2
    noise = np.random.default_rng(0).integers(0, 40, (3, size, size))
    image = (np.where(labels > 0, 60, 190) + noise).astype(np.uint8)
    return method.collate([method.codec.encode(Instances((size, size), labels=labels)) | {"image": image}])


def test_encoder_is_densenet_121() -> None:
    with torch.device("meta"):
        network = CIANetwork()
        state = densenet121().state_dict()
        own = network.encoder.layers.state_dict()
    assert sum(p.numel() for p in network.encoder.parameters()) == 7_978_856 - (1024 * 1000 + 1000)
    shapes = {name: value.shape for name, value in own.items()}
    published = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): x for name, x in state.items()}
    for given in (state, published):
        renamed = rename(given, TORCHVISION_RULES, TORCHVISION_DROP)
        assert {name: value.shape for name, value in renamed.items()} == shapes


@pytest.mark.parametrize("stride", [1, 2])
def test_levels_of_the_encoder_and_of_the_outputs(stride: int) -> None:
    with torch.device("meta"):
        encoder = DenseEncoder(stride=stride)
        levels = encoder(torch.empty(1, 3, 64, 64))
        assert [level.shape[1] for level in levels] == encoder.widths == [256, 512, 1024, 1024]
        assert [level.shape[2] for level in levels] == [64 // stride // 2**k for k in range(4)]
        outputs = CIANet(Task(), stride=stride, weights="none")(torch.empty(1, 3, 64, 64))
    names = ["object", "contour", "object_1", "contour_1", "object_2", "contour_2"]
    assert {name: tuple(x.shape) for name, x in outputs.items()} == dict.fromkeys(names, (1, 1, 64, 64))


def test_first_convolution_is_followed_by_no_pooling() -> None:
    encoder = DenseEncoder(4, stride=1).eval()
    layers = encoder.layers
    images = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        expected = layers.denseblock1(F.relu(layers.norm0(layers.conv0(images))))
        torch.testing.assert_close(encoder(images)[0], expected)


def test_tasks_inform_each_other() -> None:
    module = Aggregation(3).eval()
    nuclei, contour = (torch.randn(1, 3, 8, 8, requires_grad=True) for _ in range(2))
    for refined in module(nuclei, contour):
        gradients = torch.autograd.grad(refined.square().sum(), (nuclei, contour), retain_graph=True)
        assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_truncated_loss_is_cross_entropy_but_for_outliers() -> None:
    gamma = 0.2
    for target in (0, 1):
        probability = torch.linspace(0.001, 0.999, 400, dtype=torch.float64)  # of the true class
        logits = torch.logit(probability if target else 1 - probability).requires_grad_()
        truth = torch.full_like(logits, target)
        costs = torch.stack([smooth_truncated_loss(x, t, gamma) for x, t in zip(logits, truth, strict=True)])
        far = probability < gamma
        plain = -probability.log()
        truncated = -math.log(gamma) + (1 - probability**2 / gamma**2) / 2
        torch.testing.assert_close(costs.detach().double(), torch.where(far, truncated, plain), atol=1e-5, rtol=1e-4)
        (slope,) = torch.autograd.grad(costs.sum(), logits)
        assert slope[0].abs() < 1e-4  # an outlier does not pull
        assert slope.abs().max() == pytest.approx(1 - gamma, abs=0.01)
    torch.testing.assert_close(
        smooth_truncated_loss(logits, truth, 0.0).double(), F.binary_cross_entropy_with_logits(logits, truth)
    )


def test_truncated_loss_stays_finite() -> None:
    logits = torch.tensor([-1e4, 1e4, 0.0], requires_grad=True)
    for target in (torch.zeros(3), torch.ones(3)):
        loss = smooth_truncated_loss(logits, target)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


def test_soft_dice() -> None:
    target = torch.zeros(1, 1, 10, 10)
    target[..., :3] = 1
    assert soft_dice(40 * (target - 0.5), target).item() == pytest.approx(0, abs=1e-4)
    assert soft_dice(-40 * (target - 0.5), target).item() == pytest.approx(1 - 1 / 101, abs=1e-4)
    half = soft_dice(torch.zeros_like(target), target).item()
    assert half == pytest.approx(1 - (2 * 15 + 1) / (25 + 30 + 1), abs=1e-4)
    assert soft_dice(torch.full_like(target, -40), torch.zeros_like(target)).item() == pytest.approx(0, abs=1e-4)


def test_every_level_is_supervised() -> None:
    method = build()
    batch = batch_of(method)
    outputs = {
        f"{head}{suffix}": torch.randn(1, 1, 48, 48, requires_grad=True)
        for suffix in ("", "_1", "_2")
        for head in HEADS
    }
    terms = method.loss(outputs, batch)
    assert set(terms) == set(HEADS)
    names = ("object", "object_1", "object_2")
    each = [smooth_truncated_loss(outputs[name], batch["object"][:, None]) for name in names]
    torch.testing.assert_close(terms["object"], sum(each) / 3)
    torch.stack(list(terms.values())).sum().backward()
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in outputs.values())
    maps = method.activate(outputs)
    assert list(maps) == list(HEADS)
    torch.testing.assert_close(maps["contour"], outputs["contour"].sigmoid())


def test_weights_of_a_file_are_loaded(tmp_path: Path) -> None:
    source = build()
    state = {f"features.{name}": value for name, value in source.network.encoder.layers.state_dict().items()}
    path = tmp_path / "densenet.pth"
    torch.save(state | {"classifier.weight": torch.zeros(1)}, path)
    torch.manual_seed(1)
    other = CIANet(Task(), features=4, stride=2, weights=str(path))
    torch.testing.assert_close(other.network.encoder.state_dict(), source.network.encoder.state_dict())


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match="weights=none"):
        CIANet(Task(), features=8)
    for options in ({"stride": 4}, {"features": 3}, {"gamma": 1.0}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            CIANet(Task(), weights="none", **options)


@pytest.mark.slow
def test_two_nuclei_are_learnt_and_parted() -> None:
    method = build().train()
    batch = batch_of(method)
    optimizer = method.optimizer(list(method.parameters()), 3e-3)
    assert optimizer.defaults["amsgrad"]
    for _ in range(40):
        loss = torch.stack(list(method.losses(batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5
    with torch.no_grad():  # batch statistics: 40 steps are too few for the running ones
        maps = method.predict_batch(method.prepare(batch["image"]))[0]
    assert method.codec.decode(maps, method.codec.defaults()).count == 2
