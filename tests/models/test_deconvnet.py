from __future__ import annotations

import pytest
import torch
from torch import nn

from models.base.method import Task
from models.deconvnet import BatchNorm, DeconvNet, DeconvNetwork
from postproc.codecs.binary import DynamicsParams
from postproc.errors import ConfigError


def test_size_is_the_papers() -> None:
    """The paper's size: about 252 M parameters, with the 21 classes of PASCAL VOC."""
    with torch.device("meta"):
        network = DeconvNetwork(classes=21)
    count = sum(p.numel() for p in network.parameters())
    assert round(count / 1e6) == 252


def test_layers_are_those_of_the_figure() -> None:
    with torch.device("meta"):
        network = DeconvNetwork()
    deconvolutions = [m.out_channels for m in network.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert deconvolutions == [512, 512, 512, 512, 512, 512, 256, 256, 256, 128, 128, 64, 64, 64]
    assert sum(isinstance(m, nn.Conv2d) for m in network.modules()) == 13 + 2 + 1


def test_sizes_on_the_way_are_those_of_the_figure() -> None:
    with torch.device("meta"):
        network = DeconvNetwork().eval()
        maps, _ = network.encoder(torch.empty(1, 3, 224, 224))
        assert [tuple(m.shape[1:]) for m in maps] == [
            (64, 112, 112),
            (128, 56, 56),
            (256, 28, 28),
            (512, 14, 14),
            (512, 7, 7),
        ]
        bottleneck = network.fc7(network.fc6(maps[-1]))
        assert bottleneck.shape == (1, 4096, 1, 1)
        assert network.widen(bottleneck).shape == maps[-1].shape
        assert network(torch.empty(1, 3, 224, 224)).shape == (1, 2, 224, 224)


def test_geometry_is_that_of_the_network() -> None:
    with torch.device("meta"):
        method = DeconvNet(Task(), weights="none").eval()
        for size in (224, 256, 320):
            assert method.geometry.output(size) == size
            assert method(torch.empty(2, 3, size, size))["foreground"].shape == (2, 2, size, size)
    assert method.geometry.valid_input(1) == 224
    assert method.geometry.valid_input(method.recipe.crop) == method.recipe.crop


def test_a_single_value_takes_the_running_statistics() -> None:
    norm = BatchNorm(3).train()
    with torch.no_grad():
        norm.running_mean.copy_(torch.tensor([1.0, 2.0, 3.0]))  # type: ignore[union-attr]  # it is tracked
        x = torch.tensor([2.0, 2.0, 2.0]).view(1, 3, 1, 1)
        torch.testing.assert_close(norm(x).flatten(), torch.tensor([1.0, 0.0, -1.0]), rtol=1e-4, atol=1e-4)
        two = norm(torch.rand(2, 3, 1, 1))
    torch.testing.assert_close(two.mean(dim=0).flatten(), torch.zeros(3), rtol=0, atol=1e-5)


def test_one_image_of_224_px_can_be_trained_on() -> None:
    torch.manual_seed(0)
    method = DeconvNet(Task(), **DeconvNet.small).train()
    batch = {"image": torch.rand(1, 3, 224, 224) * 255, "foreground": torch.ones(1, 224, 224, dtype=torch.int64)}
    batch["image"] = batch["image"].byte()
    method.losses(batch)["ce"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())


def test_momentum_or_adam() -> None:
    for adam, kind in ((False, torch.optim.SGD), (True, torch.optim.Adam)):
        method = DeconvNet(Task(), features=2, weights="none", adam=adam)
        method.begin(method.recipe.phases[0])
        optimizer = method.configure_optimizers()
        assert type(optimizer) is kind
        assert sorted(group["weight_decay"] for group in optimizer.param_groups) == [0.0, 5e-5]
        assert all(group.get("momentum", 0.9) == 0.9 for group in optimizer.param_groups)


def test_dynamics_are_those_of_2017() -> None:
    codec = DeconvNet(Task(), **DeconvNet.small).codecs["deconvnet-pp"]
    assert codec.defaults() == DynamicsParams(p1=7.0, p2=0.5)


def test_imagenet_weights_need_the_full_width() -> None:
    with pytest.raises(ConfigError, match="weights=none"):
        DeconvNet(Task(), features=4)
