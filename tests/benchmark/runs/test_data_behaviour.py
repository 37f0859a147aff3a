"""Distances at which detections count, statistics of whole images, and the order of HV maps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmark.forward.maps import InferenceSettings, predict_maps
from benchmark.registry import dataset_class, method_class
from benchmark.results.spec import RunSpec
from benchmark.results.store import RunStore, write_instances
from benchmark.runs.evaluate import Decoding, evaluate
from datamodules.sources import ImageSet
from models.base.method import Task
from postproc.codecs.hover import HoverCodec, hover_maps
from postproc.instances import Instances


@pytest.mark.parametrize(("name", "method"), [("ki67", "kinet"), ("crchisto", "sc-cnn")])
def test_detections_count_within_the_radius_of_the_set(name: str, method: str, tmp_path: Path) -> None:
    """Every nucleus is found 1 px closer than the limit, then 1 px farther; only the first counts."""
    kind = dataset_class(name)
    kind.write_synthetic(tmp_path / name, size=128)
    data, radius = kind(tmp_path / name), kind.card.radius
    assert radius != 12
    split = next(iter(kind.card.images))
    codec = method_class(method)(Task(kind.card.types), **method_class(method).small).codec
    found = {}
    for off in (radius - 1, radius + 1):
        store = RunStore.create(tmp_path / f"runs-{off}", RunSpec(method, name))
        for record in data.select(split):
            truth = data.read(record).truth
            # one nucleus alone: neighbours cannot be taken for it
            points = truth.centroids()[:1] + np.array([[off, 0]], np.float32)
            write_instances(store.prediction_file(name, method, record.image_id), Instances(truth.shape, points=points))
        decoding = Decoding(method, method, codec.defaults())
        evaluate(store, ImageSet(data, split), decoding, typed=False, progress=False)
        (file,) = store.path.glob("evaluations/*/*/scores.csv")
        found[off] = pd.read_csv(file)["n_found"].sum()
        stored = json.loads((file.parent / "evaluation.json").read_text())
        assert stored["radius"] == radius
    assert found[radius - 1] > found[radius + 1]


def test_all_tiles_are_prepared_with_the_statistics_of_the_whole_image(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = method_class("kinet")  # standardises each image
    method = kind(Task(("a",), 0.25), **kind.small).eval()
    given: list[torch.Tensor] = []
    prepare = kind.prepare

    def watched(self: torch.nn.Module, images: torch.Tensor, statistics: torch.Tensor | None = None) -> torch.Tensor:
        prepared = prepare(self, images, statistics)
        scaled = images.float() / 255
        for tile, result in zip(scaled, prepared, strict=True):
            # what was subtracted and divided by, from two px of the first channel
            flat, out = tile[0].ravel(), result[0].ravel()
            low, high = int(flat.argmin()), int(flat.argmax())
            std = (flat[high] - flat[low]) / (out[high] - out[low])
            given.append(torch.stack([flat[low] - out[low] * std, std]))
        return prepared

    monkeypatch.setattr(kind, "prepare", watched)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 60, (256, 320, 3), dtype=np.uint8)
    image[:, 160:] += 150  # tiles differ
    predict_maps(method, image, InferenceSettings(precision="32-true", tile=96))
    assert len(given) > 1
    channel = torch.from_numpy(image[..., 0].astype(np.float32)) / 255
    for pair in given:
        assert float(pair[0]) == pytest.approx(float(channel.mean()), abs=1e-3)
        assert float(pair[1]) == pytest.approx(float(channel.std()), abs=1e-3)


def test_the_horizontal_map_comes_first_and_is_decoded_first() -> None:
    labels = np.zeros((40, 60), np.int32)
    labels[10:30, 8:28] = 1
    labels[10:30, 28:48] = 2  # touches the first, to its right
    horizontal, vertical = hover_maps(labels)
    assert horizontal[20, 9] < -0.5 < 0.5 < horizontal[20, 26]
    assert vertical[11, 18] < -0.5 < 0.5 < vertical[28, 18]
    assert abs(vertical[20, 9]) < 0.2
    codec = HoverCodec()
    maps = codec.perfect(codec.encode(Instances((40, 60), labels=labels)))
    assert codec.decode(maps, codec.defaults()).count == 2
    swapped = {**maps, "hv": maps["hv"][::-1].copy()}
    assert codec.decode(swapped, codec.defaults()).count != 2  # no ridge where the nuclei touch
