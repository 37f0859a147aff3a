from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from models.base.losses import cross_entropy, dice_loss, gradient_mse, mse_loss, sobel_kernels


@pytest.fixture
def logits() -> Tensor:
    return torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def target() -> Tensor:
    return torch.randint(0, 3, (2, 6, 5), generator=torch.Generator().manual_seed(1))


def ramp(axis: str, slope: float, size: int = 16) -> Tensor:
    line = slope * torch.arange(size, dtype=torch.float32)
    return line.expand(1, size, size) if axis == "x" else line[:, None].expand(1, size, size)


def inner(size: int = 16) -> Tensor:
    """Nuclear px that are no nearer to the border than the kernel reaches."""
    nuclei = torch.zeros(1, size, size)
    nuclei[:, 2:-2, 2:-2] = 1
    return nuclei


def test_cross_entropy_is_the_mean_negative_log_probability(logits: Tensor, target: Tensor) -> None:
    values = logits.double().numpy()
    probability = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
    expected = -np.log(np.take_along_axis(probability, target.numpy()[:, None], axis=1)).mean()
    assert cross_entropy(logits, target).item() == pytest.approx(expected, rel=1e-6)


def test_weights_scale_px_without_normalisation(logits: Tensor, target: Tensor) -> None:
    plain = cross_entropy(logits, target)
    assert cross_entropy(logits, target, torch.full((2, 6, 5), 3.0)).item() == pytest.approx(3 * plain.item())
    one_image = torch.zeros(2, 6, 5)
    one_image[0] = 1
    expected = cross_entropy(logits[:1], target[:1]).item() / 2
    assert cross_entropy(logits, target, one_image).item() == pytest.approx(expected)


def test_dice_sums_the_classes_over_the_whole_batch(logits: Tensor, target: Tensor) -> None:
    values = logits.double().numpy()
    probability = np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)
    expected = 0.0
    for k in range(3):
        p, t = probability[:, k], target.numpy() == k
        expected += 1 - (2 * (p * t).sum() + 1e-3) / (p.sum() + t.sum() + 1e-3)
    assert dice_loss(logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_dice_bounds(target: Tensor) -> None:
    truth = torch.nn.functional.one_hot(target, 3).movedim(-1, 1).float()
    assert dice_loss(100 * truth, target).item() == pytest.approx(0, abs=1e-5)
    assert dice_loss(100 * truth.roll(1, dims=1), target).item() == pytest.approx(3, abs=1e-3)


def test_dice_of_an_absent_class_is_nothing() -> None:
    background = torch.zeros(1, 4, 4, dtype=torch.int64)
    sure = torch.tensor([50.0, -50.0])[None, :, None, None].expand(1, 2, 4, 4)
    assert dice_loss(sure, background).item() == pytest.approx(0, abs=1e-6)


def test_sobel_kernels_by_hand() -> None:
    horizontal, vertical = sobel_kernels(3)
    torch.testing.assert_close(horizontal, torch.tensor([[-0.5, 0, 0.5], [-1, 0, 1], [-0.5, 0, 0.5]]))
    torch.testing.assert_close(vertical, horizontal.T)
    with pytest.raises(ValueError, match="odd"):
        sobel_kernels(4)


@pytest.mark.parametrize("channel", [0, 1])
def test_each_map_is_differentiated_in_its_own_direction(channel: int) -> None:
    # A ramp of slope a gives a * sum(x^2 / (x^2 + y^2)) = 12 a under the 5 x 5 kernel; half of the mean is
    # the other map.
    slope = 0.1
    flat = torch.zeros(1, 2, 16, 16)
    along, across = flat.clone(), flat.clone()
    along[:, channel] = ramp("xy"[channel], slope)
    across[:, channel] = ramp("yx"[channel], slope)
    assert gradient_mse(along, flat, inner()).item() == pytest.approx((12 * slope) ** 2 / 2, rel=1e-5)
    assert gradient_mse(across, flat, inner()).item() == pytest.approx(0, abs=1e-9)


def test_gradient_counts_nuclear_px_alone() -> None:
    predicted, truth = torch.zeros(1, 2, 16, 16), torch.zeros(1, 2, 16, 16)
    predicted[..., 12:, 12:] = 5.0
    nuclei = torch.zeros(1, 16, 16)
    nuclei[:, 2:6, 2:6] = 1
    assert gradient_mse(predicted, truth, nuclei).item() == 0
    assert gradient_mse(predicted, truth, torch.ones(1, 16, 16)).item() > 0


def test_gradient_ignores_a_constant_error() -> None:
    truth = torch.randn(1, 2, 16, 16)
    assert gradient_mse(truth + 0.3, truth, inner()).item() == pytest.approx(0, abs=1e-9)
    assert mse_loss(truth + 0.3, truth).item() == pytest.approx(0.09, rel=1e-4)


def test_everything_is_finite_without_a_nucleus() -> None:
    hv = torch.randn(1, 2, 8, 8, requires_grad=True)
    logits = torch.randn(1, 2, 8, 8, requires_grad=True)
    nothing = torch.zeros(1, 8, 8, dtype=torch.int64)
    gradient = gradient_mse(hv, torch.zeros(1, 2, 8, 8), nothing)
    assert gradient.item() == 0
    total = gradient + mse_loss(hv, torch.zeros(1, 2, 8, 8)) + dice_loss(logits, nothing)
    (total + cross_entropy(logits, nothing)).backward()
    for leaf in (hv, logits):
        assert leaf.grad is not None
        assert torch.isfinite(leaf.grad).all()


def test_half_precision_input_and_autocast_do_not_lower_the_precision() -> None:
    generator = torch.Generator().manual_seed(3)
    predicted, truth = torch.randn(2, 1, 2, 16, 16, generator=generator).bfloat16()
    target = (truth[:, 0] > 0).long()
    expected = gradient_mse(predicted.float(), truth.float(), target)
    with torch.autocast("cpu", torch.bfloat16):
        computed = gradient_mse(predicted, truth, target)
        others = (cross_entropy(predicted, target), dice_loss(predicted, target), mse_loss(predicted, truth))
    assert computed.dtype == torch.float32
    assert computed.item() == expected.item()
    assert all(value.dtype == torch.float32 for value in others)
