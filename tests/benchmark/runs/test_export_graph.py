"""Graphs for other programs: equal to torch at two sizes, with their description; methods without one say why."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark.commands.cli import main
from benchmark.host.machine import Machine
from benchmark.registry import METHODS, method_class
from benchmark.results.spec import Overrides, RunSpec
from benchmark.results.trained_images import TRAINED_IMAGES
from benchmark.runs.export_graph import GRAPHS, METADATA, check_exportable, export_graph
from benchmark.runs.run import execute
from benchmark.runs.trained import load_trained
from datamodules.synthetic_sets import Synthetic
from models.base.method import NucleiMethod, Task
from postproc.errors import ConfigError

REFUSED = {"mask-rcnn": "detections", "kinet": "statistics", "self-supervised": "statistics", "fiji": "classical"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Short trainings of a method with padded and of one with valid convolutions."""
    root = tmp_path_factory.mktemp("graphs")
    Synthetic.write_synthetic(root / "data" / "synthetic", size=96)
    machine = Machine(root / "data", root / "runs", 1, 0, False, wandb="off")
    found = {}
    for name in ("unet", "dist"):
        options = dict(method_class(name).small)
        spec = RunSpec(name, "synthetic", options=options, overrides=Overrides(steps=1, batch_size=1))
        found[name] = execute(spec, [], machine).store.path
    return found


def run_graph(folder: Path, kind: str, image: np.ndarray) -> list[np.ndarray]:
    if kind == "torchscript":
        loaded = torch.jit.load(folder / GRAPHS["torchscript"])
        with torch.no_grad():
            return [value.numpy() for value in loaded(torch.from_numpy(image.astype(np.float32)))]
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(folder / GRAPHS["onnx"], providers=["CPUExecutionProvider"])
    return list(session.run(None, {"image": image.astype(np.float32)}))


def expected_maps(method: NucleiMethod, image: np.ndarray) -> dict[str, np.ndarray]:
    with torch.no_grad():
        (maps,) = method.cpu().predict_batch(method.prepare(torch.from_numpy(image)))
    return dict(maps)


def check_parity(source: Path, folder: Path, kind: str) -> None:
    method = load_trained(source).method
    metadata = json.loads((folder / METADATA).read_text())
    sides = metadata["input"]["valid_sides"]
    first = method.geometry.valid_input(160 + 2 * method.geometry.margin)
    second = method.geometry.valid_input(first + 40)
    assert {first % sides["multiple"], second % sides["multiple"]} == {sides["remainder"]}
    for size in ((first, first), (second, first)):
        image = np.random.default_rng(1).integers(0, 256, (1, 3, *size), dtype=np.uint8)
        own, found = expected_maps(method, image), run_graph(folder, kind, image)
        assert [each["name"] for each in metadata["outputs"]] == list(own)
        for value, other in zip(own.values(), found, strict=True):
            assert value.shape == other.shape[1:]
            np.testing.assert_allclose(other[0], value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", sorted(GRAPHS))
@pytest.mark.parametrize("name", ["unet", "dist"])
def test_a_graph_gives_the_maps_of_torch(runs: dict[str, Path], tmp_path: Path, name: str, kind: str) -> None:
    if kind == "onnx":
        pytest.importorskip("onnx")
    folder = export_graph(runs[name], tmp_path / "graph", kind, name="", licence="CC0", note="")
    check_parity(runs[name], folder, kind)
    assert (folder / TRAINED_IMAGES).is_file()
    metadata = json.loads((folder / METADATA).read_text())
    assert (metadata["name"], metadata["licence"], metadata["trained_on"]) == ("graph", "CC0", ["synthetic.train"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(GRAPHS))
def test_the_default_model_is_exported_on_the_command_line(tmp_path: Path, kind: str) -> None:
    if kind == "onnx":
        pytest.importorskip("onnx")
    assert main(["export", "default", "--to", str(tmp_path / "graph"), "--format", kind]) == 0
    check_parity(Path("default"), tmp_path / "graph", kind)


@pytest.mark.parametrize("name", REFUSED)
def test_methods_without_a_dense_graph_say_why(name: str) -> None:
    kind = method_class(name)
    method = kind(Task(("a",), 0.25), **kind.small)
    with pytest.raises(ConfigError, match=rf"{name} cannot be exported as a graph: .*{REFUSED[name]}"):
        check_exportable(method)


def test_refusals_exit_with_2(runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "graph"
    command = ["export", str(runs["unet"]), "--to", str(out), "--format", "torchscript"]
    assert main([*command, "--half"]) == 2
    assert "--half applies to --format folder" in capsys.readouterr().err
    out.mkdir()
    (out / "mine").touch()
    assert main(command) == 2
    assert "never overwritten" in capsys.readouterr().err


def test_every_refused_method_is_registered() -> None:
    assert set(REFUSED) <= set(METHODS)
