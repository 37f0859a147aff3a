"""Gradients stay in channels_last, in which convolutions are fastest, and crops do not change their values."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark.registry import method_class
from datamodules.reading.sample import Sample
from datamodules.synthetic.images import generate
from models.base.method import Task
from models.networks.hovernet import centre_crop

HEADS = 16
"""Most channels that the output of a small network has (StarDist's rays)."""


def in_one_format(gradient: Any) -> bool:
    """Tell whether a gradient is no dense NCHW array of several channels and px."""
    if not isinstance(gradient, Tensor) or gradient.ndim != 4:
        return True
    if min(gradient.shape[1], gradient.shape[2] * gradient.shape[3]) == 1 or gradient.shape[0] == 0:
        return True
    return gradient.is_contiguous(memory_format=torch.channels_last) or not gradient.is_contiguous()


def convolutions_with_another_format(method: nn.Module, loss: Callable[[], Tensor]) -> list[str]:
    """Return the names of the convolutions whose output has a gradient in NCHW, but for those with few channels.

    The last convolutions of a network get the gradient of a loss, in whatever format that computes.
    """
    found: list[str] = []
    handles = []
    for name, module in method.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.out_channels > HEADS:

            def watch(_: nn.Module, inputs: Any, output: Tensor, name: str = name) -> None:
                output.register_hook(lambda gradient: None if in_one_format(gradient) else found.append(name))

            handles.append(module.register_forward_hook(watch))
    loss().backward()
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("name", ["dran", "hovernet", "unet"])
def test_crops_leave_gradients_in_their_memory_format(name: str) -> None:
    kind = method_class(name)
    method = kind(Task(), **kind.small).to(memory_format=torch.channels_last).train()
    size = method.geometry.valid_input(2 * method.geometry.margin + 64)
    image, truth = generate((size, size), np.random.default_rng(0), density=1.5e-3)
    recipe = dataclasses.replace(method.recipe, crop=size, augment="none")
    draw = method.drawer(recipe, augment=True)
    sample = Sample(image, truth, "image", "group", magnification=40.0)
    batch = method.collate([draw(sample, np.random.default_rng(i)) for i in range(2)])
    method.begin(method.recipe.phases[-1])
    method.configure_optimizers()
    assert (
        convolutions_with_another_format(method, lambda: torch.stack(list(method.losses(batch).values())).sum()) == []
    )


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
