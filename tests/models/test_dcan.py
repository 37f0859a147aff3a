from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.models import vgg16

from models.base.method import Batch, Task
from models.base.weights import rename
from models.dcan import DCAN, HEADS, STRIDES, DCANetwork, fuse
from postproc.errors import ConfigError
from postproc.instances import Instances


def build(features: int = 4) -> DCAN:
    torch.manual_seed(0)
    return DCAN(Task(), features=features, weights="none", dropout=0.0)


def batch_of(method: DCAN, size: int = 64) -> Batch:
    y, x = np.mgrid[:size, :size]
    labels = np.zeros((size, size), np.int32)
    labels[(y - 32) ** 2 + (x - 22) ** 2 <= 100] = 1
    labels[(y - 32) ** 2 + (x - 43) ** 2 <= 100] = 2
    noise = np.random.default_rng(0).integers(0, 40, (3, size, size))
    image = (np.where(labels > 0, 60, 190) + noise).astype(np.uint8)
    return method.collate([method.codec.encode(Instances((size, size), labels=labels)) | {"image": image}])


def test_parameters_and_shapes() -> None:
    with torch.device("meta"):
        network = DCANetwork()
        outputs = network(torch.empty(1, 3, 256, 256))
    assert sum(p.numel() for p in network.encoder.parameters()) == 14_714_688  # the 13 convolutions of VGG-16
    deep = 512 * 1024 * 49 + 1024 + 1024 * 1024 + 1024
    classes = 4 * (512 + 512 + 1024 + 3)
    assert sum(p.numel() for p in network.parameters()) == 14_714_688 + deep + classes
    assert {name: tuple(x.shape) for name, x in outputs.items()} == {
        f"{head}_{stride}": (1, 2, 256, 256) for stride in STRIDES for head in HEADS
    }


def test_names_of_torchvision_fit() -> None:
    with torch.device("meta"):
        given = rename(vgg16().state_dict(), ((r"^features\.", ""),), drop=("classifier.",))
        own = DCANetwork().encoder.state_dict()
    assert {name: value.shape for name, value in given.items()} == {name: value.shape for name, value in own.items()}


def test_weights_of_a_file_are_loaded(tmp_path: Path) -> None:
    source = build()
    state = {f"features.{name}": value for name, value in source.network.encoder.state_dict().items()}
    path = tmp_path / "vgg16.pth"
    torch.save(state | {"classifier.0.weight": torch.zeros(1)}, path)
    torch.manual_seed(1)
    other = DCAN(Task(), features=4, weights=str(path))
    torch.testing.assert_close(other.network.encoder.state_dict(), source.network.encoder.state_dict())
    assert other.mean == (0.485, 0.456, 0.406)
    with pytest.raises(ConfigError, match="weights=none"):
        DCAN(Task(), features=4)


def test_enlarging_classes_equals_enlarging_features() -> None:
    features, kernel = torch.randn(1, 8, 4, 4), torch.randn(4, 8, 1, 1)
    bias = torch.randn(4)
    torch.testing.assert_close(
        F.interpolate(F.conv2d(features, kernel, bias), scale_factor=8, mode="bilinear"),
        F.conv2d(F.interpolate(features, scale_factor=8, mode="bilinear"), kernel, bias),
        atol=1e-5,
        rtol=1e-5,
    )


def test_depths_see_what_their_stride_says() -> None:
    network = build().network.eval()
    outputs = network(torch.rand(1, 3, 64, 64))
    for stride in STRIDES:
        # Up-sampled logits are linear between the centres of the cells.
        row = outputs[f"object_{stride}"][0, 0, :, 0].detach()
        steps = row.diff()
        inside = steps[stride // 2 : stride // 2 + stride - 1]
        torch.testing.assert_close(inside, inside[:1].expand_as(inside), atol=1e-5, rtol=1e-3)
    assert all(x.shape[-2:] == (64, 64) for x in outputs.values())


def test_loss_is_that_of_the_sum_and_of_each_depth() -> None:
    method = build()
    batch = batch_of(method)
    outputs = method(method.prepare(batch["image"]))
    fused = fuse(outputs)
    torch.testing.assert_close(
        fused["contour"], outputs["contour_8"] + outputs["contour_16"] + outputs["contour_32"], atol=1e-6, rtol=1e-5
    )
    terms = method.loss(outputs, batch)
    assert set(terms) == {"object", "contour", "object_auxiliary", "contour_auxiliary"}
    torch.testing.assert_close(terms["object"], F.cross_entropy(fused["object"], batch["object"]))
    each = [F.cross_entropy(outputs[f"contour_{stride}"], batch["contour"]) for stride in STRIDES]
    torch.testing.assert_close(terms["contour_auxiliary"], sum(each))
    probability = method.activate(outputs)["object"]
    torch.testing.assert_close(probability[:, 0], fused["object"].softmax(dim=1)[:, 1])


def test_auxiliary_losses_fade() -> None:
    method = build()
    weights = []
    for epoch in (0, 49, 50, 100, 239):
        method.progress = (epoch + 0.5) / 240
        weights.append(method.auxiliary_weight())
    assert weights == pytest.approx([1, 1, 0.1, 0.01, 0.0001])


def test_rate_falls_half_way_and_kernels_alone_decay() -> None:
    method = build()
    (phase,) = method.recipe.phases
    method.begin(phase)
    assert [method.phase.lr * method.phase.schedule(epoch / 240) for epoch in (0, 119, 120)] == [1e-4, 1e-4, 1e-5]
    optimizer = method.configure_optimizers()
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in method.named_parameters():
        assert decay[id(parameter)] == (0.0 if name.endswith("bias") else 1e-5)


def test_two_nuclei_are_learnt_and_parted() -> None:
    method = build(8).train()
    batch = batch_of(method)
    method.progress = 1.0
    optimizer = method.optimizer(list(method.parameters()), 1e-3)
    losses = []
    for _ in range(60):
        loss = torch.stack(list(method.losses(batch).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    method.eval()
    with torch.no_grad():
        maps = method.predict_batch(method.prepare(batch["image"]))[0]
    assert method.codec.decode(maps, method.codec.defaults()).count == 2
