"""Gradients stay in channels_last, in which convolutions are fastest, and crops do not change their values."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.registry import METHODS, method_class
from datamodules.reading.sample import Sample
from datamodules.synthetic.images import generate
from models.base.classical import ClassicalMethod
from models.base.memory_format import centre_crop, keep_format, unpool
from models.base.method import Batch, NucleiMethod, Task

LINEAR = "features are (B, H, W, C), for linear layers: what looks like NCHW is channels_last"
EXCEPTIONS: dict[str, tuple[str, set[str]]] = {
    "cianet": (
        "two heads of one channel each are put together, in NCHW in both passes",
        {"Select", "UpsampleBilinear2D"},
    ),
    "cnn2": (LINEAR, {"Cat", "Mul", "Permute", "Relu", "Slice", "View"}),
    "cnn3": (LINEAR, {"Cat", "Mul", "Permute", "Relu", "Slice", "View"}),
    "sc-cnn": (LINEAR, {"View"}),
    "self-supervised": ("the mean over the last 5 x 5 px of torchvision's classifier", {"Mean"}),
}
"""Method -> why some gradients are NCHW, and the operations that compute them."""
TRAINED = sorted(name for name in METHODS if not issubclass(method_class(name), ClassicalMethod))


def is_nchw(gradient: Any) -> bool:
    """Tell whether a gradient is an image of several channels and pixels, and dense in NCHW only."""
    if not isinstance(gradient, Tensor) or gradient.ndim != 4 or gradient.shape[0] == 0:
        return False
    if min(gradient.shape[1], gradient.shape[2] * gradient.shape[3]) == 1:
        return False
    return gradient.is_contiguous() and not gradient.is_contiguous(memory_format=torch.channels_last)


def graph(outputs: list[Tensor]) -> list[Any]:
    """Return the nodes of the autograd graph from the outputs of a network to its weights."""
    stack = [output.grad_fn for output in outputs if output.grad_fn is not None]
    found: dict[Any, None] = {}
    while stack:
        node = stack.pop()
        if node not in found:
            found[node] = None
            stack += [after for after, _ in node.next_functions if after is not None]
    return list(found)


def watch(node: Any, found: set[str]) -> None:
    """Note a node that computes a gradient in NCHW, but for those of weights and those that are converted next."""
    after = [nearer.name() if nearer is not None else "" for nearer, _ in node.next_functions]

    def look(gradients: tuple[Any, ...], _: Any) -> None:
        for gradient, name in zip(gradients, after, strict=True):
            if is_nchw(gradient) and "AccumulateGrad" not in name and "_Keep" not in name:
                found.add(node.name().rstrip("0123456789").removesuffix("Backward"))

    node.register_hook(look)


def nodes_in_nchw(method: NucleiMethod, batch: Batch) -> set[str]:
    """Train one step and return the operations of the network that compute gradients in NCHW.

    The gradients within the loss are left out: it begins at the tensors that `loss` is called with.
    """
    outputs: list[Tensor] = []
    found: set[str] = set()
    loss = method.loss

    def noting(tensors: dict[str, Tensor], *others: Any) -> dict[str, Tensor]:
        outputs.extend(tensors.values())
        return loss(tensors, *others)

    method.loss = noting  # type: ignore[method-assign]
    total = torch.stack(list(method.losses(batch).values())).sum()
    assert outputs
    for node in graph(outputs):
        watch(node, found)
    total.backward()
    return found


@pytest.mark.parametrize("name", TRAINED)
def test_gradients_stay_in_channels_last(name: str) -> None:
    kind = method_class(name)
    method = kind(Task(), **kind.small).to(memory_format=torch.channels_last).train()
    margin = method.geometry.margin
    size = method.geometry.valid_input(2 * margin + 64)
    image, truth = generate((size, size), np.random.default_rng(0), density=1.5e-3)
    recipe = dataclasses.replace(method.recipe, crop=size, augment="none")
    draw = method.drawer(recipe, augment=True)
    sample = Sample(image, truth, "image", "group", magnification=40.0)
    batch = method.collate([draw(sample, np.random.default_rng(i)) for i in range(2)])
    method.begin(method.recipe.phases[-1])
    method.configure_optimizers()
    reason, expected = EXCEPTIONS.get(name, ("", set()))
    assert nodes_in_nchw(method, batch) == expected, reason


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_a_crop_has_the_gradient_of_a_slice(layout: torch.memory_format) -> None:
    x = torch.randn(2, 3, 11, 9, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    y = centre_crop(x, torch.Size((6, 4)))
    assert torch.equal(y, x[..., 2:8, 2:6])
    weights = torch.randn(y.shape, dtype=torch.float64).contiguous(memory_format=layout)
    (found,) = torch.autograd.grad((y * weights).sum(), x)
    (expected,) = torch.autograd.grad((x[..., 2:8, 2:6] * weights).sum(), x)
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_unpooling_has_the_gradient_of_torch(layout: torch.memory_format) -> None:
    whole = torch.randn(2, 5, 8, 12).contiguous(memory_format=layout)
    pooled, places = F.max_pool2d(whole, 2, return_indices=True)
    x = pooled.clone().requires_grad_()
    weights = torch.randn(whole.shape).contiguous(memory_format=layout)
    y, expected_y = unpool(x, places), F.max_unpool2d(x, places, [2, 2])
    assert torch.equal(y, expected_y)
    (found,) = torch.autograd.grad((y * weights).sum(), x)
    (expected,) = torch.autograd.grad((expected_y * weights).sum(), x)
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=layout)


def test_the_gradient_of_an_output_is_in_the_format_of_the_output() -> None:
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    weights = torch.randn(2, 3, 4, 5)
    (found,) = torch.autograd.grad((keep_format(x) * weights).sum(), x)
    assert torch.equal(found, weights)
    assert found.is_contiguous(memory_format=torch.channels_last)
    plain = torch.randn(2, 3, 4, 5, requires_grad=True)
    assert keep_format(plain) is plain
