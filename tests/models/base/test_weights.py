from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from models.base.weights import (
    State,
    fold_normalisation,
    from_timm,
    from_torchvision,
    load_exactly,
    read_state,
    rename,
    weights_file,
)
from models.networks.hovernet import HoVerNetwork, load_pretrained
from postproc.errors import ConfigError, DataError

BRANCHES = {"np": 2, "hv": 2, "tp": 5}
SMALL = 8


class RunsCode:
    """Creates a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def layer() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def save(state: State, path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file({name: value.contiguous() for name, value in state.items()}, path)
    elif path.suffix == ".npz":
        np.savez(path, **{name: value.numpy() for name, value in state.items()})
    else:
        torch.save(state, path)
    return path


def randomise(module: nn.Module, seed: int) -> None:
    """Draw every parameter and every running statistic anew, so that swapped tensors show."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in module.state_dict().values():
        if tensor.ndim > 1:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * (2 / tensor[0].numel()) ** 0.5)
        elif tensor.is_floating_point():
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))


@pytest.mark.parametrize("suffix", [".pth", ".tar", ".safetensors", ".npz"])
def test_a_saved_state_is_read_back(layer: nn.Sequential, tmp_path: Path, suffix: str) -> None:
    state = read_state(save(layer.state_dict(), tmp_path / f"weights{suffix}"))
    assert set(state) == set(layer.state_dict())
    for name, value in layer.state_dict().items():
        torch.testing.assert_close(state[name], value)


@pytest.mark.parametrize("key", ["desc", "state_dict", "model"])
def test_wrapped_and_prefixed_states_are_opened(layer: nn.Sequential, tmp_path: Path, key: str) -> None:
    wrapped = {key: {f"module.{name}": value for name, value in layer.state_dict().items()}, "epoch": 3}
    torch.save(wrapped, tmp_path / "weights.tar")
    assert set(read_state(tmp_path / "weights.tar")) == set(layer.state_dict())


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": RunsCode(tmp_path / "ran")}, tmp_path / "weights.pth")
    with pytest.raises(DataError, match=r"weights\.pth: refused"):
        read_state(tmp_path / "weights.pth")
    assert not (tmp_path / "ran").exists()


def test_pickled_arrays_in_an_npz_are_not_run(tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", x=np.array([RunsCode(tmp_path / "ran")], dtype=object))
    with pytest.raises(DataError, match=r"weights\.npz"):
        read_state(tmp_path / "weights.npz")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz"])
def test_a_damaged_file_is_named(layer: nn.Sequential, tmp_path: Path, suffix: str) -> None:
    path = save(layer.state_dict(), tmp_path / f"weights{suffix}")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=f"weights{suffix}"):
        read_state(path)


def test_other_content_and_suffixes_are_errors(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "loss": 0.5}, tmp_path / "weights.pth")
    with pytest.raises(DataError, match="no state dictionary"):
        read_state(tmp_path / "weights.pth")
    (tmp_path / "weights.h5").write_bytes(b"x")
    with pytest.raises(DataError, match=r"'\.h5'.*\.safetensors"):
        read_state(tmp_path / "weights.h5")
    with pytest.raises(ConfigError, match="'imagenet', 'none' or the path"):
        weights_file("imagnet")


def test_mismatches_are_named_and_nothing_is_loaded(layer: nn.Sequential) -> None:
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    state = {name: value + 1 for name, value in before.items()}
    state["0.kernel"] = state.pop("0.weight")
    state["1.bias"] = torch.zeros(7)
    with pytest.raises(DataError) as caught:
        load_exactly(layer, state, "x.pth")
    message = str(caught.value)
    assert message.startswith("x.pth")
    for part in ("1 missing: 0.weight", "1 unknown: 0.kernel", r"1.bias (7,) instead of (4,)"):
        assert part in message
    for name, value in layer.state_dict().items():
        torch.testing.assert_close(value, before[name])


