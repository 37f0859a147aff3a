"""`nucbench export --format onnx|torchscript`: the network as one graph that runs without nucbench."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning.core.module import _jit_is_scripting
from torch import Tensor, nn

from benchmark.forward.network import Network
from benchmark.host.files import write_json
from benchmark.inference.trained import Trained
from benchmark.results.known_models import find_model
from benchmark.results.trained_images import TRAINED_IMAGES
from benchmark.runs.trained import load_trained
from models.base.method import NucleiMethod
from postproc.errors import ConfigError, one_line

GraphFormat = Literal["onnx", "torchscript"]
GRAPHS: dict[GraphFormat, str] = {"onnx": "model.onnx", "torchscript": "model.pt"}
"""Format -> name of the graph file."""
METADATA = "metadata.json"
"""Description of the graph; the graph contains it too (ONNX: metadata property, TorchScript: extra file)."""
INPUT = "image"
OPSET = 18
"""Version of ONNX's operators."""
TOLERANCE = 1e-4
"""Largest difference from the maps of torch, relative to the largest value of a map but at least to 1."""
EXAMPLE = 128
"""Side in pixels of the output for which the graph is recorded, unless the network needs more."""

Runner = Callable[[NDArray[np.float32]], list[NDArray[np.float32]]]
"""Runs a graph: float32 (B, 3, H, W) in 0..255 -> its maps."""


