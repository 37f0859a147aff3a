"""Points of the user's own: what is read, and what is said of every mistake."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.points_csv import REGIONS, PointsCSV, read_regions
from datamodules.reading.files import write_rgb
from datamodules.reading.points_table import PointsDescription, read_points, read_points_description, write_points
from datamodules.synthetic.images import generate
from postproc.errors import ConfigError, DataError, InputWarning

TYPES = ("immunopositive tumour", "immunonegative tumour", "non-tumour")
ABOUT = "types: [immunopositive tumour, immunonegative tumour, non-tumour]\nradius: 16\nmagnification: 20\nmpp: 0.34\n"


def image(folder: Path, stem: str, table: str | None = "x,y,class\n1,2,non-tumour\n", regions: bool = False) -> None:
    write_rgb(folder / f"{stem}.png", np.full((20, 30, 3), 200, np.uint8))
    if table is not None:
        (folder / f"{stem}.csv").write_text(table)
    if regions:
        write_rgb(folder / f"{stem}{REGIONS}", np.full((20, 30), 255, np.uint8))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A set of two training images of one case, a validation and a test image."""
    (tmp_path / "dataset.yaml").write_text(ABOUT)
    for part, stem in (("train", "a_1"), ("train", "a_2"), ("val", "b_1"), ("test", "c")):
        image(tmp_path / part, stem)
    return tmp_path


class TestDataset:
    """The layout, and the card that comes of dataset.yaml."""

    def test_every_point_and_region_comes_back(self, tmp_path: Path) -> None:
        PointsCSV.write_synthetic(tmp_path, size=96, seed=3)
        data = PointsCSV(tmp_path)
        for number, record in ((0, "synthetic000_1"), (1, "synthetic001_1")):
            sample = next(s for s in data.samples("all") if s.image_id == record)
            _, truth = generate((96, 96), np.random.default_rng((3, number)), density=2.4e-3, stain="ihc", scale=0.5)
            np.testing.assert_allclose(sample.truth.points, truth.centroids(), atol=0.006)
            np.testing.assert_array_equal(sample.truth.types, truth.types)
            assert (sample.truth.regions is None) == (number == 1)
            if number == 0:
                np.testing.assert_array_equal(sample.truth.regions, truth.regions)

    def test_the_card_is_that_of_the_folder(self, root: Path) -> None:
        card = PointsCSV(root).card
        assert (card.types, card.radius, card.magnification, card.mpp) == (TYPES, 16.0, 20.0, 0.34)
        assert PointsCSV.card.types == ()
        (sample,) = PointsCSV(root).samples("test")
        assert (sample.magnification, sample.mpp) == (20.0, 0.34)

    def test_splits_and_cases_follow_folders_and_names(self, root: Path) -> None:
        data = PointsCSV(root)
        assert {r.image_id: (r.group, r.split, r.validation) for r in data.records} == {
            "a_1": ("a", "train", False),
            "a_2": ("a", "train", False),
            "b_1": ("b", "train", True),
            "c": ("c", "test", False),
        }
        assert [r.image_id for r in data.select("fit")] == ["a_1", "a_2"]

    def test_cases_can_be_stated(self, root: Path) -> None:
        (root / "dataset.yaml").write_text(ABOUT + "cases: {a_1: 7, a_2: eight}\n")
        assert [r.group for r in PointsCSV(root).records[:2]] == ["7", "eight"]
        (root / "dataset.yaml").write_text(ABOUT + "cases: {a_1: c}\n")
        with pytest.raises(DataError, match="group 'c'"):
            _ = PointsCSV(root).records
        (root / "dataset.yaml").write_text(ABOUT + "cases: {a_9: c}\n")
        with pytest.raises(DataError, match="cases lists 'a_9', but there is no such image"):
            _ = PointsCSV(root).records

    def test_labels_or_regions_may_be_missing(self, root: Path) -> None:
        image(root / "train", "regions", None, regions=True)
        image(root / "train", "both", regions=True)
        image(root / "train", "none_found", "x,y,class\n")
        truths = {s.image_id: s.truth for s in PointsCSV(root).samples("train")}
        assert truths["regions"].points is None
        assert truths["regions"].types is None
        assert (truths["regions"].regions == 2).all()
        assert truths["both"].points is not None
        assert truths["both"].regions is not None
        assert truths["a_1"].regions is None
        assert truths["none_found"].points.shape == (0, 2)
        assert truths["none_found"].types.shape == (0,)

    def test_an_image_without_any_annotation_is_refused(self, root: Path) -> None:
        image(root / "train", "bare", None)
        with pytest.raises(DataError, match=r"bare\.png: no annotation; expected .*bare\.csv"):
            _ = PointsCSV(root).records

    def test_an_annotation_without_its_image_is_refused(self, root: Path) -> None:
        (root / "test" / "d.csv").write_text("x,y,class\n")
        with pytest.raises(DataError, match=r"d\.csv: no image 'd' next to it"):
            _ = PointsCSV(root).records

    def test_one_name_in_two_splits_is_refused(self, root: Path) -> None:
        image(root / "test", "a_1")
        with pytest.raises(DataError, match="keep one"):
            _ = PointsCSV(root).records

    def test_without_validation_images_protocol_strict_says_so(self, root: Path) -> None:
        for path in (root / "val").iterdir():
            path.unlink()
        with pytest.raises(ConfigError, match="--protocol paper"):
            PointsCSV(root).select("validation")


