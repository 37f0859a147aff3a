"""Other public layouts of the datasets, and how their annotations are understood."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from benchmark.registry import dataset_class
from datamodules.cpm15 import write_mask_text
from datamodules.crchisto import join
from datamodules.ki67 import LABELS, centres_of, proximity_map
from datamodules.monuseg import MoNuSeg
from datamodules.reading.aperio import write_aperio
from datamodules.reading.files import read_mat, write_label_png, write_mat, write_rgb
from datamodules.synthetic.images import generate
from postproc.errors import DataError
from postproc.instances import Instances

SIZE = 96


@pytest.fixture
def drawn() -> tuple[np.ndarray, Instances]:
    return generate((SIZE, SIZE), np.random.default_rng(5))


class TestLayouts:
    """Other layouts in which the same data are passed around."""

    def test_kumar_as_first_released(self, tmp_path: Path, drawn: tuple[np.ndarray, Instances]) -> None:
        image, truth = drawn
        kumar = dataset_class("kumar")
        assert truth.labels is not None
        for image_id in list(kumar.splits())[15:18]:
            write_rgb(tmp_path / "Tissue Images" / f"{image_id}.tif", image)
            write_aperio(tmp_path / "Annotations" / f"{image_id}.xml", truth.labels, 0.25)
        (tmp_path / "Tissue Images" / "._TCGA-18-5592-01Z-00-DX1.tif").write_bytes(b"macOS")
        dataset = kumar(tmp_path)
        assert [r.split for r in dataset.records] == ["train", "test_same", "test_same"]
        for sample in dataset.samples("all"):
            np.testing.assert_array_equal(sample.truth.labels, truth.labels)
            assert sample.mpp == 0.25

    def test_the_csv_decides_on_the_split(self, tmp_path: Path, drawn: tuple[np.ndarray, Instances]) -> None:
        image, truth = drawn
        write_rgb(tmp_path / "TRAIN" / "IMAGES" / "TCGA-21-5784-01Z-00-DX1.tif", image)
        write_mat(tmp_path / "TRAIN" / "LABELS" / "TCGA-21-5784-01Z-00-DX1.mat", truth)
        (record,) = dataset_class("kumar")(tmp_path).records
        assert record.split == "test_same"

    def test_image_that_no_split_knows(self, tmp_path: Path, drawn: tuple[np.ndarray, Instances]) -> None:
        write_rgb(tmp_path / "train" / "Images" / "mine.tif", drawn[0])
        write_mat(tmp_path / "train" / "Labels" / "mine.mat", drawn[1])
        with pytest.raises(DataError, match=r"mine\.tif: image 'mine' is not in the splits of kumar"):
            dataset_class("kumar").index(tmp_path)

    def test_image_that_is_there_twice(self, tmp_path: Path) -> None:
        kumar = dataset_class("kumar")
        kumar.write_synthetic(tmp_path / "a", images=1, size=SIZE)
        shutil.copytree(tmp_path / "a", tmp_path / "b")
        with pytest.raises(DataError, match="keep one"):
            kumar.index(tmp_path)

    def test_monuseg_with_all_files_side_by_side(self, tmp_path: Path, drawn: tuple[np.ndarray, Instances]) -> None:
        image, truth = drawn
        assert truth.labels is not None
        for image_id in ("TCGA-18-5592-01Z-00-DX1", "TCGA-HT-8564-01Z-00-DX1", "TCGA-UZ-A9PN-01Z-00-DX1"):
            write_rgb(tmp_path / f"{image_id}.tif", image)
            write_aperio(tmp_path / f"{image_id}.xml", truth.labels)
        dataset = dataset_class("monuseg")(tmp_path)
        assert [r.split for r in dataset.records] == ["train", "test", "extra"]
        assert [s.mpp for s in dataset.samples("all")] == [None, None, None]

    def test_consep_as_released_has_seven_types(self, tmp_path: Path) -> None:
        labels = np.zeros((20, 20), np.int32)
        for k in range(7):
            labels[2 * k, 3:9] = k + 1
        cases = {
            "train_1": ({"inst_type": np.arange(1, 8)[:, None]}, [1, 2, 3, 3, 4, 4, 4]),
            # types 1 to 4 alone, without inst_id: still the release, where 4 is malignant epithelium
            "train_2": ({"inst_type": np.array([1, 2, 3, 4, 4, 2, 1])[:, None]}, [1, 2, 3, 3, 3, 2, 1]),
            "train_3": (
                {"inst_type": np.array([1, 2, 3, 4, 4, 2, 1])[:, None], "inst_id": np.arange(1, 8)[:, None]},
                [1, 2, 3, 4, 4, 2, 1],
            ),
        }
        for name, (arrays, _) in cases.items():
            write_rgb(tmp_path / "Train" / "Images" / f"{name}.png", np.zeros((20, 20, 3), np.uint8))
            (tmp_path / "Train" / "Labels").mkdir(exist_ok=True)
            scipy.io.savemat(tmp_path / "Train" / "Labels" / f"{name}.mat", {"inst_map": labels, **arrays})
        for sample in dataset_class("consep")(tmp_path).samples("train"):
            np.testing.assert_array_equal(sample.truth.types, cases[sample.image_id][1])

    def test_consep_without_types_is_refused(self, tmp_path: Path, drawn: tuple[np.ndarray, Instances]) -> None:
        write_rgb(tmp_path / "Test" / "Images" / "test_1.png", drawn[0])
        write_mat(tmp_path / "Test" / "Labels" / "test_1.mat", Instances((SIZE, SIZE), drawn[1].labels))
        dataset = dataset_class("consep")(tmp_path)
        with pytest.raises(DataError, match=r"test_1\.mat: neither inst_type"):
            dataset.read(dataset.records[0])

    def test_cpm17_as_the_challenge_had_it(self, tmp_path: Path, drawn: tuple[np.ndarray, Instances]) -> None:
        image, truth = drawn
        assert truth.labels is not None
        for part in ("train", "test"):
            write_rgb(tmp_path / part / "image_03.png", image)
            write_rgb(tmp_path / part / "image_03_poly.png", image)
            write_mask_text(tmp_path / part / "image_03_mask.txt", truth.labels)
        dataset = dataset_class("cpm17")(tmp_path)
        assert [r.image_id for r in dataset.records] == ["train_image_03", "test_image_03"]
        for sample in dataset.samples("all"):
            np.testing.assert_array_equal(sample.truth.labels, truth.labels)

    def test_cpm15_with_label_maps(self, tmp_path: Path, drawn: tuple[np.ndarray, Instances]) -> None:
        for name in ("image07", "image08"):
            write_rgb(tmp_path / "cpm15" / "Images" / f"{name}.png", drawn[0])
            write_mat(tmp_path / "cpm15" / "Labels" / f"{name}.mat", Instances((SIZE, SIZE), drawn[1].labels))
        samples = list(dataset_class("cpm15")(tmp_path).samples("pool"))
        assert [s.magnification for s in samples] == [20.0, 40.0]

    @pytest.mark.parametrize("value", [1, 255])
    def test_tnbc_masks_are_labelled(self, tmp_path: Path, value: int) -> None:
        mask = np.zeros((30, 30), np.int32)
        mask[2:8, 2:8], mask[12:20, 3:9], mask[5:15, 20:25] = value, value, value
        mask[20, 9] = value  # touches the second nucleus by a corner
        write_rgb(tmp_path / "Slide_02" / "02_1.png", np.zeros((30, 30, 3), np.uint8))
        write_label_png(tmp_path / "GT_02" / "02_1.png", mask)
        (sample,) = dataset_class("tnbc")(tmp_path).samples("group:02")
        assert sample.truth.count == 3
        np.testing.assert_array_equal(sample.truth.labels > 0, mask > 0)


class TestCentres:
    """Datasets of points."""

    def test_every_crchisto_point_comes_back(self, tmp_path: Path) -> None:
        crchisto = dataset_class("crchisto")
        crchisto.write_synthetic(tmp_path, images=1, size=SIZE)
        (record,) = crchisto.index(tmp_path)
        truth = crchisto.read(record).truth
        assert truth.types is not None
        lists = [read_mat(path)["detection"] for path in record.annotations]
        assert truth.count == len(lists[0])
        for kind, points in enumerate(lists[1:], start=1):
            found = truth.centroids()[truth.types == kind]
            np.testing.assert_allclose(np.sort(found, axis=0), np.sort(points, axis=0), atol=1e-4)
        assert (truth.types == 0).any()

    def test_join_pairs_each_nucleus_once(self) -> None:
        every = np.array([[10.0, 10.0], [11.5, 10.0], [50.0, 50.0], [80.0, 5.0]])
        typed = np.array([[11.4, 10.0], [10.0, 10.3], [52.5, 50.0]])
        points, types = join(every, typed, np.array([1, 2, 3]))
        np.testing.assert_array_equal(types, [2, 1, 0, 0, 3])
        np.testing.assert_array_equal(points, np.concatenate([every, typed[2:]]))

    def test_join_of_empty_lists(self) -> None:
        none = np.zeros((0, 2))
        points, types = join(none, none, np.zeros(0, np.int64))
        assert points.shape == (0, 2)
        assert types.shape == (0,)

    def test_crchisto_points_beyond_the_border(self, tmp_path: Path) -> None:
        crchisto = dataset_class("crchisto")
        crchisto.write_synthetic(tmp_path, images=1, size=SIZE)
        (record,) = crchisto.index(tmp_path)
        scipy.io.savemat(record.annotations[0], {"detection": np.array([[SIZE + 0.5, -0.4], [3.0, 4.0]])})
        for path in record.annotations[1:]:
            scipy.io.savemat(path, {"detection": np.zeros((0, 2))})
        np.testing.assert_array_equal(crchisto.read(record).truth.points, [[SIZE - 1, 0], [3, 4]])
        scipy.io.savemat(record.annotations[0], {"detection": np.array([[SIZE + 40.0, 5.0]])})
        with pytest.raises(DataError, match="outside the image"):
            crchisto.read(record)

    def test_ki67_points_regions_and_types(self, tmp_path: Path) -> None:
        ki67 = dataset_class("ki67")
        ki67.write_synthetic(tmp_path, size=SIZE, seed=3)
        _, truth = generate((SIZE, SIZE), np.random.default_rng((3, 0)), density=2.4e-3, stain="ihc", scale=0.5)
        sample = next(s for s in ki67(tmp_path).samples("train") if s.image_id == "train_synthetic000_1")
        assert truth.types is not None
        assert sample.truth.types is not None
        np.testing.assert_array_equal(np.bincount(sample.truth.types), np.bincount(truth.types))
        for kind in (1, 2, 3):
            ours, drawn = ({tuple(p) for p in np.round(t.centroids()[t.types == kind])} for t in (sample.truth, truth))
            assert ours == drawn
        assert sample.truth.regions is not None
        np.testing.assert_array_equal(sample.truth.regions == 2, truth.regions == 2)

    def test_ki67_labels_or_regions_may_be_missing(self, tmp_path: Path) -> None:
        ki67 = dataset_class("ki67")
        ki67.write_synthetic(tmp_path, images=2, size=SIZE)
        shutil.rmtree(tmp_path / "rois" / "train")
        for name in LABELS:
            shutil.rmtree(tmp_path / name / "val")
        nuclei, regions = (next(ki67(tmp_path).samples(part)).truth for part in ("fit", "validation"))
        assert nuclei.regions is None
        assert nuclei.points is not None
        assert regions.points is None
        assert regions.types is None
        assert regions.regions is not None

    def test_ki67_case_in_two_splits_is_refused(self, tmp_path: Path) -> None:
        for part, number in (("train", 1), ("test", 2)):
            write_rgb(tmp_path / "images" / part / f"case07_{number}.png", np.zeros((9, 9, 3), np.uint8))
            write_rgb(tmp_path / "rois" / part / f"case07_{number}_roi.png", np.zeros((9, 9), np.uint8))
        with pytest.raises(DataError, match="group 'case07'"):
            _ = dataset_class("ki67")(tmp_path).records

    def test_adjacent_marks_are_one_centre(self) -> None:
        marks = np.zeros((9, 9), np.uint8)
        marks[2, 2] = marks[3, 3] = marks[7, 1] = 255
        np.testing.assert_array_equal(centres_of(marks, Path("x.png")), [[2.5, 2.5], [1, 7]])

    def test_proximity_of_equation_1(self) -> None:
        drawn = proximity_map(np.array([[20.0, 20.0]], np.float32), (41, 41))
        assert drawn[20, 20] == 255
        for distance in (1, 5, 14):
            expected = 255 * (np.exp(3 * (1 - distance / 15)) - 1) / (np.exp(3) - 1)
            assert abs(int(drawn[20, 20 + distance]) - expected) <= 0.51
        assert drawn[20, 35] == 0
        assert not proximity_map(np.zeros((0, 2), np.float32), (4, 4)).any()


def test_underscores_in_folders_and_capital_endings(tmp_path: Path) -> None:
    MoNuSeg.write_synthetic(tmp_path, images=3, size=64)
    before = [record.image_id for record in MoNuSeg(tmp_path).records]
    for folder in sorted(tmp_path.rglob("Tissue Images")):
        folder.rename(folder.with_name("Tissue_Images"))
    for path in sorted(tmp_path.rglob("*.xml")):
        path.rename(path.with_suffix(".XML"))
    assert [record.image_id for record in MoNuSeg(tmp_path).records] == before
    assert all(sample.truth.count for sample in MoNuSeg(tmp_path).samples("all"))
