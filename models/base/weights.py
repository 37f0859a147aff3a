"""Pretrained weights from timm, torchvision or a local file, checked before loading."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from postproc.errors import ConfigError, DataError, one_line

State = dict[str, Tensor]
"""State dictionary: name -> tensor."""
Rules = Sequence[tuple[str, str]]
"""Regular expressions and their replacements, applied in order to every name."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Per-channel mean of the ImageNet training images, in [0, 1]."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Per-channel standard deviation of these images."""
IMAGENET = "imagenet"
NONE = "none"
TORCH_SUFFIXES = (".pth", ".pt", ".tar", ".bin", ".ckpt")
_COUNTER = "num_batches_tracked"
_WRAPPERS = ("state_dict", "desc", "model")


def is_weight_option(name: str) -> bool:
    """Return whether an option of a method names the source of initial weights of an encoder."""
    return name == "weights" or name.endswith("_weights")


@dataclass(frozen=True)
class Pretrained:
    """Weights of a library's network.

    Attributes:
        state: State dictionary with the names of the library.
        mean: Per-channel mean of the training images, in [0, 1].
        std: Per-channel standard deviation of these images.
        origin: Source of the weights, for messages.
    """

    state: State
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    origin: str


def weights_file(weights: str) -> Path:
    """Return the path of the file given as option ``weights``.

    Args:
        weights: Value of the option, neither ``imagenet`` nor ``none``.

    Raises:
        ConfigError: If the file does not exist.
    """
    path = Path(weights).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"weights={weights!r}: no such file. Give {IMAGENET!r}, {NONE!r} or the path of a weights file "
            f"({', '.join((*TORCH_SUFFIXES, '.safetensors', '.npz'))})."
        )
    return path


def from_timm(name: str) -> Pretrained:
    """Return the ImageNet weights of a timm network, from the cache or downloaded.

    Args:
        name: Name of the network with the tag of its weights, for example ``resnetv2_50.a1h_in1k``.

    Raises:
        ConfigError: If the weights are not in the cache and the download fails.
    """
    import timm  # imported here because it is slow to import

    network = _download(f"timm's {name}", lambda: timm.create_model(name, pretrained=True))
    settings = network.pretrained_cfg
    return Pretrained(network.state_dict(), tuple(settings["mean"]), tuple(settings["std"]), f"timm's {name}")


def from_torchvision(name: str, weights: str = "IMAGENET1K_V1") -> Pretrained:
    """Return the weights of a torchvision network, from the cache or downloaded.

    Args:
        name: Name of the network, for example ``vgg16``.
        weights: torchvision's name of the weights of this network.

    Raises:
        ConfigError: If the weights are not in the cache and the download fails.
    """
    import torchvision

    entry = torchvision.models.get_model_weights(name)[weights]
    origin = f"torchvision's {name} ({weights})"
    state = _download(origin, lambda: entry.get_state_dict(progress=False, check_hash=True))
    preset = entry.transforms()
    return Pretrained(dict(state), tuple(preset.mean), tuple(preset.std), origin)


def _download(origin: str, fetch: Callable[[], Any]) -> Any:
    try:
        return fetch()
    except (OSError, RuntimeError) as error:  # raised by urllib and huggingface_hub without a network connection
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"weights='imagenet': {origin} could not be downloaded ({reason}). Download them on a computer with a "
            "network connection and give the file (weights=PATH), or start from random weights (weights=none)."
        ) from error


def initial_state(weights: str, library: Callable[[], Pretrained]) -> tuple[State, str]:
    """Return the weights that the option ``weights`` names, and their source for messages.

    Args:
        weights: ``imagenet``, or the path of a file.
        library: Returns the weights for ``imagenet``.

    Raises:
        ConfigError: If the weights are unavailable or the file does not exist.
        DataError: If the file cannot be read.
    """
    if weights == IMAGENET:
        pretrained = library()
        return pretrained.state, pretrained.origin
    path = weights_file(weights)
    return read_state(path), str(path)


def check_width(weights: str, features: int, expected: int, network: str) -> None:
    """Check that a network is as wide as the pretrained network whose weights it receives.

    Args:
        weights: Option ``weights``.
        features: Option ``features``: channels of the first convolution.
        expected: Channels of the first convolution of the pretrained network.
        network: Name of the pretrained network.

    Raises:
        ConfigError: If the widths differ.
    """
    if features != expected:
        raise ConfigError(
            f"features={features}: weights={weights!r} are those of {network}, which has features={expected}. "
            f"Give features={expected}, or start from random weights (weights=none)."
        )


def read_state(path: Path) -> State:
    """Read a state dictionary from a file without executing code from it.

    Args:
        path: File of ``torch.save`` (.pth, .pt, .tar, .bin, .ckpt), .safetensors, or .npz. The state may be nested
            under ``state_dict``, ``desc`` or ``model``.

    Raises:
        DataError: If the file is unreadable, contains objects other than tensors, or has an unknown suffix.
    """
    return _unwrap(_read_content(path), path)


def read_checkpoint(path: Path) -> tuple[State, dict[str, Any]]:
    """Read a state dictionary, and the other content of the file if it is a checkpoint.

    Args:
        path: As for `read_state`.

    Returns:
        The state, and the content by name (``hyper_parameters``, ``magnification`` and others of a Lightning
        checkpoint); empty for a plain state dictionary.

    Raises:
        DataError: As `read_state`.
    """
    content = _read_content(path)
    state = _unwrap(content, path)
    rest = {str(k): v for k, v in content.items() if k not in _WRAPPERS} if "state_dict" in content else {}
    return state, rest


def _read_content(path: Path) -> Any:
    suffix = path.suffix.lower()
    readers: dict[str, Callable[[Path], Any]] = {".safetensors": load_file, ".npz": _read_npz}
    readers |= dict.fromkeys(TORCH_SUFFIXES, _read_torch)
    if suffix not in readers:
        raise DataError(f"{path}: unknown suffix {suffix!r} for a weights file. Choices: {', '.join(readers)}.")
    try:
        return readers[suffix](path)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path}: refused. It is damaged or contains objects other than tensors, which could run code when "
            "loaded. Save only its state_dict(), or use .safetensors."
        ) from error
    except Exception as error:  # damaged files raise errors of every kind, depending on the bytes
        raise DataError(
            f"{path}: cannot be read as {suffix} ({one_line(str(error))}). Download the file again."
        ) from error


def _read_torch(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _read_npz(path: Path) -> State:
    with np.load(path, allow_pickle=False) as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


def _unwrap(content: Any, path: Path) -> State:
    for key in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise DataError(f"{path}: contains no state dictionary (names and tensors). Save the network's state_dict().")
    unusable = [str(name) for name, value in content.items() if not _is_plain(value)]
    if unusable:
        raise DataError(
            f"{path}: {len(unusable)} tensors are sparse, quantised, complex or without values: "
            f"{', '.join(unusable[:5])}. Save dense tensors of real numbers."
        )
    # DataParallel adds a prefix to the names.
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def _is_plain(value: Tensor) -> bool:
    return value.layout == torch.strided and not (value.is_quantized or value.is_complex() or value.is_meta)


def rename(state: State, rules: Rules, drop: Iterable[str] = ()) -> State:
    """Return a state dictionary with other names.

    Args:
        state: State dictionary.
        rules: Regular expressions and their replacements, applied in order.
        drop: Prefixes of names to leave out, for example those of a classifier.
    """
    unwanted = tuple(drop)
    renamed: State = {}
    for name, value in state.items():
        if unwanted and name.startswith(unwanted):
            continue
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


def load_exactly(module: nn.Module, state: State, origin: str) -> None:
    """Load a state whose names and shapes must match the module exactly; batch-norm counters may be missing.

    Args:
        module: Module that receives the weights.
        state: Tensors by the names of the module.
        origin: Source of the weights, for the message.

    Raises:
        DataError: If tensors are missing, unknown, or of another shape or kind of number. The message names them, and
            nothing is loaded.
    """
    expected = module.state_dict()
    missing = [name for name in expected if name not in state and not name.endswith(_COUNTER)]
    unknown = [name for name in state if name not in expected]
    shapes = [
        f"{name} {tuple(value.shape)} instead of {tuple(expected[name].shape)}"
        for name, value in state.items()
        if name in expected and value.shape != expected[name].shape
    ]
    kinds = [
        f"{name} {value.dtype} instead of {expected[name].dtype}"
        for name, value in state.items()
        if name in expected and value.is_floating_point() != expected[name].is_floating_point()
    ]
    problems = [
        f"{len(names)} {kind}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
        for kind, names in (
            ("missing", missing),
            ("unknown", unknown),
            ("of another shape", shapes),
            ("of another type", kinds),
        )
        if names
    ]
    if problems:
        raise DataError(
            f"{origin}: the weights do not fit {type(module).__name__}: {'; '.join(problems)}. "
            "Check that they belong to this network and its options."
        )
    module.load_state_dict(state, strict=False)


@torch.no_grad()
def fold_normalisation(
    convolution: nn.Conv2d,
    norm: nn.BatchNorm2d,
    mean: Sequence[float],
    std: Sequence[float],
) -> None:
    """Change a first convolution to take images in [0, 1] instead of standardised images.

    The scale is folded into the kernel, and the shift into the running mean of the following batch normalisation. The
    output is exactly the same, except where the convolution pads with zeros.

    Args:
        convolution: First convolution, without bias.
        norm: Batch normalisation after it.
        mean: Per-channel mean that was subtracted from the images.
        std: Per-channel standard deviation by which the images were divided.
    """
    weight = convolution.weight
    scaled = weight / weight.new_tensor(std)[None, :, None, None]
    shift = (scaled * weight.new_tensor(mean)[None, :, None, None]).sum(dim=(1, 2, 3))
    weight.copy_(scaled)
    assert norm.running_mean is not None
    norm.running_mean.add_(shift)
