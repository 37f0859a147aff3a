from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.base.losses import cross_entropy, gradient_mse
from models.base.method import Batch, Task
from models.hovernet import HoVerNet
from models.networks.blocks import Shortcut
from postproc.errors import ConfigError
from postproc.instances import Instances

TYPES = Task(("miscellaneous", "inflammatory", "epithelial", "spindle"))
NO_TYPES = Task()
SMALL = 8
SIZES = {"original": (198, 270), "fast": (96, 256)}


def build(task: Task = NO_TYPES, **options: Any) -> HoVerNet:
    torch.manual_seed(0)
    return HoVerNet(task, **({"weights": "none", "features": SMALL} | options))


def discs(size: int) -> Instances:
    """Four discs of radius 7 px that fill the centre of a square, the first two touching."""
    y, x = np.mgrid[:size, :size] - size // 2
    labels = np.zeros((size, size), np.int32)
    for index, (dy, dx) in enumerate(((-8, -7), (-8, 7), (9, -9), (9, 9))):
        labels[((y - dy) ** 2 + (x - dx) ** 2 <= 49) & (labels == 0)] = index + 1
    return Instances((size, size), labels=labels, types=np.array([1, 2, 3, 4], np.int64))


def batch_of(method: HoVerNet, truth: Instances, copies: int = 2) -> Batch:
    """A batch of crops in which nuclei are dark, encoded by the method's own codec."""
    assert truth.labels is not None
    noise = np.random.default_rng(0).integers(0, 40, (3, *truth.shape))
    image = (np.where(truth.labels > 0, 60, 190) + noise).astype(np.uint8)
    return method.collate([method.codec.encode(truth) | {"image": image} for _ in range(copies)])


@pytest.mark.parametrize(
    ("mode", "task", "millions"),
    [
        ("original", TYPES, 54.74),
        ("original", NO_TYPES, 45.03),
        ("fast", TYPES, 37.64),
        ("fast", NO_TYPES, 33.63),
    ],
)
def test_parameter_count_is_the_papers(mode: Any, task: Task, millions: float) -> None:
    with torch.device("meta"):
        method = HoVerNet(task, mode=mode, weights="none")
    assert round(sum(p.numel() for p in method.parameters()) / 1e6, 2) == millions


@pytest.mark.parametrize("mode", ["original", "fast"])
def test_geometry_is_that_of_the_network(mode: Any) -> None:
    with torch.device("meta"):
        method = build(TYPES, mode=mode)
        for size in SIZES[mode]:
            expected = method.geometry.output(size)
            outputs = method(torch.empty(1, 3, size, size))
            assert {name: tuple(value.shape) for name, value in outputs.items()} == {
                "np": (1, 2, expected, expected),
                "hv": (1, 2, expected, expected),
                "tp": (1, 5, expected, expected),
            }
        assert method.geometry.valid_input(1) == method.geometry.minimum == SIZES[mode][0]
        assert method.geometry.output(method.recipe.crop) == {"original": 80, "fast": 164}[mode]
        with pytest.raises(RuntimeError):
            method(torch.empty(1, 3, SIZES[mode][0] - 8, SIZES[mode][0] - 8))


@pytest.mark.parametrize("mode", ["original", "fast"])
def test_epochs_are_as_long_as_those_of_the_public_code(mode: Any) -> None:
    method = build(mode=mode)
    step = method.geometry.output(method.recipe.crop)
    assert method.recipe.crops_per_image == int(np.ceil(1000 / step)) ** 2


def test_two_phases_and_the_learning_rate() -> None:
    first, second = HoVerNet.recipe.phases
    assert (first.epochs, first.batch_size, second.epochs, second.batch_size) == (50, 8, 50, 4)
    for phase in (first, second):
        rates = [phase.lr * phase.schedule(epoch / 50) for epoch in (0, 24, 25, 49)]
        assert rates == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5])


def test_without_pretrained_weights_nothing_is_frozen() -> None:
    (phase,) = build(mode="fast").recipe.phases
    assert (phase.epochs, phase.batch_size, phase.frozen) == (100, 4, ())


@pytest.mark.parametrize(
    ("task", "options", "channels"),
    [
        (TYPES, {}, {"np": 2, "hv": 2, "tp": 5}),
        (TYPES, {"classify": False}, {"np": 2, "hv": 2}),
        (NO_TYPES, {}, {"np": 2, "hv": 2}),
        (TYPES, {"type_branch": False}, {"hv": 2, "tp": 5}),
    ],
)
def test_branches_follow_the_task_and_the_options(
    task: Task, options: dict[str, Any], channels: dict[str, int]
) -> None:
    method = build(task, mode="fast", **options).eval()
    with torch.no_grad():
        outputs = method(torch.rand(1, 3, 96, 96))
        maps = method.activate(outputs)
    assert {name: value.shape[1] for name, value in outputs.items()} == channels
    assert maps["np"].shape == (1, 1, 4, 4)
    assert ((maps["np"] >= 0) & (maps["np"] <= 1)).all()
    torch.testing.assert_close(maps["hv"], outputs["hv"])
    assert ("tp" in maps) == ("tp" in channels)
    if "tp" in maps:
        torch.testing.assert_close(maps["tp"].sum(dim=1), torch.ones(1, 4, 4))
    if "np" not in channels:
        torch.testing.assert_close(maps["np"][:, 0], 1 - maps["tp"][:, 0])
    else:
        torch.testing.assert_close(maps["np"][:, 0], outputs["np"].softmax(dim=1)[:, 1])


def test_every_variant_has_its_codec() -> None:
    assert [variant.key for variant in HoVerNet.card.variants] == list(build().codecs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "fats"}, "Did you mean 'fast'"),
        ({"loss_terms": "all"}, "proposed, standard"),
        ({"classify": True}, "classify=false"),
        ({"features": 12}, "multiple of 8"),
        ({"weights": "nothing.pth"}, "no such file"),
    ],
)
def test_options_that_cannot_work_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**options)


