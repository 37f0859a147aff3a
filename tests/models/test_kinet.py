import numpy as np
import pytest
import torch

from models.base.method import Task
from models.kinet import AMPLITUDE, KiNet, correlations, region_error, weighted_errors
from models.networks.kinet import match
from postproc.codecs.points import IGNORED, PointsParams
from postproc.errors import ConfigError
from postproc.instances import Instances

TYPES = Task(("positive", "negative", "other"))


def small(task=TYPES, **options):
    torch.manual_seed(0)
    return KiNet(task, width=4, **options)


def crop(seed, size=48, points=True, regions=True, types=3):
    """A crop with dark discs at the annotated centres."""
    rng = np.random.default_rng(seed)
    centres = np.array([[12, 12], [36, 14], [14, 36], [35, 35]], np.float32)
    image = rng.integers(200, 220, (size, size, 3), np.uint8)
    y, x = np.mgrid[:size, :size]
    kinds = np.arange(4) % types + 1
    for (cx, cy), kind in zip(centres, kinds, strict=True):
        image[(x - cx) ** 2 + (y - cy) ** 2 <= 25, kind - 1] = 40
    weak = np.zeros((size, size), np.uint8)
    weak[:10], weak[-10:] = 1, 2
    truth = Instances(
        (size, size),
        points=centres if points else None,
        types=kinds if points else None,
        regions=weak if regions else None,
    )
    return image, truth


def batch_of(method, *crops):
    items = []
    for image, truth in crops:
        items.append(method.codec.encode(truth) | {"image": image.transpose(2, 0, 1).copy()})
    return method.collate(items)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (50, 81)])
@pytest.mark.parametrize("roi", [True, False])
def test_forward_keeps_any_size(size, roi):
    method = small(roi=roi).eval()
    with torch.no_grad():
        outputs = method(torch.randn(2, 3, *size))
        maps = method.predict_batch(torch.randn(2, 3, *size))
    assert outputs["proximity"].shape == (2, 3, *size)
    assert set(outputs) == ({"proximity", "regions"} if roi else {"proximity"})
    if roi:
        assert outputs["regions"].shape == (2, 2, *size)
    assert method.geometry.output(size[0]) == size[0]
    assert maps[1]["proximity"].shape == (3, *size)
    assert set(maps[0]) == {"proximity"}


def test_widths_of_the_paper():
    method = KiNet(TYPES)
    strided = [m.out_channels for m in method.network.contraction.modules() if getattr(m, "stride", 0) == (2, 2)]
    assert strided == [64, 128, 256, 256]
    dropout = [m.p for m in method.modules() if isinstance(m, torch.nn.Dropout2d) and m.p]
    assert dropout == [0.5, 0.5]
    assert len(method.network.regions.ups) == 5
    assert not any(isinstance(m, torch.nn.ReLU) for m in method.modules())


@pytest.mark.parametrize("size", [(5, 8), (9, 6), (7, 7), (4, 4)])
def test_match_pads_with_zeros_or_crops(size):
    features = torch.ones(1, 2, 7, 7)
    matched = match(features, torch.Size(size))
    assert matched.shape[-2:] == size
    assert matched.sum() == 2 * min(size[0], 7) * min(size[1], 7)


def test_output_does_not_depend_on_what_lies_beyond_the_context():
    method = KiNet(Task(), roi=False, width=8).eval()
    context = method.geometry.context
    side = 192
    images = torch.randn(1, 3, side + 64, side + 64)
    with torch.no_grad():
        whole = method(images)["proximity"][..., :side, :side]
        part = method(images[..., :side, :side])["proximity"]
    difference = (whole - part).abs()[..., : side - context, : side - context].max()
    assert difference < 0.01 * whole.std()


