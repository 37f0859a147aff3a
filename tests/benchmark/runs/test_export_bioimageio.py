"""Models of bioimage.io: valid descriptions, stored maps equal to those of torch and of the graph."""

from __future__ import annotations

import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from benchmark.commands.cli import main
from benchmark.host.files import file_hash
from benchmark.host.machine import Machine
from benchmark.registry import method_class
from benchmark.results.spec import Overrides, RunSpec
from benchmark.runs.export_bioimageio import LICENCES, RDF, export_bioimageio, tensor_id
from benchmark.runs.run import execute
from benchmark.runs.trained import load_trained
from datamodules.synthetic_sets import Synthetic
from postproc.errors import ConfigError

NAMES = ("unet", "dist")  # padded and valid convolutions


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("zoo")
    Synthetic.write_synthetic(root / "data" / "synthetic", size=96)
    machine = Machine(root / "data", root / "runs", 1, 0, False, wandb="off")
    found = {}
    for name in NAMES:
        options = dict(method_class(name).small)
        spec = RunSpec(name, "synthetic", options=options, overrides=Overrides(steps=1, batch_size=1))
        found[name] = execute(spec, [], machine).store.path
    return found


@pytest.fixture(scope="module")
def zoo(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("out")
    return {
        name: export_bioimageio(run, root / f"zoo-{name}", name="", licence="CC BY 4.0", note="")
        for name, run in runs.items()
    }


def described(folder: Path) -> dict:
    return yaml.safe_load((folder / RDF).read_text())


def files(content: object) -> list[dict]:
    """Return every file that a description names with a hash."""
    if isinstance(content, dict):
        own = [content] if {"source", "sha256"} <= content.keys() else []
        return own + [each for value in content.values() for each in files(value)]
    return [each for value in content for each in files(value)] if isinstance(content, list) else []


@pytest.mark.parametrize("name", NAMES)
def test_the_stored_maps_are_those_of_torch_and_of_the_graph(
    runs: dict[str, Path], zoo: dict[str, Path], name: str
) -> None:
    folder, content = zoo[name], described(zoo[name])
    image = np.load(folder / content["inputs"][0]["test_tensor"]["source"])
    assert image.dtype == np.uint8
    method = load_trained(runs[name]).method.cpu()
    with torch.no_grad():
        (expected,) = method.predict_batch(method.prepare(torch.from_numpy(image)))
        graph = torch.jit.load(folder / content["weights"]["torchscript"]["source"])
        found = graph(torch.from_numpy(image.astype(np.float32)))  # as the preprocessing, ensure_dtype
    assert [each["id"] for each in content["outputs"]] == [tensor_id(key) for key in expected]
    for each, own, other in zip(content["outputs"], expected.values(), found, strict=True):
        stored = np.load(folder / each["test_tensor"]["source"])
        np.testing.assert_allclose(stored[0], own, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(stored, other.numpy(), rtol=1e-4, atol=1e-4)
        assert stored.shape[1] == len(each["axes"][1]["channel_names"])


@pytest.mark.parametrize("name", NAMES)
def test_sizes_are_those_that_the_network_accepts(runs: dict[str, Path], zoo: dict[str, Path], name: str) -> None:
    content, geometry = described(zoo[name]), load_trained(runs[name]).method.geometry
    sizes = [axis["size"] for axis in content["inputs"][0]["axes"][2:]]
    assert sizes[0] == sizes[1]
    for steps in range(3):
        side = sizes[0]["min"] + steps * sizes[0]["step"]
        (axis, _) = content["outputs"][0]["axes"][2:]
        left = geometry.output(side)  # raises if the size is not valid
        assert side + axis["size"]["offset"] == left
        assert left > 2 * axis.get("halo", 0)
    assert np.load(zoo[name] / "test_image.npy").shape[2] != np.load(zoo[name] / "test_image.npy").shape[3]


@pytest.mark.parametrize("name", NAMES)
def test_files_have_their_hashes_and_the_documentation_its_parts(zoo: dict[str, Path], name: str) -> None:
    folder, content = zoo[name], described(zoo[name])
    named = files(content)
    assert len(named) >= 6
    for each in named:
        assert file_hash(folder / each["source"]) == each["sha256"]
    text = (folder / "README.md").read_text()
    assert text.startswith(f"# zoo-{name}\n")
    for part in ("not a medical device", "## validation", "synthetic.train", "licence of the weights: cc by 4.0"):
        assert part in text.lower()
    assert content["license"] == "CC-BY-4.0"
    assert any("doi" in each for each in content["cite"])
    with Image.open(folder / "cover.png") as cover:
        assert cover.size == (512, 256)
    assert (folder / "cover.png").stat().st_size < 500_000


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_description_is_valid(zoo: dict[str, Path], name: str) -> None:
    spec = pytest.importorskip("bioimageio.spec")
    found = spec.load_description(zoo[name] / RDF, perform_io_checks=True)
    assert found.validation_summary.status in ("valid-format", "passed"), found.validation_summary.format()
    assert not isinstance(found, spec.InvalidDescr)


@pytest.mark.slow
def test_the_command_writes_a_valid_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = pytest.importorskip("bioimageio.spec")
    command = ["export", "hover-lite-types", "--to", str(tmp_path / "zoo"), "--format", "bioimageio", "--archive"]
    assert main(command) == 0
    assert "zoo.zip" in capsys.readouterr().out
    with zipfile.ZipFile(tmp_path / "zoo.zip") as archive:
        assert RDF in archive.namelist()
    found = spec.load_description(tmp_path / "zoo.zip", perform_io_checks=True)
    assert found.validation_summary.status in ("valid-format", "passed"), found.validation_summary.format()
    assert "license" not in described(tmp_path / "zoo")  # no SPDX identifier
    assert main(command) == 2
    assert "never overwritten" in capsys.readouterr().err


def test_licences_are_identifiers() -> None:
    found = find_spec("bioimageio.spec") if find_spec("bioimageio") else None  # its import takes seconds
    if found is None or found.origin is None:
        pytest.skip("bioimageio.spec is not installed")
    known = (Path(found.origin).parent / "static" / "spdx_licenses.json").read_text()
    assert [each for each in LICENCES if f'"{each}"' not in known] == []


def test_existing_files_are_never_overwritten(runs: dict[str, Path], zoo: dict[str, Path]) -> None:
    before = {path.name: path.read_bytes() for path in zoo["unet"].iterdir()}
    with pytest.raises(ConfigError, match="never overwritten"):
        export_bioimageio(runs["unet"], zoo["unet"], name="", licence="", note="")
    assert {path.name: path.read_bytes() for path in zoo["unet"].iterdir()} == before