def test_phases_train_what_they_say() -> None:
    method = build(TYPES, mode="fast").train()
    batch = batch_of(method, discs(112))
    for phase in HoVerNet.recipe.phases:
        method.zero_grad()
        method.begin(phase)
        optimizer = method.configure_optimizers()
        running = method.network.encoder.stem.norm.running_mean.clone()
        torch.stack(list(method.losses(batch).values())).sum().backward()
        trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for name, parameter in method.named_parameters():
            frozen = bool(phase.frozen) and name.startswith("network.encoder.")
            assert (id(parameter) not in trained) == frozen, name
            assert (parameter.grad is None) == frozen, name
            if parameter.grad is not None:
                assert torch.isfinite(parameter.grad).all(), name
                assert parameter.grad.abs().max() > 0, name
        # Statistics follow the batches in both phases, as in the public code.
        assert not torch.equal(running, method.network.encoder.stem.norm.running_mean)


def test_loss_terms_and_their_weights() -> None:
    method = build(TYPES, mode="fast")
    batch = batch_of(method, discs(96))
    outputs = {
        "np": torch.randn(2, 2, 96, 96),
        "hv": torch.randn(2, 2, 96, 96),
        "tp": torch.randn(2, 5, 96, 96),
    }
    terms = method.loss(outputs, batch)
    assert set(terms) == {"hv_mse", "hv_gradient", "np_ce", "np_dice", "tp_ce", "tp_dice"}
    gradient = gradient_mse(outputs["hv"], batch["hv"], batch["np"])
    assert terms["hv_gradient"].item() == pytest.approx(2 * gradient.item())
    assert terms["hv_mse"].item() == pytest.approx((outputs["hv"] - batch["hv"]).square().mean().item())
    assert terms["tp_ce"].item() == pytest.approx(cross_entropy(outputs["tp"], batch["tp"]).item())
    assert set(build(TYPES, loss_terms="standard").loss(outputs, batch)) == {"hv_mse", "np_ce", "tp_ce"}


@pytest.mark.parametrize("empty", [False, True])
def test_loss_is_finite_in_bfloat16(empty: bool) -> None:
    method = build(TYPES, mode="fast").train()
    truth = Instances((96, 96), labels=np.zeros((96, 96), np.int32), types=np.zeros(0, np.int64))
    batch = batch_of(method, truth if empty else discs(96))
    with torch.autocast("cpu", torch.bfloat16):
        terms = method.losses(batch)
    for name, value in terms.items():
        assert value.dtype == torch.float32, name
        assert torch.isfinite(value), name
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.parameters())


@pytest.mark.slow
def test_one_crop_is_learnt() -> None:
    method = build(TYPES, mode="fast").train()
    batch = batch_of(method, discs(112), copies=1)
    optimizer = method.optimizer(list(method.parameters()), 1e-2)
    losses = []
    for _ in range(10):
        loss = torch.stack(list(method.losses(batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    with torch.no_grad():
        probability = method.activate(method(method.prepare(batch["image"])))["np"][:, 0]
    cut = (112 - probability.shape[-1]) // 2
    assert ((probability > 0.5) == (batch["np"][:, cut:-cut, cut:-cut] > 0)).float().mean() > 0.9


@pytest.mark.parametrize("by_option", [False, True])
def test_a_checkpoint_gives_the_same_output(tmp_path: Path, by_option: bool) -> None:
    images = torch.rand(1, 3, 198, 198)
    method = build(TYPES)
    with torch.no_grad():
        method.train()(images)  # statistics that differ from the initial ones
        expected = method.eval()(images)
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": method.state_dict()}, path)
    torch.manual_seed(1)
    restored = HoVerNet(TYPES, weights=str(path) if by_option else "none", features=SMALL)
    if not by_option:
        restored.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    with torch.no_grad():
        outputs = restored.eval()(images)
    for name, value in expected.items():
        torch.testing.assert_close(outputs[name], value)


def test_predictions_are_maps_of_the_geometrys_size() -> None:
    method = build(TYPES, mode="fast").eval()
    images = torch.randint(0, 256, (2, 3, 104, 104), dtype=torch.uint8)
    with torch.no_grad():
        first, second = method.predict_batch(method.prepare(images))
    assert {name: value.shape for name, value in first.items()} == {
        "np": (1, 12, 12),
        "hv": (2, 12, 12),
        "tp": (5, 12, 12),
    }
    assert all(value.dtype == np.float32 for value in first.values())
    assert not np.allclose(first["np"], second["np"])


def test_input_is_scaled_to_one_alone() -> None:
    images = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    prepared: Tensor = build().prepare(images)
    torch.testing.assert_close(prepared, torch.ones(1, 3, 2, 2))


@pytest.mark.parametrize("channels", [8, 12, 16])
@pytest.mark.parametrize("size", [(13, 8), (112, 112)])
def test_a_shortcut_is_a_strided_convolution(channels: int, size: tuple[int, int]) -> None:
    layer = Shortcut(channels, 5, 2)
    x = torch.randn(2, channels, *size).contiguous(memory_format=torch.channels_last).requires_grad_()
    torch.testing.assert_close(layer(x), torch.conv2d(x, layer.weight, stride=2))
    found = torch.autograd.grad(layer(x).square().sum(), [x, layer.weight])
    y = x.detach().contiguous().requires_grad_()  # NCHW, where the library's backward pass is sound
    expected = torch.autograd.grad(torch.conv2d(y, layer.weight, stride=2).square().sum(), [y, layer.weight])
    torch.testing.assert_close(found[0], expected[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=1e-2)