def test_every_parameter_gets_a_gradient():
    method = small().train()
    terms = method.losses(batch_of(method, crop(0), crop(1)))
    sum(terms.values()).backward()
    silent = [n for n, p in method.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert not silent
    zero = [n for n, p in method.named_parameters() if not p.grad.abs().sum() > 0]
    # whole channels may be dropped in the two narrow blocks that have dropout
    assert all(n.startswith("network.contraction") for n in zero)


@pytest.mark.parametrize(("points", "regions"), [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_loss_is_finite_whatever_is_annotated(points, regions, precision):
    method = small().train()
    batch = batch_of(method, crop(0, points=points, regions=regions), crop(1, points=points, regions=regions))
    with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
        terms = method.losses(batch)
    assert all(torch.isfinite(value) and value.dtype == torch.float32 for value in terms.values())
    assert (terms["nuclei"] > 0) == points
    assert (terms["regions"] > 0) == regions
    sum(terms.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)


def test_images_without_points_do_not_teach_nuclei():
    method = small().eval()
    batch = batch_of(method, crop(0), crop(1, points=False))
    outputs = {name: value.detach() for name, value in method(method.prepare(batch["image"])).items()}
    alone = {name: value[:1] for name, value in outputs.items()}
    first = {name: value[:1] for name, value in batch.items()}
    both, one = (method.loss(o, b)["nuclei"] for o, b in ((outputs, batch), (alone, first)))
    assert both == pytest.approx(one.item() / 2, rel=1e-5)  # averaged over the images of the batch (equation 5)


def test_a_dataset_without_types_gives_one_map():
    method = small(Task(), roi=False)
    terms = method.losses(batch_of(method, crop(0), crop(1)))
    assert set(terms) == {"nuclei"}
    assert torch.isfinite(terms["nuclei"])


def test_weighted_errors_follow_the_equation():
    rng = torch.Generator().manual_seed(0)
    proximity = torch.rand(2, 3, 4, 5, generator=rng)
    maps = torch.rand(2, 3, 4, 5, generator=rng)
    found = weighted_errors(maps, proximity, 5.0)
    for i in range(2):
        total = 0.0
        for s in range(3):
            mean = proximity[i, s].mean()
            for y, p in zip(proximity[i, s].flatten(), maps[i, s].flatten(), strict=True):
                total += float((y + 5 * mean) * (p - AMPLITUDE * y) ** 2)
        assert found[i].item() == pytest.approx(total / 60, rel=1e-4)


def test_correlation_is_the_dot_product_of_each_pair():
    maps = torch.rand(2, 3, 4, 5)
    expected = [sum(float((m[s] * m[t]).sum()) for s in range(3) for t in range(s + 1, 3)) for m in maps]
    np.testing.assert_allclose(correlations(maps), expected, rtol=1e-4)
    assert correlations(-maps).tolist() == [0, 0]


def test_correlation_counts_in_training_after_its_start(monkeypatch):
    method = small(roi=False).train()
    batch = batch_of(method, crop(0), crop(1))
    outputs = method(method.prepare(batch["image"]))
    monkeypatch.setattr(KiNet, "global_step", 9_999)
    assert set(method.loss(outputs, batch)) == {"nuclei"}
    monkeypatch.setattr(KiNet, "global_step", 10_000)
    terms = method.loss(outputs, batch)
    expected = 25 * 1e-6 * correlations(outputs["proximity"]).mean()
    assert terms["correlation"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert set(method.eval().loss(outputs, batch)) == {"nuclei"}


def test_regions_are_averaged_over_annotated_pixels():
    logits = torch.randn(1, 2, 2, 2)
    regions = torch.tensor([[[0, IGNORED], [1, IGNORED]]])
    chance = logits.log_softmax(1)
    expected = -(chance[0, 0, 0, 0] + chance[0, 1, 1, 0]) / 2
    assert region_error(logits, regions).item() == pytest.approx(expected.item(), rel=1e-5)
    assert region_error(logits, torch.full((1, 2, 2), IGNORED)) == 0


def test_each_image_is_standardised():
    method = small()
    images = torch.randint(0, 256, (2, 3, 30, 20), dtype=torch.uint8)
    images[1, 2] = 77  # a channel without contrast
    prepared = method.prepare(images)
    torch.testing.assert_close(prepared.mean((2, 3)), torch.zeros(2, 3), atol=1e-4, rtol=0)
    torch.testing.assert_close(prepared[0].std((1, 2), correction=0), torch.ones(3), atol=1e-3, rtol=0)
    assert torch.isfinite(prepared).all()


def test_stages_train_one_branch_each():
    method = small(stagewise=True)
    assert [phase.steps for phase in method.recipe.phases] == [50_000, 50_000]
    for phase, term, branch in zip(method.recipe.phases, ("regions", "nuclei"), ("nuclei", "regions"), strict=True):
        method.begin(phase)
        method.configure_optimizers()
        terms = method.train().losses(batch_of(method, crop(0), crop(1)))
        assert set(terms) == {term}
        assert not any(p.requires_grad for p in getattr(method.network, branch).parameters())
    with pytest.raises(ConfigError, match="roi"):
        small(stagewise=True, roi=False)


def test_the_recipe_of_the_paper():
    method = small()
    optimiser = method.optimizer(list(method.parameters()), 0.01)
    assert isinstance(optimiser, torch.optim.SGD)
    group = optimiser.param_groups[0]
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 1e-6)
    phase = method.recipe.phases[0]
    assert (method.recipe.crop, phase.batch_size, phase.lr, phase.steps) == (200, 4, 0.01, 100_000)


@pytest.mark.slow
def test_it_learns_a_tile_and_finds_its_nuclei():
    method = small(roi=False).train()
    for module in method.modules():
        if isinstance(module, torch.nn.Dropout2d):
            module.p = 0.0
    samples = [crop(seed) for seed in (0, 1)]
    batch = batch_of(method, *samples)
    optimiser = method.optimizer(list(method.parameters()), 0.01)
    first = None
    for _ in range(70):
        loss = sum(method.losses(batch).values())
        first = first or loss.item()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1 * first
    with torch.no_grad():
        maps = method.predict_batch(method.prepare(batch["image"]))
    for (_, truth), found in zip(samples, maps, strict=True):
        nuclei = method.codec.decode(found, PointsParams())
        assert nuclei.count == truth.count
        distance = np.linalg.norm(truth.points[:, None] - nuclei.points[None], axis=2)
        assert distance.min(axis=1).max() <= 2
        np.testing.assert_array_equal(nuclei.types[distance.argmin(axis=1)], truth.types)
