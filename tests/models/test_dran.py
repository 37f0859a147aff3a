from __future__ import annotations

import numpy as np
import pytest
import timm
import torch

from models.base.memory_format import centre_crop
from models.base.method import Batch, Task
from models.base.weights import rename
from models.dran import DRAN, PRETRAINED, boundary_weights
from models.networks.dran import SCALES, DecoderUnit, DRANetwork, resized, restored
from models.networks.hovernet import TIMM_DROP, TIMM_NAME, TIMM_RULES
from postproc.errors import ConfigError
from postproc.instances import Instances


def build(features: int = 2, *, multiscale: bool = False) -> DRAN:
    torch.manual_seed(0)
    return DRAN(Task(), features=features, multiscale=multiscale, weights="none")


def batch_of(method: DRAN, size: int) -> Batch:
    y, x = np.mgrid[:size, :size] - size // 2
    labels = np.zeros((size, size), np.int32)
    labels[y**2 + (x + 8) ** 2 <= 49] = 1
    labels[y**2 + (x - 7) ** 2 <= 49] = 2
    noise = np.random.default_rng(0).integers(0, 40, (3, size, size))
    image = (np.where(labels > 0, 60, 190) + noise).astype(np.uint8)
    return method.collate([method.codec.encode(Instances((size, size), labels=labels)) | {"image": image}])


def test_sizes_are_the_papers() -> None:
    with torch.device("meta"):
        single = DRANetwork(multiscale=False)
        found = single(torch.empty(1, 3, 102, 102))
        assert {name: tuple(x.shape) for name, x in found.items()} == {
            "object": (1, 2, 54, 54),
            "contour": (1, 2, 54, 54),
        }
        levels = single.encoders["object"](torch.empty(1, 3, 102, 102))
        assert [tuple(level.shape[1:]) for level in levels] == [
            (256, 96, 96),
            (512, 48, 48),
            (1024, 24, 24),
            (2048, 12, 12),
        ]
        several = DRANetwork()
        assert several.aggregate[0].weight.shape == (256, 128, 5, 5)
        assert set(several(torch.empty(1, 3, 206, 206))) == {
            "object",
            "contour",
            *(f"object_{scale}" for scale in SCALES),
        }


@pytest.mark.parametrize("multiscale", [False, True])
def test_geometry_is_that_of_the_network(multiscale: bool) -> None:
    with torch.device("meta"):
        method = build(multiscale=multiscale)
        least = method.geometry.valid_input(1)
        for size in (least, method.geometry.valid_input(least + 1)):
            expected = method.geometry.output(size)
            assert expected > 0
            assert all(x.shape[-2:] == (expected, expected) for x in method(torch.empty(1, 3, size, size)).values())


def test_scales_meet_at_the_same_px() -> None:
    """Where networks only crop, the three scales give the centre of the image; both resizings keep a ramp."""
    y, x = torch.meshgrid(torch.arange(126.0), torch.arange(142.0), indexing="ij")
    images = torch.stack([y, x])[None]
    for scale in SCALES:
        seen = resized(images, scale)
        assert all(side % 8 == 6 for side in seen.shape[-2:])
        back = restored(seen[..., 24:-24, 24:-24], scale)
        assert all(after >= before - 98 for before, after in zip(images.shape[-2:], back.shape[-2:], strict=True))
        size = torch.Size((126 - 102, 142 - 102))  # at the border interpolation has one neighbour alone
        torch.testing.assert_close(centre_crop(back, size), centre_crop(images, size), msg=f"scale {scale}")


def test_paths_do_not_mix() -> None:
    unit = DecoderUnit(16, 4).eval()
    x = torch.randn(1, 16, 9, 9, requires_grad=True)
    result = unit(x)
    assert result.shape == (1, 8, 3, 3)
    (gradient,) = torch.autograd.grad(result[:, :2].sum(), x)
    assert gradient[:, :4].abs().max() > 0
    assert (gradient[:, 4:] == 0).all()


def test_networks_of_nuclei_and_boundaries_share_nothing() -> None:
    method = build(multiscale=True)
    outputs = method(torch.rand(2, 3, 110, 110))
    parameters = dict(method.named_parameters())
    reached = {}
    for head in ("object", "contour"):
        gradients = torch.autograd.grad(
            outputs[head].sum(), list(parameters.values()), allow_unused=True, retain_graph=True
        )
        reached[head] = {name for name, value in zip(parameters, gradients, strict=True) if value is not None}
    assert not reached["object"] & reached["contour"]
    alone = {name for name in parameters if ".classifiers." in name}
    assert reached["object"] | reached["contour"] | alone == set(parameters)


def test_boundary_weights() -> None:
    target = torch.tensor([[[0, 0, 1, 1]]])
    logits = torch.tensor([[[[1.0, 0, 0, 1]], [[0.0, 1, 1, 0]]]])
    assert boundary_weights(logits, target).tolist() == [[[1, 4, 5, 6]]]


def test_loss_has_a_term_for_each_scale() -> None:
    method = build(multiscale=True)
    batch = batch_of(method, 110)
    terms = method.losses(batch)
    assert set(terms) == {"object", "contour", *(f"object_{scale}" for scale in SCALES)}
    assert all(torch.isfinite(term) for term in terms.values())
    outputs = method(method.prepare(batch["image"]))
    maps = method.activate(outputs)
    assert list(maps) == ["object", "contour"]
    torch.testing.assert_close(maps["contour"][:, 0], outputs["contour"].softmax(dim=1)[:, 1])


def test_recipe_follows_the_weights() -> None:
    assert build().recipe.phases[0].frozen == ()
    assert [phase.epochs for phase in PRETRAINED.phases] == [35, 40, 45]
    second = PRETRAINED.phases[1]
    rates = [second.lr * second.schedule(epoch / 40) for epoch in (0, 1, 15, 25, 35)]
    assert rates == pytest.approx([1e-4, 5e-5, 1e-5, 7.5e-6, 5e-6])
    (phase,) = build().recipe.phases
    assert phase.total_steps(10) == 1200
    with pytest.raises(ConfigError, match="weights=none"):
        DRAN(Task(), features=4)
    with pytest.raises(ConfigError, match="even"):
        DRAN(Task(), features=3, weights="none")


def test_encoders_are_frozen_in_the_first_phase() -> None:
    method = build()
    method.begin(PRETRAINED.phases[0])
    optimizer = method.configure_optimizers()
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in method.named_parameters():
        assert (id(parameter) in trained) == (not name.startswith("network.encoders."))


def test_names_of_timm_fit_both_encoders() -> None:
    with torch.device("meta"):
        state = rename(timm.create_model(TIMM_NAME, pretrained=False).state_dict(), TIMM_RULES, TIMM_DROP)
        network = DRANetwork(multiscale=False)
    given = {name.removeprefix("encoder."): value.shape for name, value in state.items()}
    for encoder in network.encoders.values():
        own = {
            name: value.shape for name, value in encoder.state_dict().items() if not name.endswith("batches_tracked")
        }
        assert {name: shape for name, shape in given.items() if not name.endswith("batches_tracked")} == own


@pytest.mark.slow
def test_two_nuclei_are_learnt_and_parted() -> None:
    method = build(4).train()
    batch = batch_of(method, 94)
    optimizer = method.optimizer(list(method.parameters()), 3e-3)
    for _ in range(35):
        loss = torch.stack(list(method.losses(batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():  # batch statistics: 35 steps are too few for the running ones
        maps = method.predict_batch(method.prepare(batch["image"]))[0]
    assert maps["object"].shape == (1, 46, 46)
    assert method.codec.decode(maps, method.codec.defaults()).count == 2
