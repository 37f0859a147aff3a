from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.base.method import Task
from models.deconvnet import DeconvNet, DeconvNetwork
from models.ensemble import Ensemble
from models.fcn8 import FCN8, FCN8Network
from postproc.errors import ConfigError


def build() -> Ensemble:
    torch.manual_seed(0)
    return Ensemble(Task(), **Ensemble.small)


def batch_of(size: int = 224) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=generator),
        "foreground": torch.randint(0, 2, (2, size, size), generator=generator),
    }


def test_posterior_is_the_mean_of_the_members() -> None:
    method = build()
    logits = {"fcn": torch.tensor([0.0, 0.0]), "deconvnet": torch.tensor([0.0, 2.0])}
    maps = method.activate({name: value.view(1, 2, 1, 1) for name, value in logits.items()})
    assert list(maps) == ["foreground"]
    assert maps["foreground"].shape == (1, 1, 1, 1)
    assert maps["foreground"].item() == pytest.approx((0.5 + 1 / (1 + 2.718281828**-2)) / 2)


def test_sizes_are_those_of_the_members() -> None:
    with torch.device("meta"):
        method = Ensemble(Task(), fcn_weights="none", deconvnet_weights="none")
        parts = [FCN8Network(), DeconvNetwork()]
        outputs = method(torch.empty(2, 3, 256, 288))
    total = sum(p.numel() for p in method.parameters())
    assert total == sum(p.numel() for part in parts for p in part.parameters())
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "fcn": (2, 2, 256, 288),
        "deconvnet": (2, 2, 256, 288),
    }


def test_each_member_learns_from_its_own_term_alone() -> None:
    method = build().train()
    terms = method.losses(batch_of())
    assert list(terms) == ["fcn_ce", "deconvnet_ce"]
    terms["fcn_ce"].backward()
    assert all(p.grad is not None for p in method.fcn.parameters())
    assert all(p.grad is None for p in method.deconvnet.parameters())


def test_members_trained_before_can_be_given(tmp_path: Path) -> None:
    torch.manual_seed(1)
    fcn = FCN8(Task(), features=2, weights="none")
    deconvnet = DeconvNet(Task(), features=2, weights="none")
    for name, member in (("fcn", fcn), ("deconvnet", deconvnet)):
        torch.save(member.state_dict(), tmp_path / f"{name}.pt")
    method = Ensemble(
        Task(),
        features=2,
        fcn_weights=str(tmp_path / "fcn.pt"),
        deconvnet_weights=str(tmp_path / "deconvnet.pt"),
    ).eval()
    image = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        found = method.activate(method(image))["foreground"]
        expected = [m.eval().activate(m(image))["foreground"] for m in (fcn, deconvnet)]
    torch.testing.assert_close(found, torch.stack(expected).mean(dim=0))


@pytest.mark.parametrize("option", ["fcn_weights", "deconvnet_weights"])
def test_imagenet_weights_need_the_full_width(option: str) -> None:
    with pytest.raises(ConfigError, match="weights=none"):
        Ensemble(Task(), **{**Ensemble.small, option: "imagenet"})