class Graph(nn.Module):
    """A dense method from RGB values to activated maps.

    Args:
        method: Method in eval mode.
    """

    def __init__(self, method: NucleiMethod) -> None:
        super().__init__()
        self.method = method
        self.names: tuple[str, ...] = ()
        self.register_buffer("mean", torch.tensor(method.mean)[None, :, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(method.std)[None, :, None, None], persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the maps that the codec decodes, in the order of `names`, of RGB values 0..255, (B, 3, H, W)."""
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        maps = self.method.activate(self.method((image / 255 - mean) / std))
        self.names = tuple(maps)
        return tuple(value.float() for value in maps.values())


def export_graph(source: Path, to: Path, format: GraphFormat, *, name: str, licence: str, note: str) -> Path:
    """Write the network of a trained dense method as a graph with its description.

    The graph is run at a size and batch other than those it was recorded with, and compared with torch, before anything
    is written.

    Args:
        source: Run directory, model folder or name of a shipped model.
        to: Output folder; must be missing or empty.
        format: Format of the graph.
        name: Name of the model; empty = name of the folder.
        licence: Licence of the weights; empty = left out.
        note: Sentence for the description; empty = left out.

    Returns:
        The folder, with the graph, ``metadata.json`` and, if the source has it, ``trained_images.json``.

    Raises:
        ConfigError: If the folder is not empty, a package is missing, or the method has no such graph; one line says
            why.
    """
    check_target(to)
    missing = [each for each in ("onnx", "onnxruntime") if format == "onnx" and importlib.util.find_spec(each) is None]
    if missing:
        raise ConfigError(f"--format onnx needs {' and '.join(missing)}: pip install -e '.[export]'")
    trained = load_trained(source)
    method = trained.method.cpu().float().eval()
    check_exportable(method)
    graph = Graph(method).eval()
    side, larger = _sides(method)
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=f".{to.name}.") as temporary, torch.no_grad():
        folder = Path(temporary) / to.name
        folder.mkdir()
        example = _image((1, side, side))
        channels = [int(value.shape[1]) for value in graph(example)]
        metadata = _metadata(trained, graph.names, channels)
        metadata |= {"name": name or to.name} | ({"licence": licence} if licence else {})
        metadata |= {"note": note} if note else {}
        file = folder / GRAPHS[format]
        write = _write_onnx if format == "onnx" else _write_torchscript
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # constants of the recording, which `_compare` tests
                run = write(graph, example, file, metadata)
            _compare(graph, run, _image((2, larger, side)))
        except ConfigError as error:
            raise ConfigError(f"{method.card.name} cannot be exported as {format}: {error}") from None
        except Exception as error:  # torch, onnx and onnxruntime raise many types for what they do not support
            reason = one_line(str(error))[:200]
            raise ConfigError(f"{method.card.name} cannot be exported as {format}: {reason}") from error
        write_json(folder / METADATA, metadata)
        hashes = (find_model(source) or source) / TRAINED_IMAGES
        if hashes.is_file():
            shutil.copyfile(hashes, folder / TRAINED_IMAGES)
        if to.exists():
            to.rmdir()
        shutil.move(folder, to)
    return to


def check_target(to: Path) -> None:
    """Raise a ConfigError if an output folder is a file or not empty."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConfigError(f"{to} exists; existing files are never overwritten. Give another folder.")


def check_exportable(method: NucleiMethod) -> None:
    """Check that a method is one dense network whose input does not depend on the rest of the image.

    Raises:
        ConfigError: If it is not; one line says why.
    """
    name, kind = method.card.name, type(method)
    if not method.card.trained:
        raise ConfigError(f"{name} cannot be exported as a graph: it is a classical pipeline without a network")
    if kind.predict_batch is not Network.predict_batch:
        raise ConfigError(f"{name} cannot be exported as a graph: its outputs are detections instead of dense maps")
    if method.own_statistics:
        raise ConfigError(
            f"{name} cannot be exported as a graph: it standardises a tile by statistics of the whole image, which a "
            "graph of tiles does not see"
        )


def _sides(method: NucleiMethod) -> tuple[int, int]:
    geometry = method.geometry
    side = geometry.valid_input(EXAMPLE + 2 * geometry.margin)
    return side, geometry.valid_input(side + 1)


def _image(shape: tuple[int, int, int]) -> Tensor:
    batch, height, width = shape
    values = np.random.default_rng(0).integers(0, 256, (batch, 3, height, width))
    return torch.from_numpy(values.astype(np.float32))


def _metadata(trained: Trained, names: tuple[str, ...], channels: list[int]) -> dict[str, Any]:
    method, geometry = trained.method, trained.method.geometry
    return {
        "method": method.card.name,
        "input": {
            "name": INPUT,
            "shape": ["batch", 3, "height", "width"],
            "type": "float32",
            "values": "RGB, 0 to 255",
            "standardised_in_graph": {"scale": 1 / 255, "mean": list(method.mean), "std": list(method.std)},
            "valid_sides": {
                "minimum": geometry.minimum,
                "multiple": geometry.multiple,
                "remainder": geometry.remainder,
            },
        },
        "outputs": [
            {"name": name, "shape": ["batch", count, "height", "width"], "type": "float32"}
            for name, count in zip(names, channels, strict=True)
        ],
        "margin": geometry.margin,
        "context": geometry.context,
        "types": list(method.task.types),
        "mpp": method.task.mpp,
        "magnification": trained.magnification,
        "parameters": {key: dataclasses.asdict(value) for key, value in trained.params.items()},
        "trained_on": list(trained.trained_on),
    }


def _write_onnx(graph: Graph, example: Tensor, file: Path, metadata: dict[str, Any]) -> Runner:
    import onnx
    import onnxruntime

    axes = {0: "batch", 2: "height", 3: "width"}
    outputs = {name: {0: "batch", 2: f"{name}_height", 3: f"{name}_width"} for name in graph.names}
    torch.onnx.export(
        graph,
        (example,),
        str(file),
        dynamo=False,  # the other exporter needs minutes and further packages for these networks
        opset_version=OPSET,
        input_names=[INPUT],
        output_names=list(graph.names),
        dynamic_axes={INPUT: axes, **outputs},
    )
    model = onnx.load(str(file))
    onnx.helper.set_model_props(model, {"nucbench": json.dumps(metadata)})
    onnx.checker.check_model(model)
    onnx.save(model, str(file))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda image: [np.asarray(value, np.float32) for value in session.run(None, {INPUT: image})]


def _write_torchscript(graph: Graph, example: Tensor, file: Path, metadata: dict[str, Any]) -> Runner:
    with _jit_is_scripting():  # as LightningModule.to_torchscript: a module without a trainer can be traced
        traced = torch.jit.trace(graph, (example,), check_trace=False)  # type: ignore[no-untyped-call]
    torch.jit.save(traced, str(file), _extra_files={METADATA: json.dumps(metadata)})
    loaded = torch.jit.load(str(file))  # type: ignore[no-untyped-call]
    return lambda image: [value.numpy() for value in loaded(torch.from_numpy(image))]


def _compare(graph: Graph, run: Runner, image: Tensor) -> None:
    """Compare a graph with torch.

    Raises:
        ConfigError: If the maps differ in number, size or value.
    """
    expected, found = graph(image), run(image.numpy())
    for name, own, other in zip(graph.names, expected, found, strict=True):
        if tuple(own.shape) != other.shape:
            raise ConfigError(f"the size of its map {name} is fixed: {list(other.shape)} instead of {list(own.shape)}")
        difference = float(np.abs(own.numpy() - other).max()) / max(1.0, float(own.abs().max()))
        if not difference <= TOLERANCE:
            raise ConfigError(f"its map {name} differs from torch by {difference:.1g} at another image size")


__all__ = [
    "EXAMPLE", "GRAPHS", "INPUT", "METADATA", "TOLERANCE", "Graph", "GraphFormat", "check_exportable", "check_target",
    "export_graph",
]  # fmt: skip
