"""The U-Net of DIST's comparison: DIST's network and recipe, another target."""

from __future__ import annotations

import torch

from models.base.method import Task
from models.dist import DIST
from models.unet_dist import UNetDIST


def test_it_is_the_network_of_dist_with_another_output() -> None:
    with torch.device("meta"):
        ours, dist = UNetDIST(Task()), DIST(Task())
    shapes = [tuple(p.shape) for p in ours.network[0].parameters()]
    assert shapes == [tuple(p.shape) for p in dist.body.parameters()]
    assert tuple(ours.network[1].weight.shape) == (2, 32, 1, 1)


def test_it_is_trained_by_the_selected_values_of_table_three() -> None:
    method = UNetDIST(Task(), features=2)
    (phase,), (dists,) = method.recipe.phases, DIST.recipe.phases
    (group,) = method.optimizer(list(method.parameters()), phase.lr).param_groups
    assert (group["lr"], group["weight_decay"], phase.batch_size, phase.epochs) == (1e-4, 5e-7, 10, 80)
    assert (phase.schedule, method.recipe.augment) == (dists.schedule, DIST.recipe.augment)
    assert method.codecs["unet-dist-pp"].defaults().p1 == 11.0


def test_every_px_weighs_the_same() -> None:
    method = UNetDIST(Task(), features=2)
    outputs = {"foreground": torch.randn(1, 2, 8, 8)}
    truth = torch.randint(0, 2, (1, 8, 8))
    batch = {"foreground": truth, "weight": torch.rand(1, 8, 8)}
    chosen = outputs["foreground"].log_softmax(dim=1).gather(1, truth[:, None])
    torch.testing.assert_close(method.loss(outputs, batch)["ce"], -chosen.mean())
