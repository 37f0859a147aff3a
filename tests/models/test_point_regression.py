import numpy as np
import pytest
import torch

from models.base.method import Task
from models.fcrn import FCRNA, FCRNB
from models.frcn import FRCN, ScaledResidual
from models.kinet import AMPLITUDE
from postproc.codecs.points import PointsParams
from postproc.instances import Instances

TYPES = Task(("positive", "negative", "other"))
ALL = [FRCN, FCRNA, FCRNB]


def small(kind, task=TYPES, features=8, **options):
    torch.manual_seed(0)
    return kind(task, features=features, **options)


def crop(seed, size=64, points=True):
    """A crop with a coloured disc for each type at the annotated centres."""
    rng = np.random.default_rng(seed)
    centres = np.array([[16, 16], [46, 18], [18, 46], [45, 45]], np.float32)
    image = rng.integers(200, 220, (size, size, 3), np.uint8)
    y, x = np.mgrid[:size, :size]
    kinds = np.arange(4) % 3 + 1
    for (cx, cy), kind in zip(centres, kinds, strict=True):
        image[(x - cx) ** 2 + (y - cy) ** 2 <= 25, kind - 1] = 40
    known = {"points": centres, "types": kinds} if points else {"regions": np.ones((size, size), np.uint8)}
    return image, Instances((size, size), **known)


def batch_of(method, *crops):
    return method.collate([method.codec.encode(t) | {"image": i.transpose(2, 0, 1).copy()} for i, t in crops])


def test_layers_of_fcrn():
    """Kernels and channels of figure 3 of the paper, without biases; each normalisation has two values a channel."""
    convolutions = {
        FCRNA: [(3, 32, 3), (32, 64, 3), (64, 128, 3), (128, 512, 3), (512, 128, 3), (128, 64, 3), (64, 32, 3)],
        FCRNB: [(3, 32, 3), (32, 64, 3), (64, 128, 3), (128, 256, 3), (256, 256, 5), (256, 256, 5)],
    }
    for kind, layers in convolutions.items():
        with torch.device("meta"):
            method = kind(Task())
        head = layers[-1][1] * (1 if kind is FCRNA else 25)
        expected = sum(a * b * k * k + 2 * b for a, b, k in layers) + head
        assert sum(p.numel() for p in method.parameters()) == expected
        found = [m for m in method.modules() if isinstance(m, torch.nn.Conv2d)]
        assert [(m.in_channels, m.out_channels, m.kernel_size[0]) for m in found[:-1]] == layers
    assert FCRNA(Task(), features=2).geometry.multiple == 8
    assert FCRNB(Task(), features=2).geometry.multiple == 4


def test_layers_of_frcn():
    with torch.device("meta"):
        method = FRCN(TYPES)
    network = method.network
    down = [m.units[0][0].num_features for block in network.down for m in block if isinstance(m, ScaledResidual)]
    assert down == [32, 64, 64, 128, 256, 256]
    up = [m.units[0][0].num_features for block in network.up for m in block if isinstance(m, ScaledResidual)]
    assert up == [256, 128, 64, 32]
    assert sum(isinstance(m, torch.nn.MaxPool2d) for m in network.modules()) == 4
    # two convolutions with biases and two normalisations in each residual
    residuals = sum(2 * (9 * c * c + c) + 4 * c for c in down + up)
    pairs = [(3, 32), (32, 64), (64, 128), (128, 256), (256, 256), (256, 128), (128, 64), (64, 32), (32, 3)]
    assert sum(p.numel() for p in method.parameters()) == residuals + sum(a * b + b + 2 * a for a, b in pairs)


@pytest.mark.parametrize("kind", ALL)
def test_output_is_as_large_as_the_input(kind):
    method = small(kind, features=2).eval()
    assert method.geometry.valid_input(method.recipe.crop) == method.recipe.crop
    for wanted in (32, 41, 70):
        height, width = method.geometry.valid_input(wanted), method.geometry.valid_input(wanted + 17)
        with torch.no_grad():
            maps = method.predict_batch(torch.randn(2, 3, height, width))
        assert next(iter(maps[0].values())).shape == (3, height, width)


