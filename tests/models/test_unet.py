from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.base.method import Batch, Task
from models.unet import UNet, ValidUNet
from postproc.instances import Instances


def build(features: int = 4, dropout: float = 0.5) -> UNet:
    torch.manual_seed(0)
    return UNet(Task(), features=features, dropout=dropout)


def batch_of(method: UNet, size: int = 204) -> Batch:
    """Two dark discs of radius 6 px, 3 px apart, in the centre of a bright square."""
    y, x = np.mgrid[:size, :size] - size // 2
    labels = np.zeros((size, size), np.int32)
    for index, dx in enumerate((-8, 7)):
        labels[y**2 + (x - dx) ** 2 <= 36] = index + 1
    noise = np.random.default_rng(0).integers(0, 40, (3, size, size))
    image = (np.where(labels > 0, 60, 190) + noise).astype(np.uint8)
    return method.collate([method.codec.encode(Instances((size, size), labels=labels)) | {"image": image}])


def test_parameter_count_is_the_papers() -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in ValidUNet().parameters())
    # The published network has one input channel, here there are three.
    assert count == 31_030_658 + 2 * 64 * 9


def test_geometry_is_that_of_the_network() -> None:
    with torch.device("meta"):
        method = build()
        for size, expected in ((572, 388), (268, 84), (188, 4), (204, 20)):
            assert method.geometry.output(size) == expected
            assert method(torch.empty(1, 3, size, size))["foreground"].shape == (1, 2, expected, expected)
    assert method.geometry.valid_input(method.recipe.crop) == method.recipe.crop
    assert method.geometry.valid_input(1) == 188


def test_tiles_agree_with_the_whole_image() -> None:
    method = build().eval()
    image = torch.rand(1, 3, 204, 220, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = method(image)["foreground"]
        tile = method(image[..., 16:204, 16:204])["foreground"]
    assert whole.shape == (1, 2, 20, 36)
    torch.testing.assert_close(tile, whole[..., 16:20, 16:20])


def test_initial_weights_keep_the_variance() -> None:
    network = ValidUNet(16)
    kernel = network.merge[0][0].weight  # 256 channels x 3 x 3 inputs
    assert kernel.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.02)
    assert network.up[0].weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.02)
    assert all(p.abs().max() == 0 for name, p in network.named_parameters() if name.endswith("bias"))


def test_dropout_acts_in_training_alone() -> None:
    method, image = build(), torch.rand(1, 3, 188, 188)
    with torch.no_grad():
        method.train()
        assert not torch.equal(method(image)["foreground"], method(image)["foreground"])
        method.eval()
        assert torch.equal(method(image)["foreground"], method(image)["foreground"])


def test_every_parameter_gets_a_gradient_and_only_kernels_decay() -> None:
    method = build(dropout=0.0)
    method.begin(method.recipe.phases[0])
    optimizer = method.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Optimizer)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    torch.stack(list(method.losses(batch_of(method)).values())).sum().backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
        assert decay[id(parameter)] == (0.0 if name.endswith("bias") else 1e-5)


def test_learning_rate_falls_half_way() -> None:
    (phase,) = UNet.recipe.phases
    rates = [phase.lr * phase.schedule(epoch / 240) for epoch in (0, 119, 120, 239)]
    assert phase.epochs == 240
    assert rates == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5])


def test_px_between_nuclei_weigh_more() -> None:
    method = build()
    batch = batch_of(method)
    size = batch["image"].shape[-1]
    right, between = torch.zeros(1, 2, size, size), torch.zeros(1, 2, size, size)
    for logits in (right, between):
        logits[:, 0] = 5.0 * (batch["foreground"] == 0)
        logits[:, 1] = 5.0 * (batch["foreground"] == 1)
    far = right.clone()
    middle = size // 2
    between[0, :, middle, middle - 1] = torch.tensor([0.0, 5.0])
    far[0, :, 5, 5] = torch.tensor([0.0, 5.0])
    base, near, away = (method.loss({"foreground": x}, batch)["ce"].item() for x in (right, between, far))
    assert near - base > 2 * (away - base) > 0


def test_loss_is_finite_in_bfloat16() -> None:
    method = build()
    with torch.autocast("cpu", torch.bfloat16):
        loss = method.losses(batch_of(method))["ce"]
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)


def test_one_crop_is_learnt() -> None:
    method = build(8, dropout=0.0).train()
    batch = batch_of(method)
    optimizer = method.optimizer(list(method.parameters()), 2e-3)
    losses = []
    for _ in range(20):
        loss = method.losses(batch)["ce"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]


def test_probabilities_and_the_checkpoint_round_trip(tmp_path: Path) -> None:
    method = build().eval()
    image = torch.rand(1, 3, 188, 188)
    with torch.no_grad():
        outputs = method(image)
        probability = method.activate(outputs)["foreground"]
    assert probability.shape == (1, 1, 4, 4)
    torch.testing.assert_close(probability[:, 0], outputs["foreground"].softmax(dim=1)[:, 1])
    torch.save(method.state_dict(), tmp_path / "last.pth")
    torch.manual_seed(1)
    restored = UNet(Task(), features=4).eval()
    restored.load_state_dict(torch.load(tmp_path / "last.pth", weights_only=True))
    with torch.no_grad():
        torch.testing.assert_close(restored(image)["foreground"], outputs["foreground"])


def test_every_variant_has_its_codec() -> None:
    assert [variant.key for variant in UNet.card.variants] == list(build().codecs)


def test_dynamics_are_those_selected_for_u_net() -> None:
    assert build().codecs["unet-pp"].defaults().p1 == 11.0
