"""DIST: its three regression targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datamodules.synthetic import generate
from models.base import Task
from models.dist import DIST, TARGETS
from postproc.errors import ConfigError


def build(target: str) -> DIST:
    torch.manual_seed(0)
    return DIST(Task(), features=2, target=target)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", TARGETS)
def test_the_loss_compares_what_is_decoded_with_what_was_encoded(target: str) -> None:
    method = build(target)
    _, truth = generate((64, 64), np.random.default_rng(0))
    encoded = {name: torch.from_numpy(value)[None] for name, value in method.codec.encode(truth).items()}
    outputs = method(torch.rand(1, 3, 64, 64))
    found = method.activate(outputs)["distance"]
    assert found.shape == (1, 1, 64, 64)
    expected = (found - encoded["distance"]).square().mean()
    torch.testing.assert_close(method.loss(outputs, encoded)["mse"], expected)
    assert float(encoded["distance"].max()) > 1 if target == "raw" else float(encoded["distance"].max()) == 1
    if target == "softmax":
        assert 0 <= float(found.detach().min()) <= float(found.detach().max()) <= 1


def test_the_width_is_that_of_the_paper() -> None:
    with torch.device("meta"):
        method = DIST(Task())
    assert sum(p.numel() for p in method.parameters()) == pytest.approx(7.77e6, rel=0.01)


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(ConfigError, match="normalised"):
        build("normalized")
