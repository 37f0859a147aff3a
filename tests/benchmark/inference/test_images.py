"""Decoding runs in other processes while the network goes on, and large files take the way of large images."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from benchmark.forward.maps import InferenceSettings, predict_maps
from benchmark.forward.network import Outputs
from benchmark.host.machine import Machine
from benchmark.inference import datasets as predict
from benchmark.inference import images as predict_images
from benchmark.inference.datasets import predict_dataset
from benchmark.results.run import Run
from benchmark.results.spec import RunSpec
from benchmark.results.store import RunStore, read_instances
from benchmark.runs.trained import load_trained
from datamodules.reading.files import read_instances as read_labels
from datamodules.sources import ImageSet
from datamodules.synthetic.images import generate
from datamodules.synthetic_sets import Synthetic
from models.base.method import Batch, NucleiMethod, Task
from models.dist import DIST, OFFSET, SCALE
from postproc.codecs.distance import DistanceCodec
from postproc.windows import Geometry
from tests.helpers.runs import sources_of

WAITING_CODEC = '''
import os, time
from pathlib import Path
from postproc.codecs.distance import DistanceCodec

class WaitingCodec(DistanceCodec):
    """Decodes the first image only once the network has begun another."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def decode(self, maps, params):
        folder = Path(self.folder)
        deadline = time.monotonic() + 120
        while len(list(folder.glob("network-*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        seen = len(list(folder.glob("network-*")))
        (folder / f"decoded-{time.monotonic_ns()}").write_text(f"{os.getpid()} {seen}")
        return super().decode(maps, params)
'''


class Noting(NucleiMethod):
    """Notes each image that it begins."""

    def __init__(self, codec: DistanceCodec, folder: Path) -> None:
        super().__init__(Task())
        self.codecs = {"noting": codec}
        self.geometry = Geometry()
        self.folder = folder
        self.head = torch.nn.Conv2d(3, 1, 1)

    def forward(self, images: torch.Tensor) -> Outputs:
        (self.folder / f"network-{len(list(self.folder.glob('network-*')))}").touch()
        return {"distance": self.head(images)}

    def loss(self, outputs: Outputs, batch: Batch) -> dict[str, torch.Tensor]:
        raise NotImplementedError

    def activate(self, outputs: Outputs) -> Outputs:
        return outputs


@pytest.mark.slow
def test_the_network_goes_on_while_images_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "waiting_codec.py").write_text(WAITING_CODEC)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(predict, "FEW_IMAGES", 2)
    codec = importlib.import_module("waiting_codec").WaitingCodec(str(tmp_path))
    Synthetic.write_synthetic(tmp_path / "data", size=64)
    data = Synthetic(tmp_path / "data")
    store = RunStore(tmp_path / "runs", "a/b/c")
    method = Noting(codec, tmp_path).eval()
    spec = RunSpec("dist", "synthetic", precision="32-true")
    run = Run(spec, store, method, sources_of(data), Machine(tmp_path, tmp_path, workers=1, progress=False))
    predict_dataset(run, ImageSet(data, "test"), {"noting": codec.defaults()})
    notes = [path.read_text().split() for path in sorted(tmp_path.glob("decoded-*"))]
    assert len(notes) == len(data.select("test")) == 4
    assert int(notes[0][1]) >= 2  # the network was at the second image before the first was decoded
    assert {int(pid) for pid, _ in notes}.isdisjoint({os.getpid()})
    for record in data.select("test"):
        stored = read_instances(store.prediction_file(data.card.name, "noting", record.image_id))
        maps = predict_maps(method, data.read(record).image, InferenceSettings(precision="32-true"))
        found = DistanceCodec().decode(maps, codec.defaults())
        np.testing.assert_array_equal(stored.labels, found.labels)


@pytest.mark.skipif(shutil.which("g++") is None or sys.platform != "linux", reason="torch.compile needs a compiler")
@pytest.mark.slow
def test_a_compiled_network_gives_the_same_maps(tmp_path: Path) -> None:
    image, _ = generate((96, 64), np.random.default_rng(0))
    method = Noting(DistanceCodec(), tmp_path).eval()
    method.forward = lambda images: {"distance": method.head(images).relu() * 2}  # type: ignore[method-assign]
    plain = predict_maps(method, image, InferenceSettings(precision="32-true", tile=32))["distance"]
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    settings = InferenceSettings(precision="32-true", tile=32, compile=True)
    for _ in range(2):
        compiled = predict_maps(method, image, settings)["distance"]
        np.testing.assert_allclose(compiled, plain, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1  # six tiles of two passes, one size


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of an untrained network."""
    root = tmp_path_factory.mktemp("runs")
    spec = RunSpec("dist", "synthetic", options={"features": 4})
    store = RunStore.create(root, spec)
    torch.manual_seed(0)
    method = DIST(Task(), features=4)
    image, _ = generate((180, 200), np.random.default_rng(2))
    maps = predict_maps(method.eval(), image, InferenceSettings(precision="32-true"))["distance"]
    with torch.no_grad():  # make the untrained network find a nucleus here and there
        gain, usual = 3 / float(maps.std()), float(np.quantile(maps, 0.8))
        method.head.weight *= gain
        method.head.bias.mul_(gain).add_((gain * (OFFSET - usual) + 0.5 - OFFSET) / SCALE)
    store.checkpoints.mkdir(parents=True)
    torch.save(method.state_dict(), store.weights_file)
    params = {"dist": {"p1": 0.0, "p2": 0.5}, "dist-p1-1": {"p1": 1.0, "p2": 0.5}}
    store.params_file.write_text(json.dumps({variant: {"params": values} for variant, values in params.items()}))
    record = {"protocol": "paper", "seed": 0, "magnification": 40.0, "task": {"types": [], "mpp": None}}
    store.record_file.write_text(json.dumps(record | {"overrides": {}, "training": {}, "data": {}}))
    return store.path


def test_large_files_are_predicted_by_region(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, _ = generate((180, 200), np.random.default_rng(2))
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(64, 64), photometric="rgb")
    arguments = {"load": load_trained, "variant": None, "magnification": 40.0, "progress": False, "workers": 0}
    predict_images.predict_images(run, [tmp_path / "a.tif"], tmp_path / "small", **arguments)
    monkeypatch.setattr(predict_images, "LARGE", 1000)
    predict_images.predict_images(run, [tmp_path / "a.tif"], tmp_path / "large", **arguments)
    hidden = {".lock", ".predictions.json"}
    assert {p.name for p in (tmp_path / "small").iterdir()} - hidden == {
        "a.geojson",
        "a.mat",
        "a_overlay.png",
        "summary.csv",
    }
    assert {p.name for p in (tmp_path / "large").iterdir()} - hidden == {
        "a.csv",
        "a.geojson",
        "a_overlay.png",
        "a.tif",
        "summary.csv",
    }
    one, other = read_labels(tmp_path / "small/a.mat"), read_labels(tmp_path / "large/a.tif")
    assert one.count == other.count > 3
    sums = [(tmp_path / folder / "summary.csv").read_text() for folder in ("small", "large")]
    assert sums == [f"image,nuclei\na.tif,{one.count}\n"] * 2
    np.testing.assert_array_equal(one.labels > 0, other.labels > 0)
    drawn = []
    for folder in ("small", "large"):  # numbered differently
        features = json.loads((tmp_path / folder / "a.geojson").read_text(encoding="utf-8"))["features"]
        drawn.append(sorted(json.dumps(feature["geometry"]) for feature in features))
    assert drawn[0] == drawn[1]
