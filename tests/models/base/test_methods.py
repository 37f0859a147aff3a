"""What every registered method must do; a new registry entry is tested without an edit here."""

from __future__ import annotations

import dataclasses
import functools
import io

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmark.forward.maps import InferenceSettings, predict_maps
from benchmark.options import option_defaults
from benchmark.registry import METHODS, method_class
from datamodules.reading.sample import Sample
from datamodules.synthetic.images import generate
from models.base.method import Batch, NucleiMethod, Task
from postproc.codec import search_space
from postproc.errors import ConfigError
from postproc.symmetry import SYMMETRIES
from postproc.windows import DenseStitcher

TYPES = ("miscellaneous", "inflammatory", "epithelial", "spindle")
NAMES = sorted(METHODS)
TRAINED = [name for name in NAMES if method_class(name).card.trained]


def build(name: str, types: tuple[str, ...] = TYPES) -> NucleiMethod:
    torch.manual_seed(0)
    kind = method_class(name)
    return kind(Task(types), **kind.small)


def crop_size(method: NucleiMethod) -> int:
    """A small valid input size whose output is not empty."""
    return method.geometry.valid_input(2 * method.geometry.margin + 64)


@functools.cache
def sample(size: int = 220, seed: int = 1) -> Sample:
    image, truth = generate((size, size), np.random.default_rng(seed), density=1.5e-3)
    return Sample(image, truth, "image", "group", magnification=40.0)


def batch_of(method: NucleiMethod, items: int = 2) -> Batch:
    recipe = dataclasses.replace(method.recipe, crop=crop_size(method), augment="none")
    draw = method.drawer(recipe, augment=True)
    return method.collate([draw(sample(), np.random.default_rng(i)) for i in range(items)])


def start_phase(method: NucleiMethod, index: int = -1) -> torch.optim.Optimizer:
    method.begin(method.recipe.phases[index])
    return method.configure_optimizers()


def total(method: NucleiMethod, batch: Batch) -> Tensor:
    return torch.stack(list(method.losses(batch).values())).sum()


@pytest.mark.parametrize("name", NAMES)
def test_card_codecs_and_options_agree(name: str) -> None:
    method = build(name)
    card = method.card
    assert card.name == name
    assert [variant.key for variant in card.variants] == list(method.codecs)
    assert len({variant.title for variant in card.variants}) == len(card.variants)
    assert card.paper
    assert card.url.startswith("https://")
    assert card.recipe
    assert set(method.small) <= set(option_defaults(type(method)))
    for codec in method.codecs.values():
        space = search_space(codec.params_type)
        defaults = dataclasses.asdict(codec.defaults())
        assert all(choices for choices in space.values())
        assert set(space) <= set(defaults)


@pytest.mark.parametrize("name", TRAINED)
def test_averaged_maps_turn_with_the_image(name: str) -> None:
    """Averaging over all symmetries makes a network equivariant, whatever its weights."""
    method = build(name)
    if name == "mask-rcnn":
        with pytest.raises(ConfigError, match="detections"):
            method.check_symmetries()
        return
    method.check_symmetries()
    size = method.geometry.output(crop_size(method))
    image = sample(size).image
    settings = InferenceSettings(precision="32-true", tta=True)
    maps = predict_maps(method, image, settings)
    for symmetry in (SYMMETRIES[1], SYMMETRIES[6]):
        mirrored = image[:, ::-1] if symmetry.mirrored else image
        turned = predict_maps(method, np.ascontiguousarray(np.rot90(mirrored, symmetry.turns)), settings)
        back = method.undo(turned, symmetry)
        for key, value in maps.items():
            assert np.allclose(back[key], value, atol=1e-4 * max(1.0, float(np.abs(value).max()))), key


@pytest.mark.parametrize("name", TRAINED)
def test_every_parameter_is_trained_in_some_phase(name: str) -> None:
    method = build(name)
    method.train()
    reached: set[str] = set()
    for index in range(len(method.recipe.phases)):
        start_phase(method, index)
        method.zero_grad()
        total(method, batch_of(method)).backward()
        frozen = {n for n, p in method.named_parameters() if not p.requires_grad}
        with_gradient = {n for n, p in method.named_parameters() if p.grad is not None and p.grad.isfinite().all()}
        assert not frozen & with_gradient
        reached |= with_gradient
    assert reached == {n for n, _ in method.named_parameters()}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("types", [(), TYPES], ids=["no-types", "types"])
def test_output_size_follows_the_geometry(name: str, types: tuple[str, ...]) -> None:
    method = build(name, types).eval()
    size = crop_size(method)
    images = torch.from_numpy(sample(size).image.transpose(2, 0, 1).copy())[None]
    with torch.no_grad():
        maps = method.predict_batch(method.prepare(images))
    assert len(maps) == 1
    if isinstance(method.stitcher((size, size)), DenseStitcher):
        output = method.geometry.output(size)
        assert {array.shape[1:] for array in maps[0].values()} == {(output, output)}
    assert all(np.isfinite(array).all() for array in maps[0].values())


