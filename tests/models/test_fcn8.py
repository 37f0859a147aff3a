from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from models.base.method import Task
from models.fcn8 import FCN8, FCN8Network, Upsampling
from postproc.errors import ConfigError


def build(features: int = 2, dropout: float = 0.5) -> FCN8:
    torch.manual_seed(0)
    return FCN8(Task(), features=features, weights="none", dropout=dropout)


def test_size_is_the_papers() -> None:
    """Table 1 of the paper: 134 M parameters."""
    with torch.device("meta"):
        network = FCN8Network(classes=21)
    count = sum(p.numel() for p in network.parameters())
    vgg = 14_714_688 + (7 * 7 * 512 + 1) * 4096 + (4096 + 1) * 4096
    assert count == vgg + 21 * (4097 + 513 + 257) + 2 * 21 * 21 * 4 * 4
    assert round(count / 1e6) == 134


def test_output_is_as_large_as_the_input() -> None:
    with torch.device("meta"):
        method = FCN8(Task(), weights="none")
        for height, width in ((32, 32), (256, 256), (224, 480)):
            outputs = method(torch.empty(2, 3, height, width))
            assert outputs["foreground"].shape == (2, 2, height, width)
    assert method.geometry.valid_input(method.recipe.crop) == method.recipe.crop
    assert method.geometry.output(256) == 256


@pytest.mark.parametrize("factor", [2, 8])
def test_upsampling_begins_as_bilinear_interpolation(factor: int) -> None:
    x = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    for fixed in (False, True):
        up = Upsampling(3, factor, fixed=fixed)
        torch.testing.assert_close(up(x), expected)
        assert len(list(up.parameters())) == (not fixed)
        assert "weight" in up.state_dict()


def test_the_three_strides_are_added_up() -> None:
    """With all kernels of the scores at 0, their biases alone remain: each reaches every px once."""
    method = build().eval()
    network = method.network
    assert isinstance(network, FCN8Network)
    with torch.no_grad():
        for score, value in ((network.score32, 1.0), (network.score16, 10.0), (network.score8, 100.0)):
            score.weight.zero_()
            assert score.bias is not None
            score.bias.fill_(value)
        logits = method(torch.rand(1, 3, 64, 96))["foreground"]
    torch.testing.assert_close(logits, torch.full((1, 2, 64, 96), 111.0))


def test_each_score_sees_its_own_stride() -> None:
    """A score of pool3 changes where 8 px cells change; the coarse ones alone cannot resolve that."""
    network = FCN8Network(2).eval()
    with torch.no_grad():
        for score in (network.score32, network.score16):
            score.weight.zero_()
        image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        changed = image.clone()
        changed[..., 32, 32] += 5
        moved = (network(image) - network(changed)).abs().sum(dim=1)[0] > 1e-6
    rows = torch.nonzero(moved.any(dim=1)).flatten()
    assert moved[32, 32]
    # Receptive field of pool3: 44 px; the interpolation by 8 adds a cell on each side.
    assert rows.min() >= 32 - 22 - 16
    assert rows.max() <= 32 + 22 + 16


def test_dropout_acts_in_training_alone() -> None:
    method, image = build(), torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        method.train()
        assert not torch.equal(method(image)["foreground"], method(image)["foreground"])
        method.eval()
        assert torch.equal(method(image)["foreground"], method(image)["foreground"])


def test_kernels_alone_decay() -> None:
    method = build()
    method.begin(method.recipe.phases[0])
    optimizer = method.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Adam)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in method.named_parameters():
        assert decay[id(parameter)] == (0.0 if name.endswith("bias") else 1e-5)


def test_learning_rate_falls_half_way() -> None:
    (phase,) = FCN8.recipe.phases
    rates = [phase.lr * phase.schedule(epoch / 240) for epoch in (0, 119, 120, 239)]
    assert (phase.epochs, phase.batch_size) == (240, 8)
    assert rates == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5])


def test_imagenet_weights_need_the_full_width() -> None:
    with pytest.raises(ConfigError, match="weights=none"):
        FCN8(Task(), features=4)


def test_probability_is_that_of_nucleus() -> None:
    method = build()
    logits = torch.tensor([0.0, 2.0]).view(1, 2, 1, 1)
    probability = method.activate({"foreground": logits})["foreground"]
    assert probability.shape == (1, 1, 1, 1)
    assert probability.item() == pytest.approx(1 / (1 + 2.718281828**-2))
