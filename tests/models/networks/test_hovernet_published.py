"""Published files of HoVer-Net: every tensor finds its place, and the network gives the same outputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from published_hovernet import PublishedNetwork, published_state

from models.base.method import Task
from models.base.weights import load_exactly
from models.hovernet import HoVerNet
from models.networks.hovernet_published import read_published
from postproc.errors import DataError

NAMES = ("a", "b", "c", "d", "e")
MODES = {"fast": 112, "original": 214}
"""Mode -> side of an input in pixels."""

every_file = pytest.mark.parametrize(
    ("mode", "types"), [("fast", 5), ("fast", 6), ("fast", None), ("original", 5), ("original", None)]
)


def adopted(state: dict[str, torch.Tensor], types: int | None) -> HoVerNet:
    found = HoVerNet.read_foreign(state)
    options: dict[str, Any] = dict(found.options)
    torch.manual_seed(1)
    method = HoVerNet(Task(NAMES[: (types or 1) - 1]), weights="none", **options)
    load_exactly(method, found.state, "file")
    return method.eval()


@every_file
def test_the_network_gives_the_outputs_of_the_published_one(mode: str, types: int | None) -> None:
    state = published_state(mode, types)
    method = adopted(state, types)
    images = torch.randint(0, 256, (2, 3, MODES[mode], MODES[mode]), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = PublishedNetwork(state)(images.float())
        found = method(method.prepare(images.to(torch.uint8)))
    assert found.keys() == expected.keys()
    for branch, value in expected.items():
        assert value.abs().mean() > 0.1
        scale = value.std()
        torch.testing.assert_close(found[branch] / scale, value / scale, rtol=1e-4, atol=1e-4)


@every_file
def test_every_tensor_of_the_file_is_in_the_network_unchanged(mode: str, types: int | None) -> None:
    state = published_state(mode, types)
    found = HoVerNet.read_foreign(state)
    ours = adopted(state, types).state_dict()
    assert found.names.keys() == ours.keys()
    back = {found.names[name]: value for name, value in ours.items()}  # the inverse map
    assert back.keys() | set(found.left_out) == state.keys()
    assert found.left_out == ("upsample2x.unpool_mat",)
    for name, value in back.items():
        assert torch.equal(value, state[name]), name


@pytest.mark.parametrize("width", [8, 64])
def test_mode_width_and_types_are_read_off_the_file(width: int) -> None:
    fast = HoVerNet.read_foreign(published_state("fast", 6, width=width))
    assert fast.types == 5
    assert fast.options == {"mode": "fast"} | ({} if width == 64 else {"features": 8})
    assert HoVerNet.read_foreign(published_state("original")).options == {"mode": "original", "features": 8}
    assert HoVerNet.read_foreign(published_state("original")).types == 0


def test_a_branch_is_dropped_and_named() -> None:
    state = published_state("fast", 5)
    plain = HoVerNet.read_foreign(state).without_types()
    assert plain.types == 0
    assert not any("tp" in name for name in plain.state)
    assert {name for name in state if name.startswith("decoder.tp.")} < set(plain.left_out)
    assert plain.state.keys() == plain.names.keys() == HoVerNet(weights="none", **plain.options).state_dict().keys()


def test_types_are_reordered_with_their_logits() -> None:
    state = published_state("fast", 5)
    found = HoVerNet.read_foreign(state)
    other = found.reordered((3, 1, 4, 2))
    place = "network.decoders.tp.out"
    for tensor in ("weight", "bias"):
        expected = state[f"decoder.tp.u0.conv.{tensor}"][[0, 3, 1, 4, 2]]
        assert torch.equal(other.state[f"{place}.{tensor}"], expected)
    changed = {name for name in found.state if not torch.equal(found.state[name], other.state[name])}
    assert changed == {f"{place}.weight", f"{place}.bias"}


def test_other_files_are_left_to_the_generic_path() -> None:
    state = HoVerNet(weights="none", mode="fast", features=8).state_dict()
    assert read_published(state) is None
    assert HoVerNet.read_foreign(state).state.keys() == state.keys()


def test_broken_files_are_refused() -> None:
    state = published_state("fast", 5)
    with pytest.raises(DataError, match="the encoder only"):
        read_published({name: value for name, value in state.items() if not name.startswith("decoder.")})
    with pytest.raises(DataError, match="3 x 3 or 5 x 5"):
        read_published(state | {"decoder.np.u3.conva.weight": torch.zeros(32, 128, 7, 7)})
    with pytest.raises(DataError, match="twice"):
        read_published(state | {"conv0.conv.weight": state["conv0./.weight"]})
    lacking = {name: value for name, value in state.items() if name != "d1.blk_bna.bn.running_mean"}
    with pytest.raises(DataError, match=r"1 missing: network\.encoder\.levels\.1\.norm\.running_mean"):
        adopted(lacking, 5)
    with pytest.raises(DataError, match=r"1 unknown: network\.decoder\.np\.more"):
        adopted(state | {"decoder.np.more": torch.zeros(1)}, 5)
