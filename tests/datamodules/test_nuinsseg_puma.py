"""NuInsSeg: organs as groups. PUMA: GeoJSON with ten types."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.nuinsseg import NuInsSeg
from datamodules.puma import PUMA, TYPES, read_nuclei, write_nuclei
from datamodules.synthetic.images import generate
from postproc.errors import DataError

SIZE = 64
SHAPE = (SIZE, SIZE)
TRUTH = generate(SHAPE, np.random.default_rng(4))[1]


@pytest.fixture
def organs(tmp_path: Path) -> Path:
    NuInsSeg.write_synthetic(tmp_path, images=6, size=SIZE)
    return tmp_path


@pytest.fixture
def melanoma(tmp_path: Path) -> Path:
    PUMA.write_synthetic(tmp_path, images=4, size=SIZE)
    return tmp_path


def features(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_the_organ_is_the_group(organs: Path) -> None:
    data = NuInsSeg(organs)
    chosen = data.select("group:human_liver")
    assert [r.image_id for r in chosen] == ["human_liver_synthetic_02", "human_liver_synthetic_05"]
    assert {s.tissue for s in data.samples("group:human_liver")} == {"human liver"}
    assert all(s.truth.types is None for s in data.samples("all"))


def test_an_image_without_labels_is_named(organs: Path) -> None:
    victim = NuInsSeg(organs).records[0].annotations[0]
    victim.unlink()
    with pytest.raises(DataError, match=r"synthetic_01\.png: no annotation; expected .*label masks modify"):
        _ = NuInsSeg(organs).records


def test_images_with_the_name_of_another_organ_are_kept_apart(organs: Path) -> None:
    shutil.copytree(organs / "human lung", organs / "mouse lung")
    assert len(NuInsSeg(organs).records) == 8


def test_a_second_copy(organs: Path) -> None:
    shutil.copytree(organs / "human lung", organs / "copy" / "human lung")
    with pytest.raises(DataError, match="are the same image; keep one"):
        _ = NuInsSeg(organs).records


def test_puma_is_read_as_written(tmp_path: Path) -> None:
    write_nuclei(tmp_path / "x.geojson", TRUTH)
    found = read_nuclei(tmp_path / "x.geojson", SHAPE)
    assert found.labels is not None
    assert TRUTH.labels is not None
    np.testing.assert_array_equal(found.labels > 0, TRUTH.labels > 0)
    names = [f["properties"]["classification"]["name"] for f in features(tmp_path / "x.geojson")["features"]]
    assert set(names) <= {f"nuclei_{name.replace(' ', '_')}" for name in TYPES}
    assert found.types is not None
    assert TRUTH.types is not None
    kinds = np.concatenate([[0], TRUTH.types])[TRUTH.labels]
    np.testing.assert_array_equal(np.concatenate([[0], found.types])[found.labels], kinds)


def test_the_kind_of_melanoma_is_the_tissue(melanoma: Path) -> None:
    data = PUMA(melanoma)
    assert [s.tissue for s in data.samples("all")] == ["metastatic", "metastatic", "primary", "primary"]


def test_images_of_the_context_are_left_out(melanoma: Path) -> None:
    shutil.copytree(melanoma / "01_training_dataset_tif_ROIs", melanoma / "01_training_dataset_tif_context_ROIs")
    assert len(PUMA(melanoma).records) == 4


def test_an_image_without_nuclei_file_is_named(melanoma: Path) -> None:
    PUMA(melanoma).records[1].annotations[0].unlink()
    with pytest.raises(DataError, match=r"metastatic_roi_002\.tif: no annotation; expected .*_nuclei\.geojson"):
        _ = PUMA(melanoma).records


@pytest.mark.parametrize(
    ("classification", "message"),
    [({"name": "nuclei_mitosis"}, "type 'nuclei_mitosis' is none of stroma"), (None, r"1 of \d+ nuclei have no class")],
)
def test_types_that_puma_does_not_have(tmp_path: Path, classification: object, message: str) -> None:
    write_nuclei(tmp_path / "x.geojson", TRUTH)
    content = features(tmp_path / "x.geojson")
    content["features"][0]["properties"]["classification"] = classification
    (tmp_path / "x.geojson").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_nuclei(tmp_path / "x.geojson", SHAPE)


def test_a_file_without_nuclei(tmp_path: Path) -> None:
    (tmp_path / "x.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    found = read_nuclei(tmp_path / "x.geojson", SHAPE)
    assert found.count == 0
    assert found.types is not None
