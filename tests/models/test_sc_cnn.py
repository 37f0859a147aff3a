"""SC-CNN: the published network, its spatially constrained layer, and both run over whole images."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from benchmark.forward.maps import InferenceSettings, predict_maps
from datamodules.reading.sample import Sample
from models.base.method import Batch, Task
from models.base.recipe import Milestones
from models.networks.sc_cnn import (
    PATCH,
    PatchNetwork,
    cut_patches,
    mean_likelihood,
    true_likelihood,
    window_likelihood,
)
from models.sc_cnn import MARGIN, SCCNN, detection_error, draw_anywhere, draw_near, haematoxylin
from postproc.codecs.sc_cnn import REACH, WINDOW, SCCNNParams
from postproc.errors import ConfigError
from postproc.instances import Instances

TYPES = ("first", "second", "third")
FLOAT = InferenceSettings(precision="32-true")


def small(types: tuple[str, ...] = TYPES, mpp: float | None = None, **options: Any) -> SCCNN:
    torch.manual_seed(0)
    return SCCNN(Task(types, mpp), **({"hidden": 8, "patches": 16} | options))


def discs(size: int, rng: np.random.Generator, radius: float = 5, types: int = 2) -> Sample:
    """Dark discs on pink ground, 13 px or more apart; the first type is blue, the second brown."""
    centres = np.zeros((0, 2))
    for point in rng.uniform(0, size, (300, 2)):
        if not len(centres) or np.linalg.norm(centres - point, axis=1).min() > 13:
            centres = np.vstack([centres, point])
    kinds = rng.integers(1, types + 1, len(centres))
    image = rng.integers(215, 235, (size, size, 3)).astype(np.uint8)
    y, x = np.mgrid[:size, :size]
    for (cx, cy), kind in zip(centres, kinds, strict=True):
        image[(x - cx) ** 2 + (y - cy) ** 2 <= radius**2] = ((70, 60, 150), (130, 70, 60))[kind - 1]
    points = centres.clip(0, size - 1).astype(np.float32)
    return Sample(image, Instances((size, size), points=points, types=kinds), "discs", "group")


def batch_of(method: SCCNN, *samples: Sample) -> Batch:
    draw = method.drawer(dataclasses.replace(method.recipe, augment="none"), augment=False)
    return method.collate([draw(sample, np.random.default_rng(i)) for i, sample in enumerate(samples)])


# ---- the networks ----------------------------------------------------------------------------------------------------


def test_sizes_and_parameters_are_the_published_ones() -> None:
    method = SCCNN(Task(TYPES))
    sizes: list[tuple[int, ...]] = []
    for layer in (*method.detector.convolutions, *method.detector.hidden, method.detector.head):
        layer.register_forward_hook(lambda _module, _input, output: sizes.append(tuple(output.shape[1:])))
    assert method.detector.eval().patches(torch.rand(2, 1, PATCH, PATCH)).shape == (2, 6)
    assert sizes == [(36, 24, 24), (48, 10, 10), (512,), (512,), (6,)]
    shared = (36 * 9 + 1) * 48 + (5 * 5 * 48 + 1) * 512 + (512 + 1) * 512

    def count(network: torch.nn.Module | None) -> int:
        assert network is not None
        return sum(parameter.numel() for parameter in network.parameters())

    assert count(method.detector) == (16 + 1) * 36 + shared + (512 + 1) * 6
    assert count(method.classifier) == (3 * 16 + 1) * 36 + shared + (512 + 1) * 3
    assert SCCNN(Task(), centres=1).classifier is None
    assert SCCNN(Task(), centres=1).detector.head.out_features == 3


def test_the_network_equals_itself_slid_over_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = PatchNetwork(3, 4, hidden=8).eval()
    images = torch.rand(2, 3, 33, 31)
    with torch.no_grad():
        whole = network(images)
        assert whole.shape == (2, 4, 7, 5)
        for y in range(7):
            for x in range(5):
                torch.testing.assert_close(
                    network.patches(images[..., y : y + PATCH, x : x + PATCH]), whole[..., y, x], rtol=1e-5, atol=1e-5
                )
        monkeypatch.setattr("models.networks.sc_cnn.ROWS", 9)
        torch.testing.assert_close(network(images), whole)


def test_cut_patches_are_the_squares_at_their_places() -> None:
    images = torch.rand(2, 3, 40, 35)
    patches = cut_patches(images, (torch.tensor([1, 0]), torch.tensor([3, 13]), torch.tensor([8, 0])))
    torch.testing.assert_close(patches, torch.stack([images[1, :, 3:30, 8:35], images[0, :, 13:40, :27]]))


def test_haematoxylin_is_that_of_colour_deconvolution() -> None:
    stains = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105]])
    vectors = np.vstack([stains, np.cross(*stains)])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    amounts = np.random.default_rng(0).uniform(0, [1.0, 0.5, 0.1], (5, 3))
    colours = np.exp(-amounts @ vectors)
    method = small()
    image = (torch.tensor(colours.T, dtype=torch.float32)[None, :, None] - torch.tensor(method.mean)[:, None, None]) / (
        torch.tensor(method.std)[:, None, None]
    )
    found = haematoxylin(image)[0, 0, 0] * 0.45 + 0.35
    np.testing.assert_allclose(found, amounts[:, 0], atol=1e-3)


# ---- the spatially constrained layer ---------------------------------------------------------------------------------


def plain_window(outputs: torch.Tensor) -> np.ndarray:
    """The layer's definition, px by px, for the outputs (3 M,) of one patch."""
    v, u, h = (1 / (1 + np.exp(-outputs.double().numpy().reshape(3, -1)))) * np.array([[10], [10], [1]])
    window = np.zeros((WINDOW, WINDOW))
    for y in range(WINDOW):
        for x in range(WINDOW):
            distance = np.hypot(y - v, x - u)
            m = distance.argmin()
            if distance[m] <= REACH:
                window[y, x] = h[m] / (1 + distance[m] ** 2 / 2)
    return window


