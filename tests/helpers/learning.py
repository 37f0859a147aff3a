"""Train a method on a single crop and score what it then says of this crop."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from benchmark.forward.maps import InferenceSettings, predict_maps
from benchmark.metrics.image import score_image
from datamodules.drawing.crops import cut_instances, random_window
from datamodules.reading.sample import Sample
from models.base.method import Batch, NucleiMethod
from postproc.windows import DenseStitcher


def one_crop(method: NucleiMethod, sample: Sample, size: int, copies: int = 1) -> tuple[Sample, Batch]:
    """Return a crop of a sample, and the training batch that consists of it alone.

    Args:
        method: Its drawer makes the items.
        sample: As large as `size` or larger.
        size: Side in px; must suit the geometry of the method.
        copies: How often the crop is in the batch; the methods that draw patches from it draw others each time.
    """
    image, truth = random_window(sample, size, np.random.default_rng(0))
    crop = dataclasses.replace(sample, image=image, truth=truth)
    draw = method.drawer(dataclasses.replace(method.recipe, crop=size, augment="none"), augment=False)
    return crop, method.collate([draw(crop, np.random.default_rng(k)) for k in range(copies)])


def learn(method: NucleiMethod, batch: Batch, steps: int, lr: float | None = None) -> list[float]:
    """Take optimiser steps on one batch, with the loss and the optimiser of the method.

    Args:
        method: Left in evaluation mode.
        batch: From `one_crop`.
        steps: Optimiser steps.
        lr: Learning rate; None = that of the recipe's last phase. It falls to 0 along half a cosine.

    Returns:
        The loss of each step.
    """
    torch.manual_seed(0)
    method.begin(dataclasses.replace(method.recipe.phases[-1], frozen=()))
    optimizer = method.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Optimizer)
    first = method.phase.lr if lr is None else lr
    method.train()
    losses = []
    for step in range(steps):
        method.progress = step / steps
        for group in optimizer.param_groups:
            group["lr"] = first * 0.5 * (1 + np.cos(np.pi * step / steps))
        optimizer.zero_grad()
        loss = torch.stack(list(method.losses(batch).values())).sum()
        loss.backward()
        if method.recipe.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(method.parameters(), method.recipe.gradient_clip)
        optimizer.step()
        losses.append(float(loss.detach()))
    method.eval()
    return losses


@torch.no_grad()
def score(method: NucleiMethod, crop: Sample, batch: Batch) -> dict[str, float]:
    """Return the scores of the first variant, with the default parameters, on what a crop's target showed.

    A dense network sees the very input that it was trained on; other methods see the crop as an image.

    Args:
        method: In evaluation mode.
        crop: From `one_crop`.
        batch: From `one_crop`.
    """
    if isinstance(method.stitcher(crop.truth.shape), DenseStitcher):
        maps, margin = method.predict_batch(method.prepare(batch["image"][:1]))[0], method.geometry.margin
    else:
        maps, margin = predict_maps(method, crop.image, InferenceSettings(precision="32-true")), 0
    found = method.codec.decode(maps, method.codec.defaults())
    truth = cut_instances(crop.truth, margin, margin, found.shape[0])
    return score_image(truth, found, radius=6.0)
