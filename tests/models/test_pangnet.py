from __future__ import annotations

import pytest
import torch
from torch import nn

from models.base.method import Task
from models.pangnet import PangNet, PangNetwork
from postproc.errors import ConfigError


def test_four_convolutions_of_eight_maps() -> None:
    network = PangNetwork()
    layers = [(m.in_channels, m.out_channels) for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert layers == [(3, 8), (8, 8), (8, 8), (8, 2)]
    assert sum(p.numel() for p in network.parameters()) == (3 * 9 + 1) * 8 + 2 * (8 * 9 + 1) * 8 + (8 + 1) * 2


def test_context_is_half_the_receptive_field() -> None:
    torch.manual_seed(0)
    method = PangNet(Task()).eval()
    context = method.geometry.context
    image = torch.rand(1, 3, 40, 40)
    with torch.no_grad():
        whole = method(image)["foreground"]
        tile = method(image[..., 10:31, 10:31])["foreground"]
    inner = slice(context, -context)
    torch.testing.assert_close(tile[..., inner, inner], whole[..., 10:31, 10:31][..., inner, inner])
    wider = slice(context - 1, 1 - context)
    assert not torch.allclose(tile[..., wider, wider], whole[..., 10:31, 10:31][..., wider, wider])


def test_colour_is_learnt() -> None:
    """Dark discs on a bright ground, with the recipe's own rate and optimiser."""
    torch.manual_seed(0)
    method = PangNet(Task()).train()
    y, x = torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")
    nuclei = ((y % 16 - 8) ** 2 + (x % 16 - 8) ** 2 <= 25).long()[None]
    noise = torch.randint(0, 40, (1, 3, 48, 48), generator=torch.Generator().manual_seed(1))
    batch = {"image": (190 - 110 * nuclei[:, None] + noise).byte(), "foreground": nuclei}
    optimizer = method.optimizer(list(method.parameters()), method.recipe.phases[0].lr)
    for _ in range(30):
        optimizer.zero_grad()
        method.losses(batch)["ce"].backward()
        optimizer.step()
    with torch.no_grad():
        found = method.activate(method(method.prepare(batch["image"])))["foreground"][:, 0] > 0.5
    assert (found == (nuclei > 0)).float().mean() > 0.97


def test_network_without_features_is_an_error() -> None:
    with pytest.raises(ConfigError, match="features=0"):
        PangNet(Task(), features=0)