# those that take more than 2 s; their own test modules have fast ones
SLOW = {"cianet", "cnn2", "cnn3", "deconvnet", "dran", "ensemble", "hovernet", "mask-rcnn"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in TRAINED]
)
def test_one_tile_can_be_overfitted(name: str) -> None:
    method = build(name)
    method.train()
    method.progress = 1.0
    optimizer = start_phase(method)
    for group in optimizer.param_groups:
        group["lr"] = 1e-3
    batch = batch_of(method, 2)
    torch.manual_seed(0)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = total(method, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 10.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < np.mean(losses[:3])


@pytest.mark.parametrize("name", TRAINED)
def test_bf16_stays_finite(name: str) -> None:
    method = build(name)
    method.train()
    start_phase(method)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = total(method, batch_of(method, 1 if name == "mask-rcnn" else 2))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)


ODD = pytest.mark.parametrize("shape", [(97, 131), (40, 63)], ids=["97x131", "40x63"])


@pytest.mark.parametrize("name", NAMES)
@ODD
def test_an_odd_sized_image_gives_maps_and_nuclei_of_its_size(name: str, shape: tuple[int, int]) -> None:
    method = build(name).eval()
    image, _ = generate(shape, np.random.default_rng(0))
    maps = predict_maps(method, image, InferenceSettings(precision="32-true", tile=96))
    if isinstance(method.stitcher(shape), DenseStitcher):
        assert {array.shape[1:] for array in maps.values()} == {shape}
    for codec in method.codecs.values():
        found = codec.decode(maps, codec.defaults())
        assert found.shape == shape
        if found.count:
            assert (found.centroids() >= 0).all()
            assert (found.centroids() <= [shape[1] - 1, shape[0] - 1]).all()


@pytest.mark.parametrize("name", NAMES)
@ODD
def test_decoding_finds_nuclei_in_odd_sizes_and_changes_no_map(name: str, shape: tuple[int, int]) -> None:
    method = build(name)
    image, truth = generate(shape, np.random.default_rng(0), density=1.5e-3)
    assert truth.count > 1
    for codec in method.codecs.values():
        if method.card.trained:
            maps = codec.perfect(codec.encode(truth))
        else:
            maps = predict_maps(method, image, InferenceSettings(precision="32-true"))
        before = {key: array.copy() for key, array in maps.items()}
        found = codec.decode(maps, codec.defaults())
        assert 0 < found.count <= 2 * truth.count
        assert found.shape == shape
        for key, array in before.items():
            np.testing.assert_array_equal(maps[key], array)
        again = codec.decode(maps, codec.defaults())
        for field in dataclasses.fields(found):
            np.testing.assert_array_equal(getattr(again, field.name), getattr(found, field.name))


@pytest.mark.parametrize("name", NAMES)
def test_checkpoint_round_trip(name: str) -> None:
    method = build(name).eval()
    buffer = io.BytesIO()
    torch.save(method.state_dict(), buffer)
    buffer.seek(0)
    other = build(name).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    image = sample(crop_size(method)).image
    settings = InferenceSettings(precision="32-true")
    first, second = predict_maps(method, image, settings), predict_maps(other, image, settings)
    assert first.keys() == second.keys()
    for key, array in first.items():
        np.testing.assert_array_equal(array, second[key])


@pytest.mark.parametrize("name", NAMES)
def test_encoding_never_changes_the_annotation(name: str) -> None:
    method = build(name)
    truth = sample(96).truth
    before = {field: None if (v := getattr(truth, field)) is None else v.copy() for field in ("labels", "types")}
    for codec in method.codecs.values():
        codec.encode(truth)
    for field, value in before.items():
        if value is not None:
            np.testing.assert_array_equal(value, getattr(truth, field))


@pytest.mark.parametrize("name", TRAINED)
def test_nuclei_are_rated_by_the_probability_of_their_pixels(name: str) -> None:
    method = build(name).eval()
    image, truth = generate((150, 170), np.random.default_rng(0), density=1.5e-3)
    maps = predict_maps(method, image, InferenceSettings(precision="32-true"))
    for codec in method.codecs.values():
        found = codec.decode(codec.perfect(codec.encode(truth)), codec.defaults())
        if found.scores is not None or codec.nuclear(maps) is None:
            assert codec.rate(found, maps) is found
            continue
        rated, probability = codec.rate(found, maps), codec.nuclear(maps)
        assert found.labels is not None
        assert probability is not None
        assert probability.shape == found.shape
        assert 0 <= probability.min() < probability.max() <= 1 + 1e-6
        expected = [probability[found.labels == k].mean(dtype=np.float64) for k in range(1, found.count + 1)]
        np.testing.assert_allclose(rated.scores, expected, rtol=1e-5)


def test_most_methods_of_outlines_rate_their_nuclei() -> None:
    rated = {"dcan", "fcn8", "hover-lite", "hovernet", "micronet", "segnet", "unet"}
    for name in rated:
        for codec in build(name).codecs.values():
            assert codec.nuclear(codec.perfect(codec.encode(sample(96).truth))) is not None
