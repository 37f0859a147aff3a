"""Weights of types in the loss, for every method whose loss is a cross-entropy over types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from benchmark.options import option_defaults
from benchmark.registry import METHODS, method_class
from datamodules.reading.sample import Sample
from datamodules.synthetic.images import generate
from models.base.losses import cross_entropy
from models.base.method import Batch, NucleiMethod, Task
from models.sfcn_opi import type_error

TYPES = ("miscellaneous", "inflammatory", "epithelial", "spindle")


def build(name: str, types: tuple[str, ...] = TYPES) -> NucleiMethod:
    torch.manual_seed(0)
    kind = method_class(name)
    options: dict[str, Any] = dict(kind.small)
    if types and "classify" in option_defaults(kind):
        options["classify"] = True
    return kind(Task(types), **options)


def batch_of(method: NucleiMethod) -> Batch:
    size = method.geometry.valid_input(2 * method.geometry.margin + 64)
    image, truth = generate((size, size), np.random.default_rng(1), density=3e-3)
    sample = Sample(image, truth, "image", "group", magnification=40.0)
    recipe = method.recipe.override(crop=size)
    return method.collate([method.drawer(recipe, augment=False)(sample, np.random.default_rng(0))])


def terms_of(method: NucleiMethod, batch: Batch, weights: list[float] | None) -> dict[str, float]:
    method.type_weights = None if weights is None else torch.tensor(weights)
    method.eval()
    with torch.no_grad():
        return {name: float(value) for name, value in method.losses(batch).items()}


WEIGHING = [name for name in sorted(METHODS) if build(name).weighs_types]


def test_the_methods_of_the_classification_table_are_among_them() -> None:
    assert {"dist", "hovernet", "mask-rcnn", "micronet"} <= set(WEIGHING)
    assert not any(build(name, ()).weighs_types for name in sorted(METHODS))


@pytest.mark.parametrize("name", WEIGHING)
def test_weights_change_the_terms_of_types_alone(name: str) -> None:
    method = build(name)
    method.begin(method.recipe.phases[:2][-1])  # SFCN-OPI's second phase is that of its types
    batch = batch_of(method)
    plain = terms_of(method, batch, [1.0] * 5)
    if name != "sc-cnn":  # which draws its patches evenly by type where the loss does not weigh them
        assert plain == pytest.approx(terms_of(method, batch, None), rel=1e-5)
    doubled = terms_of(method, batch, [2.0] * 5)
    changed = {key for key in plain if doubled[key] != pytest.approx(plain[key], rel=1e-4)}
    assert changed
    assert all(doubled[key] == pytest.approx(2 * plain[key], rel=1e-4) for key in changed)
    heavier = terms_of(method, batch, [1.0, 1.0, 1.0, 9.0, 1.0])
    assert {key for key in plain if heavier[key] > plain[key] * (1 + 1e-5)} == changed


def test_classes_weigh_without_normalisation() -> None:
    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 3, (2, 4, 5), generator=torch.Generator().manual_seed(1))
    weight = torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(2))
    classes = torch.tensor([1.0, 0.25, 7.0])
    each = -logits.log_softmax(dim=1).gather(1, target[:, None])[:, 0]
    found = cross_entropy(logits, target, weight, classes=classes)
    torch.testing.assert_close(found, (each * weight * classes[target]).mean())


def test_types_of_sfcn_opi_weigh_without_the_background() -> None:
    logits = torch.tensor([[[[0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0]]]])
    classes = torch.tensor([[[0, 1, 2]]])
    first, second = -logits.log_softmax(dim=1)[0, :, 0, 0]
    found = type_error(logits, classes, None, 0.8, torch.tensor([5.0, 3.0, 0.5]))
    torch.testing.assert_close(found, (3 * first + second / 2) / 2)
