from __future__ import annotations

import pytest
import torch
from torch import nn

from models.base.method import Task
from models.segnet import SegNet, SegNetwork
from postproc.errors import ConfigError


def test_size_is_the_papers() -> None:
    """An encoder of 14.7 M parameters (section 3), 29.4 M in all with the 12 classes of CamVid."""
    with torch.device("meta"):
        network = SegNetwork(classes=12)
    count = sum(p.numel() for p in network.parameters())
    assert round(sum(p.numel() for p in network.encoder.parameters()) / 1e5) == 147
    assert 29.4e6 < count < 29.5e6


def test_decoder_mirrors_the_encoder() -> None:
    with torch.device("meta"):
        network = SegNetwork(classes=2)

    def widths(part: nn.Module) -> list[tuple[int, int]]:
        return [(m.in_channels, m.out_channels) for m in part.modules() if isinstance(m, nn.Conv2d)]

    mirrored = [(after, before) for before, after in reversed(widths(network.encoder))]
    assert widths(network.decoder) + widths(network.head) == [*mirrored[:-1], (64, 2)]
    convolutions = sum(len(widths(part)) for part in (network.encoder, network.decoder, network.head))
    assert convolutions == 26
    assert sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == 25


def test_output_is_as_large_as_the_input() -> None:
    with torch.device("meta"):
        method = SegNet(Task(), weights="none")
        for height, width in ((32, 32), (256, 256), (224, 480)):
            assert method(torch.empty(2, 3, height, width))["foreground"].shape == (2, 2, height, width)
    assert method.geometry.valid_input(method.recipe.crop) == method.recipe.crop


def test_places_of_the_largest_px_reach_the_output() -> None:
    """Moving a bright px inside one pooling cell moves the answer, which the pooled values alone cannot tell."""
    torch.manual_seed(0)
    network = SegNetwork(2).eval()
    image = torch.zeros(1, 3, 32, 32)
    first, second = image.clone(), image.clone()
    first[..., 16, 16] = 5
    second[..., 17, 17] = 5
    with torch.no_grad():
        _, one = network.encoder(first)
        _, other = network.encoder(second)
        assert not torch.equal(one[0], other[0])
        pooled = torch.rand(1, 16, 1, 1)
        assert not torch.equal(network.decoder(pooled, one), network.decoder(pooled, other))


def test_imagenet_weights_need_the_full_width() -> None:
    with pytest.raises(ConfigError, match="weights=none"):
        SegNet(Task(), features=4)


def test_kernels_alone_decay() -> None:
    method = SegNet(Task(), features=2, weights="none")
    method.begin(method.recipe.phases[0])
    optimizer = method.configure_optimizers()
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {decay[id(p)] for p in method.parameters() if p.ndim > 1} == {1e-5}
    assert {decay[id(p)] for p in method.parameters() if p.ndim == 1} == {0.0}
