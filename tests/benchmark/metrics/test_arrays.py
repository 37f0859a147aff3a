"""Metrics of arrays are those of the contingency table, and wrong arrays are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmark.metrics import arrays, instance, pixel
from benchmark.metrics.contingency import contingency
from benchmark.metrics.distributed import ObjectMetrics
from datamodules.synthetic.images import generate
from postproc.instances import Instances


@pytest.fixture
def maps() -> tuple[np.ndarray, np.ndarray]:
    _, truth = generate((96, 96), np.random.default_rng(0))
    assert truth.labels is not None
    return truth.labels, np.roll(truth.labels, 2, axis=1)


def test_arrays_score_as_their_table(maps: tuple[np.ndarray, np.ndarray]) -> None:
    true, pred = maps
    table = contingency(true, pred)
    assert arrays.aji(true, pred) == instance.aji(table)
    assert arrays.dice(true, pred) == pixel.dice(pixel.pixel_counts(table))
    assert arrays.pq(true, pred) == arrays.scores(true, pred)["pq"]
    assert 0 < arrays.pq(true, pred) < 1
    assert arrays.aji(true, true) == arrays.pq(true, true) == arrays.dice(true, true) == 1
    assert np.isnan(arrays.aji(true * 0, true * 0))


def test_wrong_arrays_are_refused(maps: tuple[np.ndarray, np.ndarray]) -> None:
    true, pred = maps
    with pytest.raises(ValueError, match="annotation"):
        arrays.aji(true, pred[:-1])
    with pytest.raises(ValueError, match="true is float64"):
        arrays.pq(true / 2, pred)
    with pytest.raises(ValueError, match="pred is int32"):
        arrays.dice(true, pred[None])


def test_object_metrics_take_arrays(maps: tuple[np.ndarray, np.ndarray]) -> None:
    true, pred = maps
    of_arrays, of_tensors = ObjectMetrics(), ObjectMetrics()
    of_arrays.update(pred, true)
    of_tensors.update(torch.from_numpy(pred), torch.from_numpy(true))
    assert {k: float(v) for k, v in of_arrays.compute().items()} == {
        k: float(v) for k, v in of_tensors.compute().items()
    }


def test_instances_need_the_shape_and_print_briefly(maps: tuple[np.ndarray, np.ndarray]) -> None:
    true, _ = maps
    with pytest.raises(ValueError, match=r"shape is ndarray.*Instances\(labels\.shape, labels=labels\)"):
        Instances(true)  # type: ignore[arg-type]
    text = repr(Instances(true.shape, labels=true))
    assert text == f"Instances(96 x 96 px, {true.max()} nuclei: labels)"


def test_scores_can_be_plotted() -> None:
    metric = ObjectMetrics()
    labels = np.zeros((20, 20), np.int32)
    labels[2:8, 2:8], labels[10:15, 10:15] = 1, 2
    metric.update(labels, labels)
    figure, axes = metric.plot()
    shown = {text.get_text() for text in axes.get_legend().get_texts()}
    assert {"dice", "aji", "pq"} <= shown
    assert not any("images" in name for name in shown)
    assert figure.axes == [axes]
