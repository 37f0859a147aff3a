from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from models.deconvnet import DeconvNetwork
from models.fcn8 import FCN8Network
from models.networks.vgg import UnpoolingDecoder, VGGEncoder, initialise, load_pretrained
from models.segnet import SegNetwork
from postproc.errors import ConfigError, DataError


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


class NarrowVGG(nn.Module):
    """Torchvision's VGG16 with fewer channels, and a classifier of as many times fewer."""

    def __init__(self, features: int, *, norm: bool) -> None:
        super().__init__()
        torch.manual_seed(3)
        plan: list[str | int] = []
        for width, depth in zip((1, 2, 4, 8, 8), (2, 2, 3, 3, 3), strict=True):
            plan += [features * width] * depth + ["M"]
        hidden = 64 * features
        self.features = torchvision.models.vgg.make_layers(plan, batch_norm=norm)
        self.classifier = nn.Sequential(
            nn.Linear(8 * features * 49, hidden),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(hidden, 10),
        )
        self.eval()


def images(size: int = 224, batch: int = 1) -> Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("norm", [False, True])
def test_encoder_has_the_layers_of_torchvision(norm: bool) -> None:
    with torch.device("meta"):
        theirs = (torchvision.models.vgg16_bn if norm else torchvision.models.vgg16)(weights=None).features
        own = VGGEncoder(norm=norm)
    assert [p.shape for p in own.parameters()] == [p.shape for p in theirs.parameters()]
    assert count(own) == 14_714_688 + norm * 2 * 4224


@pytest.mark.parametrize("norm", [False, True])
def test_weights_of_torchvision_give_torchvisions_features(
    norm: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only change of the narrow network is the width that counts as VGG16's."""
    monkeypatch.setattr("models.networks.vgg.FEATURES", 4)
    theirs = NarrowVGG(4, norm=norm)
    torch.save(theirs.state_dict(), tmp_path / "vgg.pth")
    network = (SegNetwork(4) if norm else FCN8Network(4)).eval()
    load_pretrained(network, str(tmp_path / "vgg.pth"), features=4, norm=norm)
    with torch.no_grad():
        torch.testing.assert_close(network.encoder(images())[0][-1], theirs.features(images()))


def test_classifier_as_convolutions_gives_torchvisions_hidden_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.networks.vgg.FEATURES", 2)
    theirs = NarrowVGG(2, norm=False)
    torch.save(theirs.state_dict(), tmp_path / "vgg.pth")
    network = FCN8Network(2).eval()
    load_pretrained(network, str(tmp_path / "vgg.pth"), features=2, norm=False)
    with torch.no_grad():
        pool5 = theirs.features(images())
        expected = theirs.classifier[:5](pool5.flatten(1))
        hidden = torch.relu(network.fc7(torch.relu(network.fc6(pool5))))
    torch.testing.assert_close(hidden[:, :, 3, 3], expected, rtol=1e-4, atol=1e-5)


def test_bottleneck_of_deconvnet_takes_the_classifier_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.networks.vgg.FEATURES", 2)
    theirs = NarrowVGG(2, norm=True)
    torch.save(theirs.state_dict(), tmp_path / "vgg.pth")
    network = DeconvNetwork(2).eval()
    load_pretrained(network, str(tmp_path / "vgg.pth"), features=2, norm=True)
    with torch.no_grad():
        pool5 = theirs.features(images())
        torch.testing.assert_close(
            network.fc6(pool5)[:, :, 0, 0], theirs.classifier[0](pool5.flatten(1)), rtol=1e-4, atol=1e-5
        )


def test_weights_of_a_trained_network_are_taken_at_any_width(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained, fresh = SegNetwork(2), SegNetwork(2)
    state = {f"network.{name}": value for name, value in trained.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "run.pt")
    load_pretrained(fresh, str(tmp_path / "run.pt"), features=2, norm=True)
    for name, value in trained.state_dict().items():
        torch.testing.assert_close(fresh.state_dict()[name], value)


def test_pretrained_weights_need_the_full_width(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"features=8.*features=64.*weights=none"):
        load_pretrained(FCN8Network(8), "imagenet", features=8, norm=False)
    torch.save(NarrowVGG(2, norm=False).state_dict(), tmp_path / "vgg.pth")
    with pytest.raises(ConfigError, match="features=2"):
        load_pretrained(FCN8Network(2), str(tmp_path / "vgg.pth"), features=2, norm=False)
    with pytest.raises(ConfigError, match="no such file"):
        load_pretrained(FCN8Network(2), str(tmp_path / "missing.pth"), features=2, norm=False)


def test_weights_of_another_network_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.networks.vgg.FEATURES", 2)
    torch.save(NarrowVGG(2, norm=False).state_dict(), tmp_path / "plain.pth")
    with pytest.raises(DataError, match=r"13 layers.*vgg16_bn"):
        load_pretrained(SegNetwork(2), str(tmp_path / "plain.pth"), features=2, norm=True)
    state = NarrowVGG(2, norm=False).features.state_dict()
    torch.save({f"features.{name}": value for name, value in state.items()}, tmp_path / "headless.pth")
    with pytest.raises(DataError, match="missing"):
        load_pretrained(FCN8Network(2), str(tmp_path / "headless.pth"), features=2, norm=False)


def test_encoder_without_features_is_an_error() -> None:
    with pytest.raises(ConfigError, match="features=0"):
        VGGEncoder(0)


def test_values_go_back_to_where_they_were_largest() -> None:
    """Without its convolutions, a decoder stage is the inverse of the pooling on the largest px."""
    decoder = UnpoolingDecoder(2, depth=1, mirrored=False)
    decoder.stages = nn.ModuleList(nn.Identity() for _ in range(5))
    x = images(64)
    places, pooled = [], x
    for _ in range(5):
        pooled, index = torch.max_pool2d(pooled, 2), nn.functional.max_pool2d(pooled, 2, return_indices=True)[1]
        places.append(index)
    back = decoder(pooled, places)
    assert back.shape == x.shape
    assert (back != 0).sum() == pooled.numel()
    torch.testing.assert_close(back[back != 0], x[back != 0])


def test_random_weights_keep_the_variance() -> None:
    torch.manual_seed(0)
    conv, mirror, head = nn.Conv2d(64, 128, 3), nn.ConvTranspose2d(64, 128, 3), nn.Conv2d(128, 2, 1)
    initialise(nn.ModuleList([conv, mirror, head]), [head])
    for module in (conv, mirror):
        assert module.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert head.weight.abs().max().item() <= (6 / 130) ** 0.5
    assert all(module.bias is not None and not module.bias.any() for module in (conv, mirror, head))
