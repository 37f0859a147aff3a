"""JTS, which QuPath reads GeoJSON with, takes every geometry that is written."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from shapely.geometry import shape

from benchmark.results.pictures import geojson
from postproc.instances import Instances

JARS = [
    *Path("/usr/share/java").glob("jts-core*.jar"),
    *(Path.home() / ".m2/repository/org/locationtech/jts/jts-core").rglob("jts-core-*.jar"),
]
"""JTS of the Debian package libjts-java, or of Maven."""

PROGRAM = """
import java.io.*;
import org.locationtech.jts.geom.*;
import org.locationtech.jts.io.WKTReader;
import org.locationtech.jts.operation.valid.IsValidOp;
import org.locationtech.jts.precision.GeometryPrecisionReducer;

public class Check {
    public static void main(String[] words) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        GeometryPrecisionReducer reducer = new GeometryPrecisionReducer(new PrecisionModel(100.0));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            Geometry read = new WKTReader().read(line);
            IsValidOp check = new IsValidOp(read);
            if (!check.isValid()) {
                System.out.println("invalid: " + check.getValidationError());
            } else {
                try {
                    System.out.println(reducer.reduce(read).getArea());
                } catch (IllegalArgumentException error) {
                    System.out.println("refused: " + error.getMessage());
                }
            }
        }
    }
}
"""
"""Print the area of each geometry after the step that QuPath's import takes, or the reason why it fails."""


def answers(geometries: Iterable[str], folder: Path) -> list[str]:
    (folder / "Check.java").write_text(PROGRAM)
    command = ["java", "-cp", str(JARS[0]), str(folder / "Check.java")]
    done = subprocess.run(command, input="\n".join(geometries), capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.split("\n")[:-1]


@pytest.mark.slow
@pytest.mark.skipif(not JARS or shutil.which("javac") is None, reason="needs a JDK and JTS (libjts-java)")
def test_jts_accepts_every_geometry(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    maps = [rng.integers(0, 3, (12, 12)).astype(np.int32) for _ in range(200)]
    maps += [(rng.random((40, 40)) < share).astype(np.int32) for share in (0.4, 0.5, 0.6, 0.7, 0.8) for _ in range(4)]
    texts, areas = [], []
    for labels in maps:
        for feature in geojson(Instances(labels.shape, labels=labels), ())["features"]:
            texts.append(shape(json.loads(json.dumps(feature["geometry"]))).wkt)
            areas.append(float((labels == int(feature["properties"]["name"])).sum()))
    assert [float(answer) for answer in answers(texts, tmp_path)] == areas


@pytest.mark.slow
@pytest.mark.skipif(not JARS or shutil.which("javac") is None, reason="needs a JDK and JTS (libjts-java)")
def test_jts_refuses_outlines_through_pixel_centres(tmp_path: Path) -> None:
    """The outline that other software writes for px (2, 2), (3, 2), (3, 3), (2, 4), which stops an import."""
    (answer,) = answers(["POLYGON ((2 2, 2 4, 3 3, 3 2, 2 2, 3 2, 3 3, 2 4, 2 2))"], tmp_path)
    assert answer.startswith("invalid")
