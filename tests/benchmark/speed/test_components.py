from __future__ import annotations

import numpy as np
import pytest

from benchmark.speed import components, reach
from benchmark.speed.components import Scene, component_jobs, component_timings, make_scene, patch_timing


@pytest.fixture(scope="module")
def scene() -> Scene:
    return make_scene(200)


def test_a_scene_holds_what_a_network_would_have_given(scene: Scene) -> None:
    assert scene.image.shape == (200, 200, 3)
    assert scene.truth.count == round(components.DENSITY * 200**2)
    assert 0.7 * scene.truth.count < scene.found.count < scene.truth.count
    assert {name: value.shape for name, value in scene.hover.items()} == {
        "np": (1, 200, 200),
        "hv": (2, 200, 200),
        "tp": (len(components.TYPES) + 1, 200, 200),
    }
    basins, markers, mask = scene.flooding
    assert basins.dtype == np.float32
    assert markers.max() > 0.8 * scene.truth.count
    assert not markers[~mask].any()
    assert scene.levels.max() >= 3


def test_every_job_does_its_work(scene: Scene) -> None:
    results = {job: call() for job, call in component_jobs(scene).items()}
    assert results[reach.METRICS]["pq"] == results[reach.ALL_SCORES]["pq"]
    assert 0.3 < results[reach.METRICS]["pq"] < 0.95
    assert len(results[reach.CENTROIDS]) == scene.truth.count
    assert np.array_equal(results[reach.HOVER_TARGETS]["np"] > 0, scene.labels > 0)
    assert np.array_equal(results[reach.CHESSBOARD] > 0, scene.labels > 0)
    nuclei, centroids, boxes, contours = results[reach.HOVER_EVERYTHING]
    assert nuclei.count == len(centroids) == len(boxes) == len(contours)
    assert set(np.unique(nuclei.types)) <= set(range(1, len(components.TYPES) + 1))
    # the stages that are timed by themselves are those of the whole
    decoded = results[reach.HOVER_DECODING]
    assert np.array_equal(decoded.labels, nuclei.labels)
    assert np.array_equal(results[components.WATERSHED] > 0, decoded.labels > 0)
    assert len(np.unique(results[components.WATERSHED])) - 1 == decoded.count
    assert results[reach.DIST_DECODING].count > 0.8 * scene.truth.count


def test_timings_know_what_was_to_be_reached(scene: Scene) -> None:
    timings = component_timings(scene, 1)
    assert list(timings) == list(component_jobs(scene))
    assert all(t.median_ms > 0 and t.runs == 1 and t.to_reach_ms is None for t in timings.values())
    assert {job for job, side in reach.TO_REACH if side == 1000} <= set(timings)
    assert {job for job, side in reach.TO_REACH if side == 4000} <= set(timings)


def test_a_patch_is_much_faster_than_an_image(scene: Scene) -> None:
    timing = patch_timing(1)
    assert timing.to_reach_ms == 0.3
    assert 0 < timing.median_ms < 100
