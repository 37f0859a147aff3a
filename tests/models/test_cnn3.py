"""CNN2 and CNN3."""

from __future__ import annotations

import pytest
import torch

from models.base.method import Task
from models.cnn2 import CNN2
from models.cnn3 import CNN3, PATCH, PatchClassifier, limit_norms

every_kind = pytest.mark.parametrize("kind", [CNN2, CNN3])


def test_the_network_equals_itself_slid_over_the_image() -> None:
    torch.manual_seed(0)
    network = PatchClassifier(3, hidden=8).eval()
    image = torch.rand(1, 3, 57, 55)
    with torch.no_grad():
        whole = network(image)
        assert whole.shape == (1, 3, 7, 5)
        for y in range(7):
            for x in range(5):
                patch = network(image[..., y : y + PATCH, x : x + PATCH])
                assert patch.shape == (1, 3, 1, 1)
                torch.testing.assert_close(patch[..., 0, 0], whole[..., y, x])


def test_the_dilated_network_equals_the_published_one_with_strides() -> None:
    """The network of the authors' script on one patch: convolutions of 4, 5, 6 px, pooling with stride 2."""
    torch.manual_seed(0)
    network = PatchClassifier(3, hidden=8).eval()
    patch = torch.rand(2, 3, PATCH, PATCH)
    with torch.no_grad():
        x = patch
        for convolution, size in zip(network.convolutions, (24, 10, 2), strict=True):
            x = torch.nn.functional.conv2d(x, convolution.weight, convolution.bias)
            x = torch.nn.functional.max_pool2d(torch.relu(x), 2)
            assert x.shape[-2:] == (size, size)
        x = x.permute(0, 2, 3, 1).flatten(1)
        for layer in network.hidden:
            x = torch.relu(layer(x))
        torch.testing.assert_close(network(patch)[..., 0, 0], network.head(x))


def test_strips_give_the_same_output(monkeypatch: pytest.MonkeyPatch) -> None:
    network = PatchClassifier(2, hidden=4).eval()
    image = torch.rand(1, 3, 70, 64)
    with torch.no_grad():
        whole = network(image)
        monkeypatch.setattr("models.cnn3.STRIP", 40)
        torch.testing.assert_close(network(image), whole)


def test_parameter_count_is_that_of_the_script() -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in PatchClassifier(3).parameters())
    convolutions = (3 * 16 + 1) * 25 + (25 * 25 + 1) * 50 + (50 * 36 + 1) * 80
    assert count == convolutions + (80 * 4 + 1) * 1024 + (1024 + 1) * 1024 + (1024 + 1) * 3


@every_kind
def test_classes_weigh_the_same_however_rare(kind: type[CNN3]) -> None:
    method = kind(Task(), hidden=4)
    target = torch.zeros(1, 10, 10, dtype=torch.int64)
    target[0, 0, 0] = 1
    wrong_rare, wrong_common = torch.zeros(2, 1, method.classes, 10, 10)
    for logits in (wrong_rare, wrong_common):
        logits[:, 0], logits[:, 1] = 8.0 * (target == 0), 8.0 * (target == 1)
    wrong_rare[0, :2, 0, 0] = torch.tensor([8.0, 0.0])
    wrong_common[0, 0], wrong_common[0, 1] = 0.0, 8.0
    rare, common = (method.loss({"classes": x}, {"classes": target})["ce"].item() for x in (wrong_rare, wrong_common))
    assert rare == pytest.approx(common, rel=1e-2)
    assert torch.isfinite(torch.tensor(rare))


@every_kind
def test_norms_of_units_stay_within_the_limit(kind: type[CNN3]) -> None:
    method = kind(Task(), hidden=4)
    with torch.no_grad():
        method.network.hidden[0].weight.mul_(9)
        small = method.network.head.weight.mul_(0.01).clone()
    method.on_train_batch_end(None, {}, 0)
    for layer in (*method.network.convolutions, *method.network.hidden):
        assert layer.weight.flatten(1).norm(dim=1).max() <= 1 + 1e-5
    torch.testing.assert_close(method.network.head.weight, small)
    free = PatchClassifier(2, 4)
    before = free.hidden[0].weight.clone()
    limit_norms(free, 1e6)
    torch.testing.assert_close(free.hidden[0].weight, before)


def test_output_has_the_classes_as_probabilities() -> None:
    method = CNN3(Task(), hidden=4).eval()
    with torch.no_grad():
        maps = method.predict_batch(method.prepare(torch.zeros(1, 3, 53, 52, dtype=torch.uint8)))[0]
    assert maps["classes"].shape == (3, 3, 2)
    assert maps["classes"].sum(axis=0) == pytest.approx(1.0)
