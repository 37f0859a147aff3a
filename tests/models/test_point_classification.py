import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.base.method import Task
from models.fcn8_points import FCN8Points
from models.sfcn_opi import SFCNOPI, DetectionBranch, ResidualUnit, type_error
from models.unet_points import UNetPoints
from postproc.codecs.points import IGNORED, PointsParams
from postproc.instances import Instances

TYPES = Task(("positive", "negative", "other"))
ALL = [SFCNOPI, FCN8Points, UNetPoints]


def small(kind, task=TYPES, **options):
    torch.manual_seed(0)
    return kind(task, **(dict(kind.small) | options))


def crop(seed, size=64, points=True):
    """A crop with a coloured disc for each type at the annotated centres."""
    rng = np.random.default_rng(seed)
    centres = np.array([[16, 16], [46, 18], [18, 46], [45, 45]], np.float32)
    image = rng.integers(200, 220, (size, size, 3), np.uint8)
    y, x = np.mgrid[:size, :size]
    kinds = np.arange(4) % 3 + 1
    for (cx, cy), kind in zip(centres, kinds, strict=True):
        image[(x - cx) ** 2 + (y - cy) ** 2 <= 64, kind - 1] = 40
    known = {"points": centres, "types": kinds} if points else {"regions": np.ones((size, size), np.uint8)}
    return image, Instances((size, size), **known)


def batch_of(method, *crops):
    return method.collate([method.codec.encode(t) | {"image": i.transpose(2, 0, 1).copy()} for i, t in crops])


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("task", [Task(), TYPES], ids=["no-types", "types"])
def test_probabilities_cover_the_output(kind, task):
    method = small(kind, task).eval()
    height, width = method.geometry.valid_input(192), method.geometry.valid_input(230)
    with torch.no_grad():
        found = method.predict_batch(torch.randn(1, 3, height, width))[0]["probability"]
    assert found.shape == (max(1, len(task.types)), method.geometry.output(height), method.geometry.output(width))
    assert found.min() >= 0
    assert found.sum(axis=0).max() <= 1 + 1e-5
    assert method.geometry.valid_input(method.recipe.crop) == method.recipe.crop


def test_background_is_the_rest_of_the_classes():
    method = small(FCN8Points)
    logits = torch.randn(2, 4, 5, 6)
    probability = method.activate({"classes": logits})["probability"]
    torch.testing.assert_close(1 - probability.sum(1), logits.softmax(1)[:, 0])


@pytest.mark.parametrize("kind", [FCN8Points, UNetPoints])
def test_cross_entropy_leaves_out_what_is_not_annotated(kind):
    method = small(kind)
    logits = torch.randn(1, 4, 2, 2)
    classes = torch.tensor([[[0, 2], [3, IGNORED]]])
    chance = logits.log_softmax(1)
    expected = -(chance[0, 0, 0, 0] + chance[0, 2, 0, 1] + chance[0, 3, 1, 0]) / 4
    assert method.loss({"classes": logits}, {"classes": classes})["ce"].item() == pytest.approx(expected.item())