class TestDescription:
    """dataset.yaml."""

    def read(self, folder: Path, text: str) -> PointsDescription:
        (folder / "dataset.yaml").write_text(text)
        return read_points_description(folder / "dataset.yaml")

    def test_types_may_be_none_and_scale_unknown(self, tmp_path: Path) -> None:
        assert self.read(tmp_path, "types: []\nradius: 6\n") == PointsDescription((), 6.0)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("types: []\n", "no radius; add a line"),
            ("radius: 3\n", "no types; add a line"),
            ("types: []\nradius: 0\n", "radius is 0, expected greater than 0"),
            ("types: []\nradius: 6\nmpp: fine\n", "mpp is 'fine'"),
            ("types: []\nradius: 6\nmagnification: true\n", "magnification is True"),
            ("types: [true, 5]\nradius: 6\n", "types.0 is True, expected text"),
            ("types: [a, A]\nradius: 6\n", "names one type twice"),
            ("types: []\nradius: 6\nmagnifcation: 20\n", "'magnifcation'.*Did you mean 'magnification'"),
            ("types: []\nradius: 6\ncases: [a]\n", "cases is"),
            ("- 1\n", "must hold a mapping"),
            ("types: [\n", "not readable as YAML"),
        ],
    )
    def test_mistakes_are_named(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(DataError, match=rf"dataset\.yaml: .*{message}"):
            self.read(tmp_path, text)


class TestTable:
    """The CSV of an image."""

    @pytest.mark.parametrize(
        "text",
        [
            "x,y,class\n3.5,4,A\n",
            "X, Y ,Label\r\n3.5,4,a\r\n",
            "Class;x_px;y_px\na;3.5;4\n",
            "type\tcentroid x\tcentroid y\na\t3.5\t4\n",
            '\ufeffx,y,Classification\n3.5,4,"a"\n',
        ],
    )
    def test_spellings_of_the_header(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "a.csv").write_text(text, encoding="utf-8", newline="")
        points, types = read_points(tmp_path / "a.csv", (10, 10), ("b", "a"))
        np.testing.assert_array_equal(points, [[3.5, 4.0]])
        np.testing.assert_array_equal(types, [2])

    def test_unknown_classes_empty_lines_and_further_columns(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("id,x,y,class,note\n1,0,0,,q\n\n2,9.9,4.2, B ,\n")
        points, types = read_points(tmp_path / "a.csv", (5, 10), ("a", "b"))
        np.testing.assert_array_equal(points, np.array([[0, 0], [9, 4]], np.float32))  # the last px, not beyond it
        np.testing.assert_array_equal(types, [0, 2])

    def test_without_types_the_class_is_not_read(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("x,y\n1,2\n")
        points, types = read_points(tmp_path / "a.csv", (5, 10), ())
        assert points.dtype == np.float32
        assert types is None

    def test_written_points_come_back(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        points, types = rng.uniform(0, 50, (30, 2)).round(2).astype(np.float32), rng.integers(0, 3, 30)
        write_points(tmp_path / "a.csv", points, types, ("a", "b"))
        found = read_points(tmp_path / "a.csv", (51, 51), ("a", "b"))
        np.testing.assert_allclose(found[0], points, atol=1e-5)
        np.testing.assert_array_equal(found[1], types)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "the file is empty; an image without nuclei has only the header"),
            ("a,y,class\n", "line 1: no column x"),
            ("x,y\n", "line 1: no column class"),
            ("x,X,y,class\n", "line 1: 'x' and 'X' both mean x"),
            ("x,y,class\n1,2,other\n1,two,other\n", "line 3: y is 'two', expected a number"),
            ("x,y,class\n1,nan,other\n", "line 2: y is 'nan'"),
            ("x,y,class\n30,2,other\n", "line 2: x = 30 is outside the image of 30 x 20 px"),
            ("x,y,class\n1,-0.5,other\n", "line 2: y = -0.5 is outside"),
            ("x,y,class\n\n1,2,tumuor\n", "line 3: unknown class 'tumuor'.*Did you mean 'tumour'"),
            ("x,y,class\n1,2\n", "line 2: 2 columns, fewer than the header's"),
        ],
    )
    def test_mistakes_are_named_with_their_line(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "a.csv").write_text(text)
        with pytest.raises(DataError, match=rf"a\.csv[:,] .*{message}"):
            read_points(tmp_path / "a.csv", (20, 30), ("tumour", "other"))

    def test_other_encodings_are_named(self, tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_bytes("x,y,class\n1,2,t\u00e4ter\n".encode("latin-1"))
        with pytest.raises(DataError, match=r"a\.csv: .*UTF-8"):
            read_points(tmp_path / "a.csv", (20, 30), ("a",))


def test_smoothed_regions_are_refused(tmp_path: Path) -> None:
    grey = np.zeros((6, 8), np.uint8)
    grey[:, 4:] = 255
    grey[3, 5] = 190
    write_rgb(tmp_path / "a_regions.png", grey)
    with pytest.raises(DataError, match=r"a_regions\.png: grey level 190 at \(5, 3\)"):
        read_regions(tmp_path / "a_regions.png", (6, 8))


def test_headers_of_qupath_and_points_given_twice(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("Object ID\tClassification\tCentroid X px\tCentroid Y px\n1\ta\t1\t2\n2\ta\t3\t4\n3\ta\t1\t2\n")
    with pytest.warns(InputWarning, match=r"x\.csv: 1 points are in the file twice.*line 4"):
        points, types = read_points(path, (9, 9), ["a"])
    np.testing.assert_array_equal(points, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(types, [1, 1])
    path.write_text("x,y,class\n1,2,a\n1,2,b\n")
    with pytest.raises(DataError, match=r"line 3: repeats the point of line 2 with another class"):
        read_points(path, (9, 9), ["a", "b"])
    path.write_text("Centroid X µm,Centroid Y µm\n1,2\n")
    with pytest.raises(DataError, match=r"no column x .*microns"):
        read_points(path, (9, 9), [])
