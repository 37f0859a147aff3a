"""DIST: its three regression targets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from datamodules.synthetic.images import generate
from models.base.method import Task
from models.dist import DIST, TARGETS
from postproc.errors import ConfigError

NO_TYPES = Task()
TYPES = Task(("miscellaneous", "inflammatory", "epithelial", "spindle"))


def build(target: str = "raw", task: Task = NO_TYPES, **options: Any) -> DIST:
    torch.manual_seed(0)
    return DIST(task, features=2, target=target, **options)  # type: ignore[arg-type]


def batch_of(method: DIST, size: int = 64) -> dict[str, Any]:
    image, truth = generate((size, size), np.random.default_rng(0), density=3e-3)
    return method.collate([method.codec.encode(truth) | {"image": image.transpose(2, 0, 1).copy()}])


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


def test_without_being_asked_types_are_not_learnt() -> None:
    plain, typed_data = build(), build(task=TYPES)
    assert typed_data.types == 0
    assert set(typed_data.codec.encode(generate((32, 32), np.random.default_rng(0))[1])) == {"distance"}
    for one, two in zip(plain.state_dict().items(), typed_data.state_dict().items(), strict=True):
        assert one[0] == two[0]
        assert torch.equal(one[1], two[1]), "the network of the segmentation tables, whatever the data has"


@pytest.mark.parametrize("target", TARGETS)
def test_types_come_from_one_more_convolution(target: str) -> None:
    method, plain = build(target, TYPES, classify=True), build(target)
    more = {name: tuple(value.shape) for name, value in method.state_dict().items() if name not in plain.state_dict()}
    assert more == {"type_head.weight": (5, 2, 1, 1), "type_head.bias": (5,)}
    batch = batch_of(method)
    outputs = method(method.prepare(batch["image"]))
    maps = method.activate(outputs)
    assert {name: tuple(value.shape) for name, value in maps.items()} == {
        "distance": (1, 1, 64, 64),
        "tp": (1, 5, 64, 64),
    }
    torch.testing.assert_close(maps["tp"].sum(dim=1), torch.ones(1, 64, 64))
    terms = method.loss(outputs, batch)
    torch.testing.assert_close(terms["mse"], (maps["distance"] - batch["distance"]).square().mean())
    right = maps["tp"].gather(1, batch["tp"][:, None])
    torch.testing.assert_close(terms["tp_ce"], -right.log().mean())


def test_types_of_one_crop_are_learnt() -> None:
    torch.manual_seed(0)
    method = DIST(TYPES, classify=None, features=4)
    batch = batch_of(method)
    optimizer = method.optimizer(list(method.parameters()), 1e-2)
    history = []
    for _ in range(40):
        terms = method.losses(batch)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        history.append(float(terms["tp_ce"].detach()))
    assert history[-1] < 0.6 * history[0]


def test_types_without_types_in_the_data_are_refused() -> None:
    with pytest.raises(ConfigError, match="classify=false"):
        build(classify=True)
    assert build(classify=None).types == 0


def test_weights_without_the_scale_of_the_output_are_refused() -> None:
    method = DIST(Task(), features=2)
    assert method.scale.tolist() == [3.0, 1.0]
    state = {name: value for name, value in method.state_dict().items() if name != "scale"}
    with pytest.raises(RuntimeError, match="scale"):
        method.load_state_dict(state)
    assert "scale" not in DIST(Task(), features=2, target="softmax").state_dict()
