from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from benchmark.forward.maps import InferenceSettings, predict_maps
from models.base.method import Batch, Task
from models.mask_rcnn import MaskRCNN
from postproc.codecs.masks import UNTYPED, MaskParams
from postproc.errors import ConfigError, DataError
from postproc.instances import Instances

TYPES = ("round", "long")
TERMS = {"objectness", "rpn_box_reg", "classifier", "box_reg", "mask"}


def build(types: tuple[str, ...] = (), **options: Any) -> MaskRCNN:
    """A small network with random weights: the same ones every time."""
    torch.manual_seed(0)
    return MaskRCNN(Task(types), **{"backbone": "resnet18", "weights": "none", "regions": 8, **options})


def picture(shape: tuple[int, int], nuclei: int = 9, seed: int = 0) -> tuple[np.ndarray, Instances]:
    """Dark discs and bars (types 1 and 2) on light ground, on a grid of 32 px so that none overlap."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    cells = [(y, x) for y in range(0, shape[0] - 31, 32) for x in range(0, shape[1] - 31, 32)]
    types = rng.integers(1, 3, min(nuclei, len(cells)))
    y, x = np.mgrid[-16:16, -16:16]
    for k, cell in enumerate(rng.permutation(len(cells))[: len(types)]):
        top, left = cells[cell]
        shift = rng.uniform(-4, 4, 2)
        a, b = (9, 9) if types[k] == 1 else (5, 11)
        inside = ((y - shift[0]) / a) ** 2 + ((x - shift[1]) / b) ** 2 < 1
        labels[top : top + 32, left : left + 32][inside] = k + 1
    image = np.where(labels[..., None] > 0, (110, 70, 140), (235, 220, 230)) + rng.integers(-9, 10, (*shape, 3))
    return image.astype(np.uint8), Instances(shape, labels=labels, types=types.astype(np.int64))


def batch(method: MaskRCNN, *pictures: tuple[np.ndarray, Instances]) -> Batch:
    items = [
        method.codec.encode(truth) | {"image": np.ascontiguousarray(image.transpose(2, 0, 1))}
        for image, truth in pictures
    ]
    return method.collate(items)


def total(method: MaskRCNN, data: Batch) -> torch.Tensor:
    terms = method.losses(data)
    assert set(terms) == TERMS
    assert all(value.dtype == torch.float32 and torch.isfinite(value) for value in terms.values())
    return torch.stack(list(terms.values())).sum()


# ---- training ----


@pytest.mark.parametrize("types", [(), TYPES])
def test_a_training_step_reaches_every_parameter(types: tuple[str, ...]) -> None:
    method = build(types).train()
    data = batch(method, picture((128, 128)), picture((128, 128), nuclei=2, seed=1))
    assert data["image"].shape == (2, 3, 128, 128)
    assert [len(boxes) for boxes in data["boxes"]] == [9, 2]
    assert set(torch.cat(data["labels"]).tolist()) == ({1, 2} if types else {1})
    total(method, data).backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_crops_without_nuclei_train() -> None:
    method = build().train()
    empty = picture((64, 64), nuclei=0)
    for pictures in ([empty], [empty, picture((64, 64), nuclei=3)]):
        method.zero_grad()
        total(method, batch(method, *pictures)).backward()
        gradients = [p.grad for p in method.parameters()]
        # DDP waits for every gradient, so also the heads that had nothing to learn must have one.
        assert all(g is not None and torch.isfinite(g).all() for g in gradients)


def test_a_nucleus_without_a_type_is_proposed_but_not_classified() -> None:
    method = build(TYPES)
    data = batch(method, picture((64, 64), nuclei=1))
    data["labels"] = [torch.full_like(labels, UNTYPED) for labels in data["labels"]]
    terms = method.eval().losses(data)
    assert terms["rpn_box_reg"] > 0
    assert terms["mask"] == 0
    assert terms["box_reg"] == 0


def test_types_may_be_left_out() -> None:
    method = build(TYPES, classify=False)
    assert not method.weighs_types
    assert set(torch.cat(batch(method, picture((64, 64)))["labels"]).tolist()) == {1}
    assert method.detector.roi_heads.box_predictor.cls_score.out_features == 2
    with pytest.raises(ConfigError, match="classify=false"):
        build(classify=True)


def test_watching_the_heads_leaves_them_as_they_were() -> None:
    method = build(TYPES).eval()
    data = batch(method, picture((64, 64)))
    method.type_weights = torch.ones(3)
    heads = method.detector.roi_heads
    with torch.no_grad():
        found = method.losses(data)["classifier"]
        method.type_weights = None
        torch.testing.assert_close(method.losses(data)["classifier"], found)
    assert "select_training_samples" not in vars(heads)
    assert not heads.box_predictor._forward_hooks


@pytest.mark.slow
def test_overfitting_one_tile_decreases_the_loss() -> None:
    method = build(regions=16).train()
    image, truth = picture((96, 96), nuclei=6)
    data = batch(method, (image, truth))
    optimizer = method.optimizer(list(method.parameters()), 1e-2)
    history = []
    for _ in range(9):
        loss = total(method, data)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 5.0)
        optimizer.step()
        history.append(float(loss.detach()))
    assert np.mean(history[-3:]) < 0.6 * history[0]


def test_validation_loss_repeats_itself_and_leaves_everything_as_it_was() -> None:
    method = build().eval()
    data = batch(method, picture((64, 64)))
    statistics = {k: v.clone() for k, v in method.state_dict().items()}
    with torch.no_grad():
        torch.manual_seed(5)
        first = float(total(method, data))
        drawn = float(torch.rand(()))
        assert float(total(method, data)) == first
    torch.manual_seed(5)
    assert float(torch.rand(())) == drawn, "the generator of the run is not touched"
    assert not any(module.training for module in method.modules())
    assert all(torch.equal(statistics[k], v) for k, v in method.state_dict().items())


def test_bfloat16_stays_finite() -> None:
    method = build().train()
    data = batch(method, picture((64, 64)))
    with torch.autocast("cpu", torch.bfloat16):
        total(method, data).backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)
    method.eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        maps = method.predict_batch(method.prepare(data["image"]))[0]
    assert maps["boxes"].dtype == np.float32
    assert all(np.isfinite(value).all() for value in maps.values())


def test_the_optimiser_decays_kernels_alone() -> None:
    method = build(weight_decay=0.01)
    optimizer = method.optimizer(list(method.parameters()), 1e-2)
    assert isinstance(optimizer, torch.optim.SGD)
    for group in optimizer.param_groups:
        assert group["momentum"] == 0.9
        assert all((p.ndim > 1) == (group["weight_decay"] == 0.01) for p in group["params"])
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(method.parameters()))


# ---- inference ----


@pytest.mark.parametrize(("types", "size"), [((), (64, 64)), (TYPES, (75, 49)), ((), (40, 33))])
def test_predictions_are_what_decoding_takes(types: tuple[str, ...], size: tuple[int, int]) -> None:
    method = build(types).eval()
    images = torch.from_numpy(picture(size)[0].transpose(2, 0, 1).copy())[None].repeat(2, 1, 1, 1)
    predicted = method.predict_batch(method.prepare(images))
    assert len(predicted) == 2
    for maps in predicted:
        found = len(maps["scores"])
        assert {name: (value.dtype, value.shape) for name, value in maps.items()} == {
            "boxes": (np.float32, (found, 4)),
            "scores": (np.float32, (found,)),
            "labels": (np.int64, (found,)),
            "masks": (np.float16, (found, 28, 28)),
            "shape": (np.int64, (2,)),
        }
        assert found, "a random network is unsure, which is above the smallest confidence"
        assert (maps["boxes"] >= 0).all()
        assert (maps["boxes"] <= np.array([size[1], size[0]] * 2)).all()
        assert set(maps["labels"].tolist()) <= set(range(1, max(1, len(types)) + 1))
        decoded = method.codec.decode(maps, MaskParams(confidence=0.4))
        assert decoded.shape == size
        assert (decoded.types is None) == (not types)


def test_the_size_of_the_first_image_does_not_matter() -> None:
    image = torch.from_numpy(picture((64, 64))[0].transpose(2, 0, 1).copy())[None]
    fresh, used = build().eval(), build().eval()
    used.predict_batch(used.prepare(image[..., :33, :33]))
    (expected,), (maps,) = (method.predict_batch(method.prepare(image)) for method in (fresh, used))
    assert all(np.array_equal(expected[name], maps[name]) for name in expected)


def test_a_whole_image_goes_through_tiles() -> None:
    method = build().eval()
    image, _ = picture((64, 230))
    maps = predict_maps(method, image, InferenceSettings(precision="32", tile=192))
    assert maps["shape"].tolist() == [64, 230]
    decoded = method.codec.decode(maps, MaskParams(confidence=0.4))
    assert decoded.shape == (64, 230)


def test_pyramid_and_objectness() -> None:
    method = build().eval()
    with torch.no_grad():
        pyramid = method(torch.zeros(1, 3, 60, 100))
        objectness = method.activate(pyramid)
    sizes = [(16, 32), (8, 16), (4, 8), (2, 4), (1, 2)]
    assert [tuple(value.shape[-2:]) for value in pyramid.values()] == sizes
    assert [tuple(value.shape) for value in objectness.values()] == [(1, 6, *size) for size in sizes]
    assert all(((value > 0) & (value < 1)).all() for value in objectness.values())


# ---- weights ----


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    method = build(TYPES).train()
    data = batch(method, picture((64, 64)))
    method.losses(data)  # moves the statistics of the batch normalisation
    torch.save(method.state_dict(), tmp_path / "weights.pt")
    other = MaskRCNN(Task(TYPES), backbone="resnet18", weights="none")
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    images = method.prepare(data["image"])
    (expected,), (maps,) = (m.eval().predict_batch(images) for m in (method, other))
    assert all(np.array_equal(expected[name], maps[name]) for name in expected)


def test_weights_of_a_resnet_keep_their_statistics(tmp_path: Path) -> None:
    resnet = torchvision.models.resnet18(weights=None)
    nn.init.uniform_(resnet.bn1.running_mean, 0.5, 1.0)
    torch.save(resnet.state_dict(), tmp_path / "resnet.pth")
    method = build(weights=str(tmp_path / "resnet.pth")).train()
    body = method.detector.backbone.body
    assert torch.equal(body.layer4[1].conv2.weight, resnet.layer4[1].conv2.weight)
    with torch.no_grad():
        method.losses(batch(method, picture((64, 64))))
    assert torch.equal(body.bn1.running_mean, resnet.bn1.running_mean)
    assert method.detector.rpn.training
    with pytest.raises(DataError, match=r"resnet\.pth"):
        build(backbone="resnet50", weights=str(tmp_path / "resnet.pth"))


def test_weights_of_a_detector_with_other_classes(tmp_path: Path) -> None:
    typed = build(TYPES)
    torch.save(typed.state_dict(), tmp_path / "typed.pth")
    method = build(weights=str(tmp_path / "typed.pth"))
    ours, theirs = method.state_dict(), typed.state_dict()
    for name, value in ours.items():
        if not name.startswith(("detector.roi_heads.box_predictor", "detector.roi_heads.mask_predictor.mask_fcn")):
            assert torch.equal(value, theirs[name]), name
    assert len(ours["detector.roi_heads.box_predictor.cls_score.weight"]) == 2
    state = {name: value for name, value in theirs.items() if "mask_head" not in name}
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(DataError, match="mask_head"):
        build(weights=str(tmp_path / "part.pth"))


def test_weights_of_torchvision_before_they_were_renamed(tmp_path: Path) -> None:
    """The published COCO weights have the names of torchvision 0.3."""
    source = build().detector.state_dict()
    old = {}
    for name, value in source.items():
        for new, before in (("blocks.{}.0.", "blocks.{}."), ("mask_head.{}.0.", "mask_head.mask_fcn{}.")):
            for k in range(4):
                shown = k + 1 if "fcn" in before else k
                name = name.replace(new.format(k), before.format(shown))
        old[name.replace("rpn.head.conv.0.0.", "rpn.head.conv.")] = value + 1
    assert "roi_heads.mask_head.mask_fcn4.weight" in old
    torch.save(old, tmp_path / "old.pth")
    loaded = build(weights=str(tmp_path / "old.pth")).detector.state_dict()
    assert all(torch.equal(loaded[name], value + 1) for name, value in source.items())


def test_without_a_network_imagenet_is_an_error_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for variable in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # refuses connections
    with pytest.raises(ConfigError, match="weights=none"):
        build(weights="imagenet")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet34"}, "resnet101"),
        ({"nmst": 0.0}, "nmst"),
        ({"anchor": -1.0}, "anchor"),
        ({"regions": 0}, "regions"),
        ({"weights": "nowhere.pth"}, "nowhere"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(**options)


def test_defaults_are_the_papers() -> None:
    method = MaskRCNN(Task(), weights="none")
    assert sum(len(getattr(method.detector.backbone.body, f"layer{k}")) for k in (1, 2, 3, 4)) == 33
    assert method.detector.rpn.fg_bg_sampler.batch_size_per_image == 256
    assert method.detector.roi_heads.fg_bg_sampler.batch_size_per_image == 256
    assert method.detector.rpn.nms_thresh == 0.5
    smallest, largest = (
        method.detector.rpn.anchor_generator.sizes[0][0],
        method.detector.rpn.anchor_generator.sizes[3],
    )
    assert (smallest, largest[0]) == (8, 64)
    phase = method.recipe.phases[0]
    rates = [phase.lr * phase.schedule(epoch / 80) for epoch in (0, 19, 20, 40, 79)]
    assert rates == pytest.approx([1e-2, 1e-2, 1e-3, 1e-4, 1e-5])
    assert (phase.batch_size, phase.epochs) == (4, 80)
    assert list(method.codecs) == [variant.key for variant in method.card.variants]
