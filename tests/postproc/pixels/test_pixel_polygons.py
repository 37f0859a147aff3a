"""Polygons along pixel edges: valid, and as large as their masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from shapely.geometry import shape
from tifffile import imread

from benchmark.results.pictures import geojson
from datamodules.synthetic.images import generate
from postproc.classical.base import ClassicalCodec
from postproc.classical.cellprofiler import CellProfilerCodec
from postproc.classical.fiji import FijiCodec
from postproc.instances import Instances
from postproc.pixels.components import connected_components
from postproc.pixels.pixel_polygons import pixel_polygons


def geometry_of(polygon: list[np.ndarray]) -> shapely.Polygon:
    return shapely.Polygon(polygon[0], polygon[1:])


def pixels_inside(polygon: Any, height: int, width: int) -> np.ndarray:
    """Return the px whose centre lies in a polygon, bool (H, W)."""
    y, x = np.mgrid[:height, :width] + 0.5
    return shapely.contains_xy(polygon, x, y)


def check(labels: np.ndarray, count: int) -> None:
    """Compare every polygon, and every GeoJSON geometry, with the mask it comes from."""
    found = pixel_polygons(labels, count)
    features = {
        int(f["properties"]["name"]): f for f in geojson(Instances(labels.shape, labels=labels), ())["features"]
    }
    assert len(found) == count
    assert set(features) == set(np.unique(labels).tolist()) - {0}
    for label, parts in enumerate(found, 1):
        mask = labels == label
        assert len(parts) == connected_components(mask, 4)[1]
        for polygon in parts:
            shell, *holes = (shapely.LinearRing(ring) for ring in polygon)
            assert shell.is_simple
            assert shell.is_ccw
            assert all(hole.is_simple and not hole.is_ccw for hole in holes)
            for ring in polygon:
                assert ring.dtype == np.int32
                steps = np.diff(ring, axis=0, append=ring[:1])
                assert ((steps == 0).sum(axis=1) == 1).all()  # along the axes, never of length 0
                assert ((steps[:, 0] == 0) != np.roll(steps[:, 0] == 0, 1)).all()  # a corner at each point
            assert shapely.is_valid_reason(geometry_of(polygon)) == "Valid Geometry"
        if not mask.any():
            continue
        drawn = shape(features[label]["geometry"])
        assert drawn.geom_type == ("Polygon" if len(parts) == 1 else "MultiPolygon")
        assert shapely.is_valid_reason(drawn) == "Valid Geometry"
        assert drawn.area == mask.sum()
        assert (
            drawn.length
            == np.abs(np.diff(np.pad(mask, 1).astype(int), axis=0)).sum()
            + np.abs(np.diff(np.pad(mask, 1).astype(int), axis=1)).sum()
        )
        y, x = np.nonzero(mask)
        assert (drawn.centroid.x, drawn.centroid.y) == pytest.approx((x.mean() + 0.5, y.mean() + 0.5))
        union = shapely.union_all([geometry_of(polygon) for polygon in parts])
        np.testing.assert_array_equal(pixels_inside(union, *labels.shape), mask)
        np.testing.assert_array_equal(pixels_inside(drawn, *labels.shape), mask)


def drawing(*rows: str) -> np.ndarray:
    return np.array([[int(c) if c.isdigit() else 0 for c in row] for row in rows], np.int32)


SHAPES = {
    "one px": drawing("1"),
    "the whole image": np.ones((6, 9), np.int32),
    "px (2, 2), (3, 2), (3, 3), (2, 4)": drawing(".....", ".....", "..11.", "...1.", "..1.."),
    "a line": drawing(".......", ".11111.", "......."),
    "a tail": drawing("......", ".11111", ".11...", "......"),
    "a diagonal": np.eye(7, dtype=np.int32),
    "both diagonals": np.eye(7, dtype=np.int32) | np.eye(7, dtype=np.int32)[::-1],
    "a chessboard": np.indices((7, 8)).sum(axis=0).astype(np.int32) % 2,
    "a ring": drawing("111", "1.1", "111"),
    "a ring that closes in a corner": drawing("111", "1.1", "11."),
    "a ring that closes in two corners": drawing(".11", "1.1", "11."),
    "a ring that opens in a corner": drawing("1111", "1..1", "1.11", "11.1", "1111"),
    "holes that touch in a corner": drawing("1111", "1.11", "11.1", "1111"),
    "holes on a ring": drawing("11111", "11.11", "1.1.1", "11.11", "11111"),
    "a part in a hole": drawing("11111", "1...1", "1.1.1", "1...1", "11111"),
    "a part in a hole that touches it": drawing("11111", "1..11", "1.1.1", "11..1", "11111"),
    "holes in holes": drawing("1111111", "1.....1", "1.111.1", "1.1.1.1", "1.111.1", "1.....1", "1111111"),
    "another nucleus in the hole": drawing("11111", "12221", "12.21", "12221", "11111"),
    "two nuclei and a missing id": drawing("1133", "1133", "3311", "3311"),
    "a comb at the border": drawing("1.1.1", "1.1.1", "11111"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name: str) -> None:
    for labels in (SHAPES[name], SHAPES[name][::-1], SHAPES[name][:, ::-1], SHAPES[name].T):
        labels = np.ascontiguousarray(labels)
        check(labels, int(labels.max()))
        check(np.pad(labels, 2), int(labels.max()))


@settings(max_examples=150, deadline=None)
@given(arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 2)))
@example(np.zeros((3, 3), np.int32))
def test_every_map_gives_valid_polygons_of_its_area(labels: np.ndarray) -> None:
    check(labels, 2)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 24), st.integers(1, 24), st.floats(0.3, 0.9))
def test_random_bits(seed: int, height: int, width: int, filled: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < filled
    check(mask.astype(np.int32), 1)


def test_the_smallest_self_touching_outline_is_two_polygons() -> None:
    labels = SHAPES["px (2, 2), (3, 2), (3, 3), (2, 4)"]
    (feature,) = geojson(Instances(labels.shape, labels=labels), ())["features"]
    assert feature["geometry"] == {
        "type": "MultiPolygon",
        "coordinates": [
            [[[2, 2], [4, 2], [4, 4], [3, 4], [3, 3], [2, 3], [2, 2]]],
            [[[2, 4], [3, 4], [3, 5], [2, 5], [2, 4]]],
        ],
    }


def test_a_square_of_25_px_has_an_area_of_25() -> None:
    labels = np.zeros((9, 9), np.int32)
    labels[2:7, 3:8] = 1
    (feature,) = geojson(Instances(labels.shape, labels=labels), ())["features"]
    assert feature["geometry"]["coordinates"] == [[[3, 2], [8, 2], [8, 7], [3, 7], [3, 2]]]
    assert shape(feature["geometry"]).area == 25


def test_points_lie_in_the_middle_of_their_px() -> None:
    labels = np.zeros((9, 9), np.int32)
    labels[2:7, 3:8] = 1
    points = Instances((9, 9), labels=labels).centroids()
    (feature,) = geojson(Instances((9, 9), points=points), ())["features"]
    assert feature["geometry"] == {"type": "Point", "coordinates": [5.5, 4.5]}


def test_empty_maps_have_no_polygons() -> None:
    assert pixel_polygons(np.zeros((5, 6), np.int32), 0) == []
    assert pixel_polygons(np.zeros((0, 6), np.int32), 1) == [[]]
    assert pixel_polygons(np.zeros((5, 6), np.int32), 2) == [[], []]


def test_nuclei_of_an_image() -> None:
    _, truth = generate((200, 180), np.random.default_rng(0))
    assert truth.labels is not None
    check(truth.labels, truth.count)


@pytest.mark.real_data
@pytest.mark.parametrize("codec", [FijiCodec(0.25), CellProfilerCodec(0.25)], ids=["fiji", "cellprofiler"])
def test_nuclei_decoded_from_a_real_image(codec: ClassicalCodec[Any], data_root: Path) -> None:
    file = sorted((data_root / "kumar" / "train" / "Images").glob("*.tif"))[4]
    image = imread(file)[:500, :500, :3]
    found = codec.decode({"image": np.ascontiguousarray(image.transpose(2, 0, 1))}, codec.defaults())
    features = geojson(found, ())["features"]
    drawn = [shape(feature["geometry"]) for feature in features]
    assert len(drawn) == found.count > 80
    assert [shapely.is_valid_reason(polygon) for polygon in drawn] == ["Valid Geometry"] * found.count
    assert [polygon.area for polygon in drawn] == np.bincount(found.labels.ravel())[1:].tolist()
    centres = np.array([polygon.centroid.coords[0] for polygon in drawn])
    np.testing.assert_allclose(centres, found.centroids() + 0.5, atol=1e-3)
    check(np.ascontiguousarray(found.labels[:100, :100]), int(found.labels[:100, :100].max()))
