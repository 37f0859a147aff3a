from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from models.base.method import Batch, Task
from models.micronet import OUTPUTS, SIDE, MicroNet, MicroNetwork
from postproc.errors import ConfigError
from postproc.instances import Instances

TYPES = ("inflammatory", "epithelial")


def build(types: tuple[str, ...] = (), features: int = 2) -> MicroNet:
    torch.manual_seed(0)
    return MicroNet(Task(types), classify=bool(types), features=features, dropout=0.0)


def batch_of(method: MicroNet, gap: int = 2) -> Batch:
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    labels = np.zeros((SIDE, SIDE), np.int32)
    labels[(abs(y) < 10) & (x >= -20) & (x < -gap)] = 1
    labels[(abs(y) < 10) & (x >= 0) & (x < 20)] = 2
    image = np.broadcast_to(np.where(labels > 0, 60, 190), (3, SIDE, SIDE)).astype(np.uint8)
    truth = Instances(labels.shape, labels=labels, types=np.array([1, 2]))
    return method.collate([method.codec.encode(truth) | {"image": image.copy()}])


def test_parameters_are_those_of_the_published_layers() -> None:
    def layer(before: int, after: int, side: int = 3) -> int:
        return before * after * side**2 + after

    def down(before: int, width: int) -> int:
        normalised = 2 * 2 * width
        return layer(before, width) + layer(3, width) + 2 * layer(width, width) + normalised

    def up(before: int, skip: int, width: int) -> int:
        convolutions = 2 * layer(width, width) + layer(width, width, 5) + layer(skip, width, 5)
        return layer(before, width, 2) + convolutions + layer(2 * width, width, 1)

    expected = down(3, 64) + down(128, 128) + down(256, 256) + down(512, 512)
    expected += layer(1024, 2048) + layer(2048, 2048)
    expected += up(2048, 1024, 1024) + up(1024, 512, 512) + up(512, 256, 256) + up(256, 128, 128)
    for width, factor in ((64, 2), (128, 4), (256, 8)):
        expected += layer(2 * width, width, factor) + layer(width, width) + layer(width, 2)
    expected += layer(64 + 128 + 256, 2)
    with torch.device("meta"):
        assert sum(p.numel() for p in MicroNetwork().parameters()) == expected


def test_sizes_of_the_levels() -> None:
    with torch.device("meta"):
        network = MicroNetwork(5)
        sides: list[int] = []
        for module in (*network.down, network.bottom, *network.up, *network.enlarge):
            module.register_forward_hook(lambda _module, _inputs, output: sides.append(output.shape[-1]))
        outputs = network(torch.empty(1, 3, SIDE, SIDE))
    assert sides == [124, 60, 28, 12, 8, 16, 32, 64, 128, 254, 254, 254]
    assert {name: tuple(x.shape) for name, x in outputs.items()} == dict.fromkeys(OUTPUTS, (1, 5, SIDE, SIDE))


def test_activations_are_tanh_with_dropout_before_the_outputs() -> None:
    network = MicroNetwork(features=2)
    kinds = [type(module) for module in network.modules()]
    assert nn.ReLU not in kinds
    assert kinds.count(nn.Tanh) == 4 * 4 + 2 + 4 * 3 + 3
    assert kinds.count(nn.BatchNorm2d) == 2 * 4
    assert all(isinstance(head[0], nn.Dropout2d) and head[0].p == 0.5 for head in network.heads)


def test_larger_images_are_put_together_from_windows() -> None:
    method = build().eval()
    images = torch.rand(1, 3, 260, 300, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        main = method(images)["main"]
        first = method.network(images[..., :SIDE, :SIDE])["main"]
        last = method.network(images[..., -SIDE:, -SIDE:])["main"]
    assert main.shape == (1, 2, 260, 300)
    torch.testing.assert_close(main[..., :130, :150], first[..., :130, :150])
    torch.testing.assert_close(main[..., 130:, 150:], last[..., 130 - 260 :, 150 - 300 :])
    assert method.geometry.valid_input(100) == SIDE
    assert method.geometry.output(300) == 300
    with pytest.raises(ConfigError, match="crop=252"):
        method.train()(images)


def test_outputs_per_type_where_there_are_types() -> None:
    assert build(TYPES).codec.types == 2
    assert build(TYPES).network.heads[0][1].out_channels == 3
    assert MicroNet(Task(TYPES), classify=False, features=2).codec.types == 0
    with pytest.raises(ConfigError, match="classify=false"):
        MicroNet(Task(), classify=True, features=2)
    method = build(TYPES)
    batch = batch_of(method)
    assert set(batch["foreground"].unique().tolist()) == {0, 1, 2}
    terms = method.losses(batch)
    assert list(terms) == list(OUTPUTS)
    assert all(torch.isfinite(value) for value in terms.values())


def test_auxiliary_losses_weigh_one_over_the_epoch() -> None:
    method = build()
    weights = []
    for epoch in (0, 1, 9, 249):
        method.progress = (epoch + 0.5) / 250
        weights.append(method.auxiliary_weight())
    assert weights == pytest.approx([1, 1 / 2, 1 / 10, 1 / 250])
    batch = batch_of(method)
    outputs = {name: torch.zeros(1, 2, SIDE, SIDE) for name in OUTPUTS}
    terms = method.loss(outputs, batch)
    mean = float(np.log(2) * batch["weight"].mean())
    assert terms["main"].item() == pytest.approx(mean, rel=1e-5)
    assert terms["auxiliary_2"].item() == pytest.approx(mean / 250, rel=1e-5)


def test_px_between_nuclei_weigh_more() -> None:
    method = build()
    batch = batch_of(method)
    right = 4.0 * torch.nn.functional.one_hot(batch["foreground"], 2).movedim(-1, 1).float()

    def cost(y: int, x: int) -> float:
        wrong = right.clone()
        wrong[0, :, y, x] = wrong[0, :, y, x].flip(0)
        return sum(method.loss(dict.fromkeys(OUTPUTS, wrong), batch).values()).item()

    base = sum(method.loss(dict.fromkeys(OUTPUTS, right), batch).values()).item()
    between, away = cost(SIDE // 2, SIDE // 2 - 1) - base, cost(5, 5) - base
    assert between > 2 * away > 0


@pytest.mark.slow
def test_one_crop_is_learnt() -> None:
    method = build(features=2).train()
    batch = batch_of(method)
    method.progress = 1.0
    optimizer = method.optimizer(list(method.parameters()), 5e-3)
    losses = []
    for _ in range(12):
        loss = torch.stack(list(method.losses(batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_probabilities_add_up() -> None:
    maps = build(TYPES).activate({"main": torch.randn(1, 3, 4, 4)})
    assert list(maps) == ["foreground"]
    torch.testing.assert_close(maps["foreground"].sum(dim=1), torch.ones(1, 4, 4))