@pytest.mark.parametrize("kind", ALL)
def test_output_does_not_depend_on_what_lies_beyond_the_context(kind):
    method = small(kind, task=Task(), features=4).eval()
    context, side = method.geometry.context, 160
    images = torch.randn(1, 3, side + 64, side + 64)
    with torch.no_grad():
        whole = next(iter(method(images).values()))[..., :side, :side]
        part = next(iter(method(images[..., :side, :side]).values()))
    difference = (whole - part).abs()[..., : side - context, : side - context].max()
    assert difference <= 0.01 * whole.std()


@pytest.mark.parametrize("kind", ALL)
def test_images_without_points_do_not_teach(kind):
    method = small(kind, features=2).eval()
    batch = batch_of(method, crop(0), crop(1, points=False))
    outputs = {name: value.detach() for name, value in method(method.prepare(batch["image"])).items()}
    first = [{name: value[:1] for name, value in one.items()} for one in (outputs, batch)]
    both, one = method.loss(outputs, batch)["nuclei"], method.loss(*first)["nuclei"]
    assert one > 0
    assert both.item() == pytest.approx(one.item() / 2, rel=1e-5)


@pytest.mark.parametrize("kind", ALL)
def test_the_target_itself_costs_nothing(kind):
    method = small(kind, features=2)
    batch = batch_of(method, crop(0))
    name = "proximity" if kind is FRCN else "density"
    scale = AMPLITUDE if kind is FRCN else 100 / (2 * np.pi * 4)
    exact = {name: scale * batch[name]}
    assert method.loss(exact, batch)["nuclei"].item() == pytest.approx(0, abs=1e-9)
    torch.testing.assert_close(method.activate(exact)[name], batch[name])
    off = {name: exact[name] + 1}
    if kind is not FRCN:
        assert method.loss(off, batch)["nuclei"].item() == pytest.approx(1, rel=1e-4)
    assert method.loss(off, batch)["nuclei"] > 0


@pytest.mark.parametrize("kind", ALL)
def test_each_image_is_standardised(kind):
    images = torch.randint(0, 256, (2, 3, 30, 20), dtype=torch.uint8)
    images[1, 2] = 77  # a channel without contrast
    prepared = small(kind, features=2).prepare(images)
    torch.testing.assert_close(prepared.mean((2, 3)), torch.zeros(2, 3), atol=1e-4, rtol=0)
    torch.testing.assert_close(prepared[0].std((1, 2), correction=0), torch.ones(3), atol=1e-3, rtol=0)
    assert torch.isfinite(prepared).all()


@pytest.mark.parametrize("kind", ALL)
def test_the_recipe_of_the_comparison(kind):
    method = small(kind, features=2)
    optimiser = method.optimizer(list(method.parameters()), 0.01)
    group = optimiser.param_groups[0]
    assert isinstance(optimiser, torch.optim.SGD)
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 1e-6)
    phase = method.recipe.phases[0]
    assert (method.recipe.crop, phase.batch_size, phase.lr, phase.steps) == (200, 4, 0.01, 100_000)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.slow
def test_it_learns_a_tile_and_finds_its_nuclei(kind):
    options = {FRCN: {"dropout": 0.0}, FCRNB: {"features": 4}}
    method = small(kind, **options.get(kind, {})).train()
    samples = [crop(seed) for seed in (0, 1)]
    batch = batch_of(method, *samples)
    optimiser = torch.optim.Adam(method.parameters(), 0.003)
    first = None
    for _ in range(100):
        loss = sum(method.losses(batch).values())
        first = first or loss.item()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.2 * first
    with torch.no_grad():
        maps = method.predict_batch(method.prepare(batch["image"]))
    for (_, truth), found in zip(samples, maps, strict=True):
        nuclei = method.codec.decode(found, PointsParams())
        assert nuclei.count == truth.count
        distance = np.linalg.norm(truth.points[:, None] - nuclei.points[None], axis=2)
        assert distance.min(axis=1).max() <= 3
        np.testing.assert_array_equal(nuclei.types[distance.argmin(axis=1)], truth.types)
