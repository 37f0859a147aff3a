"""The torchmetrics wrappers give what scoring stored images gives, also over two processes."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from benchmark.metrics.distributed import ClassificationMetrics, DetectionMetrics, ObjectMetrics
from benchmark.metrics.image import score_image
from benchmark.metrics.pooling import summarise
from postproc.instances import Instances
from postproc.pixels.labels import relabel

IMAGES, TYPES = 5, 3


def make_images():
    rng = np.random.default_rng(0)
    images = []
    for k in range(IMAGES):
        tiles = np.kron(rng.integers(0, 9, (6, 6)), np.ones((8, 8), int)) * (k != 3)  # image 3 is empty
        both = []
        for labels in (tiles, np.roll(tiles, (1, 2), (0, 1)) * (rng.random(tiles.shape) < 0.9)):
            compact, _, ids = relabel(labels)
            both.append(Instances(compact.shape, labels=compact, types=rng.integers(1, TYPES + 1, len(ids))))
        images.append(tuple(both))
    return images


def update(metrics, truth, prediction):
    objects, classes, points = metrics
    maps = [torch.from_numpy(side.labels) for side in (prediction, truth)]
    centres = [torch.from_numpy(side.centroids()).double() for side in (prediction, truth)]
    types = [torch.from_numpy(side.types) for side in (prediction, truth)]
    objects.update(maps[0], maps[1])
    classes.update(centres[0], types[0], centres[1], types[1])
    points.update(centres[0], centres[1])


def make_metrics():
    return ObjectMetrics(), ClassificationMetrics(TYPES), DetectionMetrics(12.0)


def computed(metrics):
    return [{name: float(value) for name, value in metric.compute().items()} for metric in metrics]


def worker(rank, address, folder):
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    metrics = make_metrics()
    for truth, prediction in make_images()[rank::2]:
        update(metrics, truth, prediction)
    torch.save(computed(metrics), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def in_one_process():
    metrics = make_metrics()
    for truth, prediction in make_images():
        update(metrics, truth, prediction)
    return computed(metrics)


def test_one_process_equals_the_summary_of_stored_scores(in_one_process):
    rows = [score_image(truth, prediction, radius=12, types=TYPES) for truth, prediction in make_images()]
    summary = summarise(pd.DataFrame(rows))
    objects, classes, points = in_one_process
    assert objects == pytest.approx({name: summary[name] for name in objects}, rel=1e-12)
    assert objects["nan_images"] == 1
    assert classes == pytest.approx({name: summary[name] for name in classes}, rel=1e-5)  # float32 centroids here
    assert points["f1"] == pytest.approx(summary["F_d_gated"])
    assert 0 < points["distance_mean"] < 12


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path, in_one_process):
    mp.spawn(worker, args=(f"file://{tmp_path}/rendezvous", str(tmp_path)), nprocs=2)
    for rank in range(2):
        for found, expected in zip(torch.load(tmp_path / f"{rank}.pt"), in_one_process, strict=True):
            assert found == pytest.approx(expected, rel=1e-12)


def test_batches_resets_and_the_gated_pairing():
    images = make_images()
    metric = ObjectMetrics()
    stack = [torch.stack([torch.from_numpy(pair[k].labels) for pair in images]) for k in (1, 0)]
    metric.update(*stack)
    whole = metric.compute()
    metric.reset()
    for truth, prediction in images:
        metric.update(torch.from_numpy(prediction.labels), torch.from_numpy(truth.labels))
    assert metric.compute() == whole
    with pytest.raises(ValueError, match="annotation"):
        metric.update(torch.zeros(2, 3, dtype=torch.int32), torch.zeros(3, 2, dtype=torch.int32))
    true = torch.tensor([[0.0, 0.0], [20.0, 0.0]])
    pred = torch.tensor([[16.0, 6.0], [40.0, 0.0]])
    types = torch.ones(2, dtype=torch.int64)
    found = {}
    for gated in (False, True):
        classes = ClassificationMetrics(1, gated=gated)
        classes.update(pred, types, true, types)
        found[gated] = float(classes.compute()["F_d"])
    assert found == {False: 0.0, True: 0.5}
