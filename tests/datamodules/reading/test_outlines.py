"""Outlines of other programs are drawn as the nuclei that they were traced from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmark.results.pictures import geojson
from datamodules.reading.outlines import draw, read_outlines
from datamodules.reading.type_names import parse_types, type_numbers
from datamodules.synthetic.images import generate
from postproc.errors import ConfigError, DataError, InputWarning
from postproc.instances import Instances
from postproc.pixels.labels import relabel

TYPES = ("inflammatory", "epithelial", "Spindle-shaped")


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def contours(nuclei: Instances) -> dict[str, Any]:
    """Nuclei as HoVer-Net stores them: the outermost pixels, as OpenCV traces them."""
    assert nuclei.labels is not None
    found = {}
    for i in range(1, nuclei.count + 1):
        traced, _ = cv2.findContours((nuclei.labels == i).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        found[str(i)] = {"contour": max(traced, key=len)[:, 0].tolist(), "bbox": [], "type": i % 4}
    return found


@pytest.fixture
def nuclei() -> Instances:
    labels = generate((96, 96), np.random.default_rng(3), density=1e-3)[1].labels
    assert labels is not None
    count = int(labels.max())
    assert count > 5
    return Instances((96, 96), labels=labels, types=np.arange(1, count + 1, dtype=np.int64) % 4)


@pytest.mark.parametrize(
    ("properties", "region"),
    [
        ({"objectType": "annotation"}, True),
        ({"objectType": "annotation", "classification": {"name": "Region*"}}, True),
        ({"objectType": "tile"}, True),
        ({"objectType": "tma_core"}, True),
        ({"classification": {"name": "Ignore*"}}, True),
        ({"objectType": "detection"}, False),
        ({}, False),
    ],
)
def test_regions_are_no_nuclei(tmp_path: Path, nuclei: Instances, properties: dict[str, Any], region: bool) -> None:
    content = geojson(nuclei, TYPES)
    around = {"type": "Polygon", "coordinates": [[[0, 0], [96, 0], [96, 96], [0, 96]]]}
    content["features"].append({"type": "Feature", "geometry": around, "properties": properties})
    path = write(tmp_path / "a.geojson", content)
    if region:
        with pytest.warns(InputWarning, match=f"1 of {nuclei.count + 1} objects left out: regions"):
            found = read_outlines(path)
    else:
        found = read_outlines(path)
    assert len(found.nuclei) == nuclei.count + (not region)


def test_annotations_of_nuclei_by_hand_are_nuclei(tmp_path: Path, nuclei: Instances) -> None:
    content = geojson(nuclei, TYPES)
    for each in content["features"]:
        each["properties"]["objectType"] = "annotation"
    content["features"][0]["properties"]["classification"] = {"name": "Region*"}
    with pytest.warns(InputWarning, match="1 of "):
        assert len(read_outlines(write(tmp_path / "a.geojson", content)).nuclei) == nuclei.count - 1


@settings(max_examples=60, deadline=None)
@given(arrays(np.int32, (9, 11), elements=st.integers(0, 4)))
def test_our_geojson_is_drawn_as_it_was(tmp_path_factory: pytest.TempPathFactory, labels: np.ndarray) -> None:
    labels = relabel(labels)[0]
    nuclei = Instances(labels.shape, labels=labels)
    path = write(tmp_path_factory.mktemp("outlines") / "a.geojson", geojson(nuclei, ()))
    drawn = draw(read_outlines(path), nuclei.shape, None)
    assert drawn.labels is not None
    np.testing.assert_array_equal(drawn.labels, labels)  # with holes, several parts, and corners that touch


def test_geojson_with_classes(tmp_path: Path, nuclei: Instances) -> None:
    outlines = read_outlines(write(tmp_path / "a.geojson", geojson(nuclei, TYPES)))
    drawn = draw(outlines, nuclei.shape, type_numbers(outlines, [name.upper() for name in TYPES], {}))
    np.testing.assert_array_equal(drawn.labels, nuclei.labels)
    np.testing.assert_array_equal(drawn.types, nuclei.types)


@pytest.mark.parametrize("layout", ["hovernet", "tiatoolbox", "cellvit"])
def test_contours(tmp_path: Path, nuclei: Instances, layout: str) -> None:
    found = contours(nuclei)
    names = {"0": "Background", "1": "Inflammatory", "2": "Epithelial", "3": "spindle shaped"}
    content = {
        "hovernet": {"mag": 40, "nuc": found},
        "tiatoolbox": found,
        "cellvit": {"wsi_metadata": {}, "type_map": names, "cells": list(found.values())},
    }[layout]
    outlines = read_outlines(write(tmp_path / "a.json", content))
    drawn = draw(outlines, nuclei.shape, type_numbers(outlines, TYPES, {}))
    np.testing.assert_array_equal(drawn.labels, nuclei.labels)
    np.testing.assert_array_equal(drawn.types, nuclei.types)


def test_cellvit_collects_the_nuclei_of_a_class(tmp_path: Path, nuclei: Instances) -> None:
    shapes = [each["geometry"] for each in geojson(nuclei, ())["features"] if each["geometry"]["type"] == "Polygon"]
    polygons = [shape["coordinates"] for shape in shapes] * 2  # at least ten
    feature = {
        "type": "Feature",
        "geometry": {"type": "MultiPolygon", "coordinates": polygons},
        "properties": {"objectType": "annotation", "classification": {"name": "Neoplastic"}},
    }
    outlines = read_outlines(write(tmp_path / "a.geojson", [feature]))
    assert len(outlines.nuclei) == len(polygons)
    with pytest.raises(DataError, match=r"'Neoplastic' is none of inflammatory.*--types 'Neoplastic=TYPE'"):
        type_numbers(outlines, TYPES, {})
    given_types = parse_types(["neoplastic=epithelial"], TYPES)
    assert type_numbers(outlines, TYPES, given_types) == [2] * len(polygons)
    assert type_numbers(outlines, TYPES, parse_types(["neoplastic="], TYPES)) == [0] * len(polygons)
    assert type_numbers(outlines, (), {}) is None
    with pytest.warns(InputWarning, match="nuclei left out"):  # each is there twice
        assert draw(outlines, nuclei.shape, None).count == len(shapes)


def square(x: float, y: float, side: float) -> list[list[float]]:
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


def test_small_nuclei_are_drawn_over_large_ones_and_parts_outside_are_cut(tmp_path: Path) -> None:
    rings = [square(0, 0, 10), square(2, 2, 3), square(8, 8, 50)]
    features = [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}} for ring in rings
    ]
    drawn = draw(read_outlines(write(tmp_path / "a.json", features)), (12, 12), None)
    assert drawn.labels is not None
    assert np.bincount(drawn.labels.ravel()).tolist()[1:] == [100 - 9 - 4, 9, 16]
    with pytest.raises(DataError, match="all 1 nuclei are outside the image of 12 x 12 px"):
        draw(read_outlines(write(tmp_path / "b.json", {"1": {"contour": square(50, 50, 4)}})), (12, 12), None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "neither GeoJSON"),
        ({"nuc": [1]}, "neither GeoJSON"),
        ({"1": {"centroid": [1, 2]}}, "nucleus 1 has no contour"),
        ({"1": {"contour": [[0, 1], [2]]}}, r"nucleus 1: an outline must be a list of \(x, y\)"),
        ({"1": {"contour": [[0, 1e300]]}}, "within 10,000,000 px"),
        ({"1": {"contour": [[0, 1]], "type": [3]}}, "expected a number or a name"),
        (
            {"type": "Feature", "geometry": {"type": "Point"}},
            "feature 0 has the geometry 'Point'",
        ),
        ({"type": "Feature", "geometry": None}, "feature 0 has the geometry None"),
        ({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": 3}}, "lists of rings"),
        ({"cells": [], "type_map": {"a": "b"}}, "type_map is"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        read_outlines(write(tmp_path / "a.json", content))
    assert str(tmp_path / "a.json") in str(error.value)


@pytest.mark.parametrize(
    ("pair", "message"),
    [("tumour", "give FOREIGN=TYPE"), ("=epithelial", "give FOREIGN=TYPE"), ("a=epithelium", "Did you mean")],
)
def test_wrong_counterparts_are_named(pair: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_types([pair], TYPES)


def test_an_empty_file_has_no_nuclei(tmp_path: Path) -> None:
    for i, content in enumerate(({"nuc": {}}, [], {"cells": []}, {"type": "FeatureCollection", "features": []})):
        assert draw(read_outlines(write(tmp_path / f"{i}.json", content)), (5, 6), None).count == 0
