"""MoNuSAC: layers of types, ambiguous regions, patients on both sides."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from datamodules.monusac import TYPES, MoNuSAC, write_annotation
from datamodules.reading.aperio import read_polygons, read_typed_aperio
from datamodules.reading.files import write_rgb
from datamodules.reading.monusac_patients import BOTH, TEST, TRAIN, VALIDATION
from datamodules.synthetic.images import generate
from postproc.errors import DataError
from postproc.instances import Instances

SIZE = 64
SHAPE = (SIZE, SIZE)
IMAGE, TRUTH = generate(SHAPE, np.random.default_rng(3))


def place(root: Path, folder: str, patient: str, suffix: str = ".tif") -> Path:
    name = f"{patient}-01Z-00-DX1"
    path = root / folder / name / f"{name}_1{suffix}"
    write_rgb(path, IMAGE)
    write_annotation(path.with_suffix(".xml"), TRUTH)
    return path


def test_layers_are_types(tmp_path: Path) -> None:
    write_annotation(tmp_path / "x.xml", TRUTH)
    found, mpp = read_typed_aperio(tmp_path / "x.xml", SHAPE, TYPES)
    assert found.labels is not None
    assert TRUTH.types is not None
    kinds = np.concatenate([[0], TRUTH.types])[TRUTH.labels]
    assert found.types is not None
    np.testing.assert_array_equal(np.concatenate([[0], found.types])[found.labels], kinds)
    assert mpp == 0.2525


def test_ambiguous_regions_are_no_nuclei(tmp_path: Path) -> None:
    write_annotation(tmp_path / "x.xml", TRUTH, ambiguous=True)
    found, _ = read_typed_aperio(tmp_path / "x.xml", SHAPE, TYPES, ("ambiguous",))
    assert found.count == TRUTH.count - 1
    with pytest.raises(DataError, match=r"x\.xml: a layer has the attribute 'Ambiguous'; expected epithelial"):
        read_typed_aperio(tmp_path / "x.xml", SHAPE, TYPES)


def test_an_image_of_ambiguous_regions_has_no_nuclei(tmp_path: Path) -> None:
    one = Instances(SHAPE, labels=(TRUTH.labels == 1).astype(np.int32), types=np.array([1]))
    write_annotation(tmp_path / "x.xml", one)
    text = (tmp_path / "x.xml").read_text().replace("Epithelial", "Ambiguous")
    (tmp_path / "x.xml").write_text(text)
    found, _ = read_typed_aperio(tmp_path / "x.xml", SHAPE, TYPES, ("ambiguous",))
    assert (found.count, found.types is not None and found.types.tolist()) == (0, [])
    assert read_polygons(tmp_path / "x.xml").kinds == ("Ambiguous",)


def test_patients_decide_and_folders_only_where_both_lists_name_one(tmp_path: Path) -> None:
    assert {"TCGA-A2-A0ES", "TCGA-MP-A4T7"} == BOTH
    shared = min(BOTH)
    place(tmp_path, "anything", TEST["lung"][0])
    place(tmp_path, "anything", TRAIN["lung"][0])
    place(tmp_path, "MoNuSAC_images_and_annotations", shared)
    place(tmp_path, "MoNuSAC Testing Data and Annotations", shared)
    records = MoNuSAC(tmp_path).records
    assert [(r.group, r.split, r.validation) for r in records] == [
        (TRAIN["lung"][0], "train", True),
        (shared, "train", False),
        (TEST["lung"][0], "test", False),
        (f"{shared} (test)", "test", False),
    ]
    assert [s.tissue for s in MoNuSAC(tmp_path).samples("all")] == ["lung", "breast", "lung", "breast"]


def test_two_patients_of_each_organ_are_kept() -> None:
    assert len(VALIDATION) == 8
    for patients in TRAIN.values():
        assert len(VALIDATION & set(patients)) == 2
    assert not VALIDATION & BOTH
    assert (sum(map(len, TRAIN.values())), sum(map(len, TEST.values()))) == (46, 25)


def test_the_slide_is_preferred(tmp_path: Path) -> None:
    tif = place(tmp_path, "train", TRAIN["lung"][0])
    write_rgb(tif, 255 - IMAGE)
    write_rgb(tif.with_suffix(".svs"), IMAGE)
    (sample,) = MoNuSAC(tmp_path).samples("all")
    np.testing.assert_array_equal(sample.image, IMAGE)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.with_suffix(".xml").unlink(), r"_1\.tif: no annotation; expected .*_1\.xml"),
        (lambda path: shutil.copytree(path.parent, path.parent.parent / "again"), "are the same image; keep one"),
        (
            lambda path: path.rename(path.with_name("TCGA-00-0000_1.tif")),
            "no annotation; expected",
        ),
    ],
)
def test_mistakes(tmp_path: Path, spoil: object, message: str) -> None:
    path = place(tmp_path, "train", TRAIN["lung"][0])
    assert callable(spoil)
    spoil(path)
    with pytest.raises(DataError, match=message):
        _ = MoNuSAC(tmp_path).records


def test_a_patient_of_another_dataset(tmp_path: Path) -> None:
    place(tmp_path, "train", "TCGA-00-0000")
    with pytest.raises(DataError, match="'TCGA-00-0000' is none of the patients of MoNuSAC"):
        _ = MoNuSAC(tmp_path).records
