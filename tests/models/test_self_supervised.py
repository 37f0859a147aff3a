import itertools

import numpy as np
import pytest
import torch
from skimage import color
from torch import nn

import models.self_supervised as module
from datamodules.drawing.magnification import LEVELS, MagnificationDrawer, Tile, draw_batch, draw_tile, share_out, turn
from datamodules.reading.sample import Sample
from models.base.method import Task
from models.base.stain import TARGET, lab_statistics, lab_to_rgb, rgb_to_lab, transfer_colour
from models.self_supervised import TRANSFORMS, SelfSupervised, dice, roughness, sparse_threshold
from postproc.errors import ConfigError, DataError
from postproc.instances import Instances


class Unlabelled:
    """A sample whose annotation must not be read."""

    def __init__(self, image, magnification=40.0):
        self.image, self.magnification, self.image_id = image, magnification, "unlabelled"

    @property
    def truth(self):
        raise AssertionError("training read the annotation")


class Classifier(nn.Module):
    """Stands in for the ResNet-34, which is too slow here."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, images):
        return self.linear(images.mean((2, 3)))


def tissue(size=200, seed=0):
    """Dark discs on pink."""
    rng = np.random.default_rng(seed)
    image = rng.integers(190, 230, (size, size, 3), np.uint8)
    labels = np.zeros((size, size), np.int32)
    y, x = np.mgrid[:size, :size]
    for number, (cy, cx) in enumerate(rng.uniform(0, size, (size // 10, 2))):
        labels[(x - cx) ** 2 + (y - cy) ** 2 <= 36] = number + 1
    image[labels > 0] = (90, 60, 140)
    labels = np.searchsorted(np.unique(labels), labels).astype(np.int32)
    return Sample(image, Instances(labels.shape, labels=labels), "a", "a", 40.0)


@pytest.fixture
def method(monkeypatch):
    monkeypatch.setattr(module, "scale_classifier", lambda weights: Classifier())
    torch.manual_seed(0)
    return SelfSupervised(Task(), width=4)


def training_batch(method, count=4, crop=48):
    drawer = method.drawer(method.recipe.override(crop=crop), augment=True)
    rng = np.random.default_rng(0)
    return method.collate([drawer(Unlabelled(tissue().image), rng) for _ in range(count)])


# ---- drawing ----


def test_training_never_reads_a_label(method):
    batch = training_batch(method)
    assert set(batch) == {"image", "magnification"}
    assert batch["image"].shape == (4, 3, 48, 48)
    assert batch["image"].dtype == torch.uint8
    assert all(torch.isfinite(value) for value in method.train().losses(batch).values())


def drawn_levels(samples, seed=0, crop=16):
    rng = np.random.default_rng(seed)
    return [int(item["magnification"]) for item in draw_batch([MagnificationDrawer(crop)(s, rng) for s in samples])]


def test_every_batch_is_divided_equally_over_the_magnifications():
    image = np.zeros((64, 64, 3), np.uint8)
    largest = set()
    for seed in range(20):
        counts = np.bincount(drawn_levels([Unlabelled(image)] * 32, seed), minlength=3)
        assert sorted(counts) == [10, 11, 11]  # 32 is no multiple of 3
        largest.add(int(counts.argmin()))
        assert np.bincount(drawn_levels([Unlabelled(image, None)] * 30, seed), minlength=3).tolist() == [10, 10, 10]
    assert largest == {0, 1, 2}  # no magnification is always the one that is short


def test_magnifications_are_bounded_by_the_image():
    image = np.zeros((64, 64, 3), np.uint8)
    for magnification, counts in ((20.0, [16, 16, 0]), (10.0, [32, 0, 0])):
        assert np.bincount(drawn_levels([Unlabelled(image, magnification)] * 32), minlength=3).tolist() == counts
    mixed = [Unlabelled(image, 20.0)] * 16 + [Unlabelled(image, 40.0)] * 14
    levels = drawn_levels(mixed)
    assert np.bincount(levels).tolist() == [10, 10, 10]
    assert 2 not in levels[:16]
    assert sorted(np.bincount(drawn_levels(mixed[:16] + mixed[-2:]), minlength=3)) == [2, 8, 8]
    with pytest.raises(DataError, match=r"unlabelled.*10, 20, 40"):
        drawn_levels([Unlabelled(image, 5.0)])


def test_tiles_of_slides_keep_their_magnification():
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    tiles = [Tile(image, Instances((20, 20)), "a", "a", level) for level in (40.0, 10.0, 20.0, 40.0)]
    assert drawn_levels(tiles) == [2, 0, 1, 2]
    for item in draw_batch([MagnificationDrawer(20)(tile, np.random.default_rng(0)) for tile in tiles]):
        assert item["image"].tobytes() in {turn(image, kind).transpose(2, 0, 1).tobytes() for kind in range(8)}
    with pytest.raises(DataError, match="magnification 30"):
        drawn_levels([Tile(image, Instances((20, 20)), "a", "a", 30.0)])


def test_sharing_out_is_the_best_there_is():
    rng = np.random.default_rng(0)
    for _ in range(200):
        reachable = np.arange(3) < rng.integers(1, 4, rng.integers(1, 7))[:, None]
        levels = share_out(reachable, int(rng.integers(3)))
        assert all(row[level] for row, level in zip(reachable, levels, strict=True))
        every = itertools.product(*[np.flatnonzero(row) for row in reachable])
        best = min(sorted(np.bincount(choice, minlength=3), reverse=True) for choice in every)
        assert sorted(np.bincount(levels, minlength=3), reverse=True) == best


def test_a_batch_depends_on_its_seeds_alone(method):
    batches = [training_batch(method) for _ in range(2)]
    assert torch.equal(batches[0]["image"], batches[1]["image"])
    assert torch.equal(batches[0]["magnification"], batches[1]["magnification"])


@pytest.mark.parametrize("level", LEVELS)
def test_tiles_are_shrunk_by_area(level):
    scale = level / 40
    step = round(1 / scale)
    image = np.repeat(np.random.default_rng(0).integers(0, 256, (160 * step, 160 * step, 1), np.uint8), 3, axis=2)
    tile = draw_tile(image, 160, scale, np.random.default_rng(0))
    mean = image.reshape(160, step, 160, step, 3).mean(axis=(1, 3))
    assert tile.shape == (160, 160, 3)
    assert np.abs(tile - mean).max() <= 0.51


def test_small_images_are_mirrored():
    image = np.random.default_rng(0).integers(0, 256, (100, 120, 3), np.uint8)
    tile = draw_tile(image, 160, 1.0, np.random.default_rng(0))
    np.testing.assert_array_equal(tile[:100, :120], image)
    np.testing.assert_array_equal(tile[100:160, :120], image[:39:-1])
    assert draw_tile(image, 160, 0.25, np.random.default_rng(0)).shape == (160, 160, 3)


def test_turning_gives_the_eight_symmetries():
    image = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    turned = {turn(image, kind).tobytes() for kind in range(8)}
    assert len(turned) == 8
    assert image.tobytes() in turned


# ---- stain ----


def test_colour_space_equals_scikit_image():
    image = np.random.default_rng(0).random((20, 30, 3))
    batch = torch.from_numpy(image.transpose(2, 0, 1)[None]).float()
    lab = rgb_to_lab(batch)
    np.testing.assert_allclose(lab[0].permute(1, 2, 0), color.rgb2lab(image), atol=0.01)
    torch.testing.assert_close(lab_to_rgb(lab), batch, atol=1e-3, rtol=0)


def test_colour_is_brought_to_the_target():
    pale = torch.tensor([65.0, 15.0, -5.0]) + torch.randn(2, 40, 50, 3) * torch.tensor([6.0, 3.0, 2.0])
    images = lab_to_rgb(pale.permute(0, 3, 1, 2))
    moved = lab_statistics(transfer_colour(images, lab_statistics(images)))
    torch.testing.assert_close(moved, torch.tensor([TARGET] * 2), atol=0.5, rtol=0)  # colours outside sRGB are cut
    other = torch.tensor([[60.0, 10.0, -10.0], [8.0, 4.0, 3.0]])
    moved = lab_statistics(transfer_colour(images, lab_statistics(images), other))
    torch.testing.assert_close(moved, other.expand(2, 2, 3), atol=0.5, rtol=0)
    flat = torch.full((1, 3, 8, 8), 0.5)
    assert torch.isfinite(transfer_colour(flat, lab_statistics(flat))).all()


def test_tiles_are_prepared_like_their_image(method):
    whole = torch.from_numpy(tissue().image.transpose(2, 0, 1)[None].copy())
    statistics = method.statistics(whole.float() / 255)
    tile = method.prepare(whole[..., :50, :60], statistics)
    torch.testing.assert_close(tile, method.prepare(whole, statistics)[..., :50, :60])
    method.normalise_stain = False
    plain = method.prepare(whole)
    expected = (whole.float() / 255 - torch.tensor(method.mean)[:, None, None]) / torch.tensor(method.std)[
        :, None, None
    ]
    torch.testing.assert_close(plain, expected)


# ---- network and loss ----


@pytest.mark.parametrize("size", [(31, 45), (64, 64)])
def test_forward_keeps_any_size(method, size):
    method.eval()
    method.tau.fill_(0.25)
    images = torch.randn(2, 3, *size)
    confidence = method(images)["attention"]
    assert confidence.shape == (2, 1, *size)
    with torch.no_grad():
        maps = method.predict_batch(images)
    np.testing.assert_allclose(maps[1]["attention"], confidence[1].detach() - 0.25, atol=1e-6)


def test_context_is_the_exact_reach_of_the_network(method):
    method.eval()
    reach = method.geometry.context
    side = 2 * reach + 21
    images = torch.randn(1, 3, side, side, requires_grad=True)
    method(images)["attention"][0, 0, side // 2, side // 2].backward()
    rows = images.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert side // 2 - rows.min() == reach
    assert rows.max() - side // 2 == reach


def test_tau_is_the_mean_percentile():
    confidence = torch.randn(3, 1, 40, 50)
    expected = np.mean([np.sort(c.ravel())[-141] for c in confidence.numpy()])  # 140 = 7 % of the px lie above
    assert sparse_threshold(confidence, 93).item() == pytest.approx(expected, abs=1e-6)
    attended = (confidence > sparse_threshold(confidence, 93)).float().mean()
    assert attended.item() == pytest.approx(0.07, abs=0.01)


def test_tau_of_inference_follows_training(method):
    first, second = torch.randn(2, 1, 20, 20), torch.randn(2, 1, 20, 20) + 3
    method.train()
    a = method.threshold(first)
    assert method.tau == a
    b = method.threshold(second)
    torch.testing.assert_close(method.tau, 0.9 * a + 0.1 * b)
    kept = method.tau.clone()
    method.eval().threshold(first)
    assert method.tau == kept
    assert "tau" in method.state_dict()


def test_sigmoid_is_compressed_and_biased(method):
    x, tau = torch.tensor([0.0, 0.1, 0.2]), torch.tensor(0.1)
    torch.testing.assert_close(method.sigmoid(x, tau), 1 / (1 + torch.exp(-20 * (x - tau))))


def test_roughness_follows_the_equation():
    attention = torch.rand(2, 1, 5, 7)
    total = sum(
        abs(a[i + 1, j] - a[i, j]) + abs(a[i, j + 1] - a[i, j])
        for a in attention[:, 0].numpy()
        for i in range(4)
        for j in range(6)
    )
    assert roughness(attention).item() == pytest.approx(total / (2 * 4 * 6), rel=1e-5)


@pytest.mark.parametrize("index", range(len(TRANSFORMS)))
def test_equivariance_vanishes_for_an_equivariant_network(method, monkeypatch, index):
    monkeypatch.setattr(module, "TRANSFORMS", TRANSFORMS[index : index + 1])
    batch = training_batch(method)
    skewed = method.train().losses(batch)["equivariance"]
    assert skewed > 1e-4
    method.attention = nn.Conv2d(3, 1, 1)
    assert method.losses(batch)["equivariance"].item() == pytest.approx(0, abs=1e-7)


def test_transforms_are_the_symmetries_of_the_square():
    image = torch.arange(9.0).reshape(1, 1, 3, 3)
    assert len({tuple(t(image).flatten().tolist()) for t in TRANSFORMS} | {tuple(image.flatten().tolist())}) == 7


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {"scale", "smoothness", "equivariance"}),
        ({"smooth": False}, {"scale", "equivariance"}),
        ({"equivariance": False}, {"scale", "smoothness"}),
        ({"sparsity": False}, {"scale", "smoothness", "equivariance"}),
    ],
)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_ablations(monkeypatch, options, names, precision):
    monkeypatch.setattr(module, "scale_classifier", lambda weights: Classifier())
    method = SelfSupervised(Task(), width=4, **options).train()
    with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
        terms = method.losses(training_batch(method))
    assert set(terms) == names
    assert all(torch.isfinite(value) and value.dtype == torch.float32 for value in terms.values())
    assert (method.tau == 0) == (not method.sparsity)
    assert method.compression == (20 if method.sparsity else 1)


def test_the_classifier_teaches_the_attention(method):
    batch = training_batch(method)
    method.train().losses(batch)["scale"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.parameters())
    assert sum(p.grad.abs().sum() for p in method.attention.parameters()) > 0


def test_the_real_networks_train_together():
    torch.manual_seed(0)
    method = SelfSupervised(Task(), width=4).train()
    assert [block.first[0].dilation[0] for block in method.attention if hasattr(block, "first")] == [
        1,
        2,
        3,
        5,
        10,
        20,
    ]
    assert sum(p.numel() for p in method.classifier.parameters()) == 21_284_672 + 3 * 513  # ResNet-34, three classes
    sum(method.losses(training_batch(method, count=2)).values()).backward()
    silent = [n for n, p in method.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent


def test_validation_is_one_minus_dice(method):
    drawer = method.drawer(method.recipe.override(crop=64), augment=False)
    batch = method.collate([drawer(tissue(), np.random.default_rng(seed)) for seed in range(2)])
    assert set(batch) == {"image", "foreground"}
    method.attention = nn.Conv2d(3, 1, 1)
    with torch.no_grad():  # the discs have little green
        method.attention.weight.copy_(torch.tensor([0.0, -1.0, 0.0])[None, :, None, None])
        method.attention.bias.zero_()
        values = method.prepare(batch["image"])[:, 1]
        dark, light = (-values[batch["foreground"] == k] for k in (1, 0))
        method.tau.fill_((dark.min() + light.max()) / 2)
        assert method.eval().losses(batch)["dice"] == 0
        method.tau.fill_(-100)
        mean = batch["foreground"].float().mean()
        assert method.losses(batch)["dice"].item() == pytest.approx(1 - 2 * mean.item() / (1 + mean.item()), abs=1e-5)


def test_dice_of_empty_masks_is_one():
    empty = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    assert dice(empty, torch.zeros(1, 4, 4)) == 1
    assert dice(empty, torch.ones(1, 4, 4)) == 0


def test_recipe_and_optimiser_of_the_paper(method):
    recipe, phase = method.recipe, method.recipe.phases[0]
    assert (recipe.crop, phase.batch_size, phase.lr) == (160, 32, 2e-4)
    assert 19 * recipe.crops_per_image // 32 == 100
    group = method.optimizer(list(method.parameters()), 2e-4).param_groups[0]
    assert (group["betas"][0], group["weight_decay"]) == (0.9, 1e-4)


def test_weights_of_the_classifier_from_a_file(tmp_path):
    network = module.scale_classifier("none")
    state = {n: torch.full_like(v, 0.5) for n, v in network.state_dict().items() if not n.startswith("fc.")}
    state |= {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    torch.save(state, tmp_path / "resnet34.pth")
    loaded = module.scale_classifier(str(tmp_path / "resnet34.pth"))
    assert (loaded.layer4[2].conv2.weight == 0.5).all()
    assert loaded.fc.weight.shape == (3, 512)
    with pytest.raises(ConfigError, match="no such file"):
        module.scale_classifier(str(tmp_path / "missing.pth"))