def test_batch_norm_counters_may_be_missing(layer: nn.Sequential) -> None:
    state = {name: value + 1 for name, value in layer.state_dict().items() if "num_batches" not in name}
    load_exactly(layer, state, "x.pth")
    torch.testing.assert_close(layer[0].weight, state["0.weight"])


def test_rename_applies_rules_in_turn_and_drops() -> None:
    state = {"a.x": torch.zeros(1), "fc.x": torch.zeros(1)}
    assert list(rename(state, ((r"^a", "b"), (r"^b\.x", "c")), drop=("fc.",))) == ["c"]


@pytest.mark.parametrize("training", [False, True])
def test_folded_normalisation_gives_the_same_output(layer: nn.Sequential, training: bool) -> None:
    convolution = nn.Conv2d(3, 4, 3, bias=False)
    norm = nn.BatchNorm2d(4)
    randomise(norm, 1)
    convolution.train(training)
    norm.train(training)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.5)
    images = torch.rand(2, 3, 9, 9)
    standardised = (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    with torch.no_grad():
        expected = norm(convolution(standardised))
        randomise(norm, 1)
        fold_normalisation(convolution, norm, mean, std)
        torch.testing.assert_close(norm(convolution(images)), expected, atol=1e-5, rtol=1e-5)


def test_timm_without_network_is_an_error_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match=r"weights=PATH.*weights=none"):
        from_timm("resnetv2_50.a1h_in1k")


def test_torchvision_without_network_is_an_error_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens on the discard port
    with pytest.raises(ConfigError, match=r"torchvision's vgg16.*weights=none"):
        from_torchvision("vgg16")


# ---- HoVer-Net's files
# ------------------------------------------------------------------------------------------


def official_names() -> dict[str, str]:
    """Every module of the published checkpoints that holds tensors -> the module here."""
    names = {"conv0./": "encoder.stem.conv", "conv0.bn": "encoder.stem.norm", "conv_bot": "bottleneck"}
    for level, units in enumerate((3, 4, 6, 3)):
        there, here = f"d{level}", f"encoder.levels.{level}"
        names |= {f"{there}.shortcut": f"{here}.shortcut", f"{there}.blk_bna.bn": f"{here}.norm"}
        for unit in range(units):
            pairs = {name: name for name in ("conv1", "conv2", "conv3")}
            pairs |= {"conv1/bn": "norm2", "conv2/bn": "norm3"}
            if unit:
                pairs["preact/bn"] = "norm1"
            names |= {f"{there}.units.{unit}.{a}": f"{here}.units.{unit}.{b}" for a, b in pairs.items()}
    for branch in BRANCHES:
        for stage, name, units in (("u3", "deep", 8), ("u2", "shallow", 4)):
            there, here = f"decoder.{branch}.{stage}", f"decoders.{branch}.{name}"
            names |= {f"{there}.conva": f"{here}.reduce", f"{there}.convf": f"{here}.expand"}
            names[f"{there}.dense.blk_bna.bn"] = f"{here}.dense.norm"
            pairs = {"preact_bna/bn": "norm1", "conv1": "conv1", "conv1/bn": "norm2", "conv2": "conv2"}
            for unit in range(units):
                names |= {f"{there}.dense.units.{unit}.{a}": f"{here}.dense.units.{unit}.{b}" for a, b in pairs.items()}
        names[f"decoder.{branch}.u1.conva"] = f"decoders.{branch}.last"
        names |= {f"decoder.{branch}.u0.bn": f"decoders.{branch}.norm"}
        names |= {f"decoder.{branch}.u0.conv": f"decoders.{branch}.out"}
    return names


def official_state(network: HoVerNetwork) -> State:
    """The network's tensors under the published names."""
    there = {here: name for name, here in official_names().items()}
    renamed = {}
    for name, value in network.state_dict().items():
        module, _, tensor = name.rpartition(".")
        renamed[f"{there[module]}.{tensor}"] = value.clone()
    return renamed


