from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from speed_tiling import MAPS, Way, count_operations, label_map, tiling_timings, train, widen

from benchmark.forward.maps import InferenceSettings
from models.base.method import Task
from models.hovernet import HoVerNet

pytestmark = pytest.mark.slow

FAST: dict[str, Any] = {"mode": "fast", "weights": "none"}


@pytest.fixture(scope="module")
def narrow() -> HoVerNet:
    torch.manual_seed(0)
    return train(HoVerNet(Task(), **FAST, features=8), steps=2, side=300)


def test_training_moves_weights_and_statistics(narrow: HoVerNet) -> None:
    torch.manual_seed(0)
    fresh = HoVerNet(Task(), **FAST, features=8)
    stem, trained = fresh.network.encoder.stem, narrow.network.encoder.stem
    assert not torch.equal(stem.conv.weight, trained.conv.weight)
    assert not torch.equal(stem.norm.running_var, trained.norm.running_var)
    assert not narrow.training


@pytest.mark.parametrize("features", [16, 24])
def test_a_widened_network_computes_the_same(narrow: HoVerNet, features: int) -> None:
    wide = HoVerNet(Task(), **FAST, features=features).eval()
    images = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, before = narrow(images), wide(images)
        widen(narrow, wide)
        widened = wide(images)
    for name, value in expected.items():
        assert torch.allclose(widened[name], value, atol=1e-4 * float(value.abs().max()))
        assert not torch.allclose(before[name], value, atol=1e-2)


def test_operations_are_those_of_the_published_network() -> None:
    with torch.device("meta"):
        method = HoVerNet(Task(), **FAST)
    assert 49 * count_operations(method, 256, 256) / 1e12 == pytest.approx(12.5, abs=0.05)


def test_channels_first_changes_the_layout_and_nothing_else(narrow: HoVerNet) -> None:
    image = np.random.default_rng(0).integers(0, 256, (164, 164, 3)).astype(np.uint8)
    seen: list[tuple[bool, bool]] = []

    def look(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], outputs: Any) -> None:
        last = torch.channels_last
        weight = next(p for p in module.parameters() if p.ndim == 4 and p.shape[2] > 1 and p.shape[1] > 1)
        seen.append((inputs[0].is_contiguous(memory_format=last), weight.is_contiguous(memory_format=last)))

    hook = narrow.network.register_forward_hook(look)
    settings = InferenceSettings("32-true", published=True)
    maps = [label_map(narrow, image, Way("", settings, channels_first)) for channels_first in (True, False)]
    hook.remove()
    assert seen == [(False, False), (True, True)]
    assert np.mean(maps[0] == maps[1]) > 0.99


def test_published_tiles_are_compared_with_large_ones() -> None:
    large, small, first = tiling_timings({"mode": "fast", "features": 8}, 172, "32-true", tiles=1, steps=1)
    assert [timing.by for timing in (large, small, first)] == ["nucbench", "published tile size", "published tiling"]
    assert large.note.startswith("1 inputs of 264 x 264 px")
    assert small.note.startswith("4 inputs of 184 x 184 px")  # no larger than four of them must be
    assert first.note.startswith("4 inputs of 256 x 256 px")
    for timing in (small, first):
        assert "; 1 timed; " in timing.note
        assert timing.nucbench_ms == large.median_ms
        assert timing.agreement_in == MAPS
    assert "features=8" in large.job
    assert "mode=fast" in large.job


def test_given_weights_are_those_that_run(narrow: HoVerNet, tmp_path: Any) -> None:
    path = tmp_path / "weights.pt"
    torch.save(narrow.state_dict(), path)
    options = {"mode": "fast", "features": 8, "weights": str(path)}
    large, *_ = tiling_timings(options, 164, "32-true", tiles=1)
    found = int(large.note.split("; ")[-1].split()[0])
    from benchmark.speed.components import DENSITY
    from datamodules.synthetic.images import generate

    image, _ = generate((164, 164), np.random.default_rng(0), density=DENSITY)
    assert found == label_map(narrow, image, Way("", InferenceSettings("32-true", tile=1024))).max()