@pytest.mark.parametrize("centres", [1, 2, 3])
def test_layer_follows_its_definition(centres: int) -> None:
    torch.manual_seed(centres)
    outputs = 2 * torch.randn(20, 3 * centres)
    found = window_likelihood(outputs)
    assert found.shape == (20, WINDOW, WINDOW)
    np.testing.assert_allclose(found, [plain_window(one) for one in outputs], atol=1e-5)
    assert float(found.max()) < 1
    assert (found == 0).any()


def test_mean_likelihood_averages_all_windows_that_hold_a_px() -> None:
    torch.manual_seed(0)
    outputs = 2 * torch.randn(2, 6, 14, 13)
    found = mean_likelihood(outputs)
    assert found.shape == (2, 1, 4, 3)
    total, count = np.zeros((24, 23)), np.zeros((24, 23))
    for y in range(14):
        for x in range(13):
            total[y : y + WINDOW, x : x + WINDOW] += plain_window(outputs[1, :, y, x])
            count[y : y + WINDOW, x : x + WINDOW] += 1
    assert (count[10:-10, 10:-10] == WINDOW**2).all()
    np.testing.assert_allclose(found[1, 0], (total / count)[10:-10, 10:-10], atol=1e-5)


def test_true_likelihood_follows_its_definition() -> None:
    centres = torch.zeros(3, WINDOW, WINDOW)
    centres[0, 2, 3] = centres[0, 5, 5] = centres[1, 0, 10] = 1
    found = true_likelihood(centres)
    y, x = np.mgrid[:WINDOW, :WINDOW]
    squared = np.minimum((y - 2) ** 2 + (x - 3) ** 2, (y - 5) ** 2 + (x - 5) ** 2)
    np.testing.assert_allclose(found[0], np.where(squared <= 16, 1 / (1 + squared / 2), 0), atol=1e-6)
    assert found[1, 0, 10] == 1
    assert not found[2].any()