def test_stages_of_sfcn():
    """A convolution, three stages of nine units for all, one of nine for the types, at strides 1, 2, 4 and 4."""
    with torch.device("meta"):
        method = SFCNOPI(TYPES)
    network = method.network
    units = [[m for m in part.modules() if isinstance(m, ResidualUnit)] for part in network.shared]
    assert [len(part) for part in units] == [18, 9]
    assert sum(isinstance(m, ResidualUnit) for m in network.classification.modules()) == 9
    assert [u.units[0].stride[0] for part in units for u in part if u.units[0].stride[0] > 1] == [2, 2]
    widths = [u.units[3].out_channels for part in units for u in part]
    assert widths == [32] * 9 + [64] * 9 + [128] * 9
    same = sum(9 * 2 * 9 * c * c for c in (32, 64, 128, 128))
    # the first unit of the second and third stage comes from half the channels, and has a shortcut
    narrower = sum(9 * c * c // 2 - c * c // 2 for c in (64, 128))
    kernels = sum(
        p.numel() for n, p in network.named_parameters() if (p.ndim == 4 and ".units." in n) or "shortcut.1" in n
    )
    assert kernels == same - narrower
    assert SFCNOPI(Task(), features=2, units=1).network.classification is None


def test_detection_adds_up_both_strides():
    torch.manual_seed(0)
    branch = DetectionBranch(2)
    half, quarter = torch.randn(1, 4, 8, 10), torch.randn(1, 8, 4, 5)
    assert branch(half, quarter).shape == (1, 2, 16, 20)
    for silent, other in ((half, quarter), (quarter, half)):
        changed = branch(half + 1, quarter) if silent is half else branch(half, quarter + 1)
        assert not torch.allclose(changed, branch(half, quarter))
        assert other.shape[1] != silent.shape[1]


def test_types_count_where_the_prior_is_sure():
    logits = torch.randn(1, 3, 2, 2)
    classes = torch.tensor([[[0, 2], [3, IGNORED]]])
    chance = logits.log_softmax(1)
    both = -(chance[0, 1, 0, 1] + chance[0, 2, 1, 0]) / 2
    assert type_error(logits, classes, None, 0.8).item() == pytest.approx(both.item())
    prior = torch.tensor([[[0.99, 0.9], [0.7, 0.99]]]).log()
    sure = -chance[0, 1, 0, 1] - np.log(0.9)
    assert type_error(logits, classes, prior, 0.8).item() == pytest.approx(sure.item(), rel=1e-5)
    assert type_error(logits, classes, prior, 0.95) == 0


def test_types_teach_the_detection():
    logits = torch.randn(1, 3, 2, 2)
    scores = torch.full((1, 2, 2, 2), -2.0)
    scores[:, 1] = 2.0
    scores.requires_grad_()
    prior = scores.log_softmax(dim=1)[:, 1]
    type_error(logits, torch.ones(1, 2, 2, dtype=torch.int64), prior, 0.8).backward()
    assert (scores.grad[:, 1] < 0).all()


def test_probability_is_that_of_nucleus_times_type():
    method = small(SFCNOPI)
    outputs = {"detection": torch.randn(1, 2, 4, 4), "types": torch.randn(1, 3, 4, 4)}
    found = method.activate(outputs)["probability"]
    torch.testing.assert_close(found.sum(1), outputs["detection"].softmax(1)[:, 1])
    torch.testing.assert_close(found.argmax(1), outputs["types"].argmax(1))


def test_phases_of_sfcn():
    method = small(SFCNOPI).train()
    assert [phase.steps for phase in method.recipe.phases] == [40_000, 20_000, 40_000]
    assert len(small(SFCNOPI, Task()).recipe.phases) == 1
    trained = ({"detection"}, {"types"}, {"detection", "types"})
    for phase, terms in zip(method.recipe.phases, trained, strict=True):
        method.begin(phase)
        method.configure_optimizers()
        assert set(method.losses(batch_of(method, crop(0), crop(1)))) == terms
    method.begin(method.recipe.phases[1])
    method.configure_optimizers()
    assert {n.split(".")[1] for n, p in method.named_parameters() if p.requires_grad} == {"classification"}


def test_detection_is_averaged_over_annotated_px():
    method = small(SFCNOPI)
    method.begin(method.recipe.phases[0])
    logits = torch.randn(1, 2, 2, 2)
    classes = torch.tensor([[[0, 2], [3, IGNORED]]])
    outputs = {"detection": logits, "types": torch.randn(1, 3, 2, 2)}
    expected = F.cross_entropy(logits, torch.tensor([[[0, 1], [1, IGNORED]]]), ignore_index=IGNORED)
    assert method.loss(outputs, {"classes": classes})["detection"].item() == pytest.approx(expected.item())
    nothing = method.loss(outputs, {"classes": torch.full_like(classes, IGNORED)})
    assert nothing["detection"] == 0


def test_sfcn_learns_a_tile_and_finds_its_nuclei():
    method = small(SFCNOPI, features=8).train()
    samples = [crop(seed) for seed in (0, 1)]
    batch = batch_of(method, *samples)
    for phase, steps in zip(method.recipe.phases, (30, 30, 30), strict=True):
        method.begin(phase)
        method.configure_optimizers()
        optimiser = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], 0.01)
        for _ in range(steps):
            loss = sum(method.losses(batch).values())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    with torch.no_grad():
        maps = method.predict_batch(method.prepare(batch["image"]))
    for (_, truth), found in zip(samples, maps, strict=True):
        nuclei = method.codec.decode(found, PointsParams())
        assert nuclei.count == truth.count
        distance = np.linalg.norm(truth.points[:, None] - nuclei.points[None], axis=2)
        assert distance.min(axis=1).max() <= 3
        np.testing.assert_array_equal(nuclei.types[distance.argmin(axis=1)], truth.types)


def test_the_shortcut_is_a_convolution_of_stride_2():
    torch.manual_seed(0)
    unit = ResidualUnit(4, 8, stride=2)
    x = torch.randn(2, 4, 9, 12)
    _, convolution, norm = unit.shortcut
    expected = norm(F.conv2d(x, convolution.weight, stride=2))
    torch.testing.assert_close(unit.shortcut(x), expected)
    assert unit(x).shape == (2, 8, 5, 6)
