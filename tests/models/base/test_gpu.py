"""What needs a GPU: mixed precision stays finite, and predictions agree with the CPU."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from benchmark.forward.maps import InferenceSettings, predict_maps
from benchmark.metrics.contingency import contingency
from benchmark.metrics.image import object_scores
from benchmark.registry import METHODS, method_class
from datamodules.reading.sample import Sample
from datamodules.synthetic.images import generate
from models.base.method import NucleiMethod, Task

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

TYPES = ("miscellaneous", "inflammatory", "epithelial", "spindle")


TRAINED = sorted(name for name in METHODS if method_class(name).card.trained)


def build(name: str) -> NucleiMethod:
    torch.manual_seed(0)
    kind = method_class(name)
    return kind(Task(TYPES), **kind.small)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_training_stays_finite(name: str, dtype: torch.dtype) -> None:
    method = build(name).cuda().train()
    method.begin(method.recipe.phases[-1])
    optimizer = method.configure_optimizers()
    recipe = dataclasses.replace(method.recipe, augment="none")
    image, truth = generate((400, 400), np.random.default_rng(0))
    draw = method.drawer(recipe, augment=True)
    sample = Sample(image, truth, "image", "group", magnification=40.0)
    batch = method.collate([draw(sample, np.random.default_rng(i)) for i in range(2)])
    batch = {k: v.cuda() if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
    scaler = torch.amp.GradScaler("cuda", enabled=dtype is torch.float16)
    for _ in range(5):
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=dtype):
            loss = torch.stack(list(method.losses(batch).values())).sum()
        assert torch.isfinite(loss)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    assert all(parameter.isfinite().all() for parameter in method.parameters())


@pytest.mark.parametrize("name", sorted(METHODS))
def test_predictions_agree_with_the_cpu(name: str) -> None:
    method = build(name).eval()
    image, _ = generate((300, 260), np.random.default_rng(0))
    settings = InferenceSettings(precision="32-true")
    here = predict_maps(method, image, settings)
    there = predict_maps(method.cuda(), image, settings)
    for codec in method.codecs.values():
        one, two = codec.decode(here, codec.defaults()), codec.decode(there, codec.defaults())
        if one.labels is not None and two.labels is not None and one.count + two.count:
            assert object_scores(contingency(one.labels, two.labels))["pq"] > 0.98