def test_estimated_centres_move_to_the_true_ones() -> None:
    truth = torch.zeros(1, WINDOW, WINDOW)
    truth[0, 3, 7] = 1
    target = true_likelihood(truth)
    outputs = torch.zeros(1, 3, requires_grad=True)
    optimizer = torch.optim.SGD([outputs], lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        detection_error(window_likelihood(outputs), target).backward()
        optimizer.step()
    row, column, height = (outputs.detach()[0].sigmoid() * torch.tensor([10, 10, 1])).tolist()
    assert (row, column) == (pytest.approx(3, abs=0.3), pytest.approx(7, abs=0.3))
    assert height > 0.8


def test_detection_error_weighs_px_by_likelihood_and_share() -> None:
    truth = torch.zeros(2, WINDOW, WINDOW)
    truth[0, 5, 5], truth[0, 5, 6] = 1, 2 / 3
    predicted = torch.full_like(truth, 0.25)
    epsilon = 2 / (2 * WINDOW**2 - 2)
    empty = epsilon * -np.log(0.75) * (2 * WINDOW**2 - 2)
    full = (1 + epsilon) * -np.log(0.25)
    half = (2 / 3 + epsilon) * -(2 / 3 * np.log(0.25) + 1 / 3 * np.log(0.75))
    assert float(detection_error(predicted, truth)) == pytest.approx((empty + full + half) / 2, rel=1e-5)
    assert detection_error(truth, truth) < detection_error(predicted, truth)
    assert torch.isfinite(detection_error(torch.zeros_like(truth), truth))
    assert detection_error(predicted, torch.zeros_like(truth)) == 0
    assert detection_error(predicted[:0], truth[:0]) == 0


# ---- whole images ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mpp", [None, 0.25])
def test_inference_equals_patches_slid_over_the_image(mpp: float | None) -> None:
    """Plain definition: each patch by itself, windows averaged, the ensemble summed patch by patch."""
    method = small(mpp=mpp).eval()
    factor = method.factor
    side = 2 * MARGIN + 7
    image = torch.from_numpy(discs(side * factor, np.random.default_rng(0)).image.transpose(2, 0, 1).copy())[None]
    with torch.no_grad():
        prepared = method.prepare(image)
        (maps,) = method.predict_batch(prepared)
        cells = torch.nn.functional.avg_pool2d(prepared, factor)
        count = side - PATCH + 1
        total = np.zeros((side, side))
        votes = np.zeros((len(TYPES), count, count))
        border = (PATCH - WINDOW) // 2
        for y in range(count):
            for x in range(count):
                patch = cells[..., y : y + PATCH, x : x + PATCH]
                window = plain_window(method.detector.patches(haematoxylin(patch))[0])
                total[y + border : y + border + WINDOW, x + border : x + border + WINDOW] += window
                votes[:, y, x] = method.classifier.patches(patch)[0].softmax(dim=0)  # type: ignore[union-attr]
    likelihood = total[MARGIN:-MARGIN, MARGIN:-MARGIN] / WINDOW**2
    assert maps["likelihood"].shape == (1, 7 * factor, 7 * factor)
    np.testing.assert_allclose(maps["likelihood"][0], likelihood.repeat(factor, 0).repeat(factor, 1), atol=1e-5)
    offset = np.arange(-4, 5)
    disc = offset[:, None] ** 2 + offset**2 <= 16
    ensemble = [[votes[:, y + 1 : y + 10, x + 1 : x + 10][:, disc].mean(axis=1) for x in range(7)] for y in range(7)]
    expected = np.array(ensemble).transpose(2, 0, 1).repeat(factor, 1).repeat(factor, 2)
    np.testing.assert_allclose(maps["types"], expected, atol=1e-5)


@pytest.mark.parametrize(("mpp", "shape"), [(None, (90, 75)), (0.25, (131, 90))])
def test_tiles_make_no_difference(mpp: float | None, shape: tuple[int, int]) -> None:
    method = small(mpp=mpp).eval()
    image = np.ascontiguousarray(discs(max(shape), np.random.default_rng(1)).image[: shape[0], : shape[1]])
    whole = predict_maps(method, image, FLOAT)
    tiled = predict_maps(method, image, dataclasses.replace(FLOAT, tile=34))
    np.testing.assert_allclose(tiled["likelihood"], whole["likelihood"], atol=1e-5)
    first, second = (method.codec.candidates(maps, SCCNNParams()) for maps in (whole, tiled))
    assert first.count > 0
    np.testing.assert_array_equal(first.points, second.points)
    np.testing.assert_array_equal(first.types, second.types)


# ---- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mpp", "factor"), [(None, 1), (0.55, 1), (0.5, 1), (0.25, 2), (0.1, 5)])
def test_networks_see_the_magnification_of_the_paper(mpp: float | None, factor: int) -> None:
    method = small(mpp=mpp)
    assert method.factor == factor
    assert method.codec.factor == factor  # type: ignore[attr-defined]  # it is an SCCNNCodec
    assert method.recipe.crop == 91 * factor
    assert SCCNN.recipe.crop == 91
    assert method.geometry.output(method.recipe.crop) == (91 - 2 * MARGIN) * factor
    native = SCCNN(Task(TYPES, mpp=0.25), mpp=0.25)
    assert native.factor == 1


def test_patches_that_are_drawn_suit_both_networks() -> None:
    torch.manual_seed(0)
    classes = torch.zeros(3, 30, 40, dtype=torch.int64)
    classes[0, 3:20, 5:30], classes[2, 7, 9] = 1, 2
    image, row, column = draw_near(classes, 4000, balanced=True)
    kinds = classes[image, row, column]
    assert kinds.min() > 0
    assert float((kinds == 2).float().mean()) == pytest.approx(0.5, abs=0.04)
    as_they_are = draw_near(classes, 4000, balanced=False)
    assert float((classes[as_they_are] == 2).float().mean()) < 0.02
    assert [len(places) for places in draw_near(torch.zeros_like(classes), 10, balanced=True)] == [0, 0, 0]
    image, row, column = draw_anywhere(torch.tensor([0.0, 1.0, 1.0]), (30, 40), 2000)
    assert set(image.tolist()) == {1, 2}
    assert (int(row.min()), int(row.max()), int(column.min()), int(column.max())) == (0, 29, 0, 39)
    assert [len(places) for places in draw_anywhere(torch.zeros(3), (30, 40), 10)] == [0, 0, 0]


@pytest.mark.parametrize("mpp", [None, 0.25])
def test_patches_and_targets_belong_together(mpp: float | None) -> None:
    """Windows and types that the loss gets are those of the patches that the networks get."""
    method = small(("blue", "brown"), mpp=mpp)
    sample = discs(240, np.random.default_rng(2), radius=5 if mpp is None else 9)
    seen: dict[str, torch.Tensor] = {}
    method.detector.patches = lambda x: seen.update(dark=x) or torch.zeros(len(x), 6)  # type: ignore[method-assign,func-returns-value]
    assert method.classifier is not None
    method.classifier.patches = lambda x: seen.update(colour=x) or torch.zeros(len(x), 2)  # type: ignore[method-assign,func-returns-value]
    method.loss = lambda _outputs, batch: batch  # type: ignore[method-assign]
    targets = method.losses(batch_of(method, sample, sample))
    middle = seen["dark"][:, 0, 8:-8, 8:-8]
    at_centres = middle[targets["windows"] > 0]
    assert len(at_centres) > 5
    assert at_centres.mean() > middle.mean() + 1.0, "centres are darker than the windows"
    at_middle = seen["colour"][:, :, PATCH // 2, PATCH // 2]
    blue = at_middle[:, 2] > at_middle[:, 0] + 1
    dark = at_middle[:, 1] < -1.5
    assert (dark.float().mean()) > 0.7
    assert (blue[dark] == (targets["classes"][dark] == 0)).float().mean() > 0.95


def test_weights_of_types_take_the_place_of_balanced_drawing() -> None:
    method = small(("blue", "brown"))
    logits, classes = torch.tensor([[0.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1])
    windows = torch.zeros(1, WINDOW, WINDOW)
    targets = {"windows": windows, "classes": classes}
    plain = method.loss({"centres": torch.zeros(1, 6), "types": logits}, targets)["types"].item()
    assert plain == pytest.approx(np.log(2))
    method.type_weights = torch.tensor([1.0, 0.5, 3.0])
    weighed = method.loss({"centres": torch.zeros(1, 6), "types": logits}, targets)["types"].item()
    assert weighed == pytest.approx(np.log(2) * (0.5 + 3) / 2)
    assert method.weighs_types
    assert not small(()).weighs_types
    rare = Instances((120, 120), points=np.array([[30, 30], [60, 60]], np.float32), types=np.array([1, 2]))
    batch = batch_of(method, Sample(np.full((120, 120, 3), 200, np.uint8), rare, "a", "g"))
    batch["classes"][:] = torch.where(batch["classes"] == 2, 2, 1)
    method.drawn = 300
    shares = []
    method.loss = lambda _outputs, targets: shares.append((targets["classes"] == 1).float().mean()) or {}  # type: ignore[method-assign,func-returns-value]
    for weights in (None, method.type_weights):
        method.type_weights = weights
        method.losses(batch)
    assert shares[0] > 0.4
    assert shares[1] < 0.1


def test_validation_draws_the_same_patches_every_time() -> None:
    method = small()
    batch = batch_of(method, discs(120, np.random.default_rng(0)))
    method.eval()
    state = torch.get_rng_state()
    first, second = (method.losses(batch) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)
    method.train()
    assert method.losses(batch)["detection"] != method.losses(batch)["detection"]


def test_annotation_without_points_teaches_nothing_and_without_types_only_centres() -> None:
    method = small()
    image = discs(120, np.random.default_rng(0)).image
    regions = Sample(image, Instances((120, 120), regions=np.ones((120, 120), np.uint8)), "a", "g")
    points = np.array([[60, 60], [90, 40]], np.float32)
    untyped = Sample(image, Instances((120, 120), points=points, types=np.zeros(2, np.int64)), "b", "g")
    nothing = method.losses(batch_of(method, regions))
    assert {name: value.item() for name, value in nothing.items()} == {"detection": 0, "types": 0}
    torch.stack(list(nothing.values())).sum().backward()
    method.drawn = 200
    some = method.losses(batch_of(method, untyped))
    assert some["detection"] > 0
    assert some["types"] == 0
    assert set(small(()).losses(batch_of(small(()), untyped))) == {"detection"}


@pytest.mark.slow
def test_short_training_finds_and_tells_discs() -> None:
    method = small(("blue", "brown"), hidden=24, patches=40).train()
    rng = np.random.default_rng(0)
    samples = [discs(150, rng) for _ in range(3)]
    optimizer = method.optimizer(list(method.parameters()), 0.01)
    for _ in range(70):
        optimizer.zero_grad()
        torch.stack(list(method.losses(batch_of(method, *samples)).values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 5.0)
        optimizer.step()
    test = discs(150, np.random.default_rng(9))
    found = method.codec.decode(predict_maps(method.eval(), test.image, FLOAT), SCCNNParams())
    distance = cdist(test.truth.points, found.points)
    near = distance.min(axis=1) <= 4
    assert near.mean() > 0.85
    assert found.count < 1.2 * test.truth.count
    assert (found.types[distance.argmin(axis=1)][near] == test.truth.types[near]).mean() > 0.85


def test_rate_falls_at_the_shares_of_the_paper() -> None:
    schedule = SCCNN.recipe.phases[0].schedule
    assert [schedule(share) for share in (0.0, 0.49, 0.5, 0.8, 0.84, 1.0)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    assert Milestones(())(1.0) == 1


@pytest.mark.parametrize(
    ("option", "value"), [("centres", 0), ("patches", 0), ("hidden", 0), ("neighbourhood", 6.0), ("mpp", 0.0)]
)
def test_options_that_make_no_network_are_refused(option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=option):
        SCCNN(Task(TYPES), **{option: value})