def test_a_published_checkpoint_fills_the_whole_network(tmp_path: Path) -> None:
    source, network = (HoVerNetwork(BRANCHES, fast=True, features=SMALL) for _ in range(2))
    randomise(source, 2)
    state = official_state(source)
    assert len(state) == len(source.state_dict())
    state["upsample2x.unpool_mat"] = torch.ones(2, 2)
    torch.save({"desc": state}, tmp_path / "published.tar")
    load_pretrained(network, str(tmp_path / "published.tar"))
    expected = source.state_dict()
    for name, value in network.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_a_published_imagenet_start_fills_the_encoder(tmp_path: Path) -> None:
    source, network = (HoVerNetwork(BRANCHES, features=SMALL) for _ in range(2))
    decoder = network.decoders["np"].out.weight.clone()
    randomise(source, 2)
    encoder = ("conv0", "d0", "d1", "d2", "d3")
    state = {name: value for name, value in official_state(source).items() if name.startswith(encoder)}
    torch.save({"desc": state}, tmp_path / "start.tar")
    load_pretrained(network, str(tmp_path / "start.tar"))
    expected = source.encoder.state_dict()
    for name, value in network.encoder.state_dict().items():
        assert torch.equal(value, expected[name]), name
    torch.testing.assert_close(network.decoders["np"].out.weight, decoder)


def test_a_checkpoint_with_other_branches_is_refused(tmp_path: Path) -> None:
    torch.save(official_state(HoVerNetwork(BRANCHES, features=SMALL)), tmp_path / "published.pth")
    with pytest.raises(DataError, match=r"published\.pth.*unknown: decoders\.tp"):
        load_pretrained(HoVerNetwork({"np": 2, "hv": 2}, features=SMALL), str(tmp_path / "published.pth"))


def test_timms_network_and_the_encoder_give_the_same_features(tmp_path: Path) -> None:
    import timm

    reference = timm.create_model("resnetv2_50").eval()
    randomise(reference, 4)
    save_file(reference.state_dict(), tmp_path / "resnetv2_50.safetensors")
    network = HoVerNetwork({"np": 2}).eval()
    load_pretrained(network, str(tmp_path / "resnetv2_50.safetensors"))

    # What HoVer-Net changes: stem of stride 1 without padding or pooling; TensorFlow's padding.
    reference.stem.conv.stride, reference.stem.conv.padding = (1, 1), (0, 0)
    for stage in list(reference.stages)[1:]:
        stage.blocks[0].conv2.padding = (0, 0)
        stage.blocks[0].conv2.register_forward_pre_hook(
            lambda _module, args: (nn.functional.pad(args[0], (0, 1, 0, 1)),)
        )
    ends = [*(stage.blocks[0].norm1 for stage in list(reference.stages)[1:]), reference.norm]
    images = torch.rand(1, 3, 38, 38, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        x = reference.stem.conv((images - 0.5) / 0.5)
        features = network.encoder(images)
        for stage, end, feature in zip(reference.stages, ends, features, strict=True):
            x = stage(x)
            torch.testing.assert_close(feature, end(x), rtol=1e-3, atol=1e-4 * float(feature.abs().max()))


@pytest.mark.parametrize(
    "value",
    [torch.eye(3).to_sparse(), torch.zeros(3, dtype=torch.complex64), torch.zeros(3, device="meta")],
    ids=["sparse", "complex", "meta"],
)
def test_tensors_without_plain_values_are_refused(value: torch.Tensor, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1), "odd": value}, tmp_path / "weights.pt")
    with pytest.raises(DataError, match=r"weights\.pt: 1 tensors are sparse.*: odd"):
        read_state(tmp_path / "weights.pt")


def test_files_that_are_something_else_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("hello")
    np.savez(tmp_path / "words.npz", a=np.array(["x"]))
    for name in ("text.pth", "words.npz"):
        with pytest.raises(DataError, match=rf"{name}: (cannot be read|refused)"):
            read_state(tmp_path / name)


def test_whole_numbers_are_no_kernels(layer: nn.Sequential) -> None:
    state = {name: value.int() for name, value in layer.state_dict().items()}
    with pytest.raises(DataError, match=r"of another type: 0\.weight torch\.int32 instead of torch\.float32"):
        load_exactly(layer, state, "file")
