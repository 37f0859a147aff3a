"""Methods that learn nothing: the image reaches the codec as it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmark.forward.maps import InferenceSettings, predict_maps
from models.base.classical import ClassicalMethod
from models.base.method import Task
from models.cellprofiler import CellProfiler
from models.fiji import Fiji
from models.qupath import QuPath

every_kind = pytest.mark.parametrize("kind", [CellProfiler, Fiji, QuPath])


@every_kind
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_map_is_the_image(kind: type[ClassicalMethod], precision: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (70, 45, 3)).astype(np.uint8)
    maps = predict_maps(kind(Task()).eval(), image, InferenceSettings(precision=precision, tile=16))
    assert maps["image"].dtype == np.uint8
    np.testing.assert_array_equal(maps["image"].transpose(1, 2, 0), image)


@every_kind
def test_microns_come_from_the_training_images(kind: type[ClassicalMethod]) -> None:
    assert kind(Task(mpp=0.5)).codec.mpp == 0.5  # type: ignore[attr-defined]
    assert kind(Task()).codec.mpp == 0.25  # type: ignore[attr-defined]


@every_kind
def test_there_is_nothing_to_train(kind: type[ClassicalMethod]) -> None:
    method = kind(Task())
    assert not method.card.trained
    assert method.card.needs == "none"
    assert not list(method.parameters())
    for call in (lambda: method(torch.zeros(1, 3, 8, 8)), lambda: method.loss({}, {}), lambda: method.activate({})):
        with pytest.raises(NotImplementedError, match="not trained"):
            call()


def test_the_threshold_of_cell_profiler_is_an_option() -> None:
    assert CellProfiler(Task(), threshold="otsu").codec.threshold == "otsu"  # type: ignore[attr-defined]
