"""Sizes of nuclei from their outlines are those of their pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmark.inference.sizes import measurements, polygon_sizes
from benchmark.results.pictures import geojson
from datamodules.synthetic.images import generate
from postproc.instances import Instances


def sizes(labels: np.ndarray, **how: tuple[float, float]) -> np.ndarray:
    nuclei = Instances(labels.shape, labels=labels.astype(np.int32))
    return np.array([polygon_sizes(each["geometry"], **how) for each in geojson(nuclei, ())["features"]])


def test_area_centroid_and_first_px_are_exact() -> None:
    labels = generate((200, 220), np.random.default_rng(0), density=1e-3)[1].labels.copy()
    labels[50:60, 50:60], labels[53:55, 53:56] = labels.max() + 1, 0  # a hole
    labels[150:152, 10:13] = labels[180, 200] = labels.max() + 1  # two parts
    _, labels = np.unique(labels, return_inverse=True)
    labels = labels.reshape(200, 220)
    found = sizes(labels)
    assert len(found) == labels.max() > 20
    for k, row in enumerate(found, 1):
        y, x = np.nonzero(labels == k)
        np.testing.assert_allclose(row[[0, 2, 3, 4, 5]], [len(y), x.mean(), y.mean(), x[0], y[0]], atol=1e-9)


@pytest.mark.parametrize("radius", [6, 12, 30])
def test_the_perimeter_of_a_disc_is_that_of_a_circle(radius: int) -> None:
    y, x = np.mgrid[-40:41, -40:41]
    perimeter = sizes((x**2 + y**2 <= radius**2).astype(int))[0, 1]
    assert 1.0 < perimeter / (2 * math.pi * (radius + 0.25)) < 1.08
    wide = np.kron((x**2 + y**2 <= radius**2).astype(int), np.ones((4, 4), int))  # of a map at a quarter of the size
    np.testing.assert_allclose(sizes(wide, step=(4.0, 4.0))[0, 1], 4 * perimeter)


def test_the_perimeter_of_a_rectangle() -> None:
    labels = np.zeros((20, 20), int)
    labels[3:13, 4:9] = 1
    cut = 4 * (1 - math.sqrt(0.5))  # the corners
    assert sizes(labels)[0, 1] == pytest.approx(30 - cut)


def test_measurements_are_in_microns() -> None:
    row = np.array([100.0, 40.0, 0, 0, 0, 0])
    assert measurements(row, 0.5) == {"Area px^2": 100.0, "Area µm^2": 25.0, "Perimeter µm": 20.0}
