"""Images and label maps: what is written is read back, and types find their nuclei."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import tifffile
from PIL import Image

from datamodules.reading.files import (
    check_size,
    read_instances,
    read_rgb,
    write_label_png,
    write_mat,
    write_npy,
    write_rgb,
)
from datamodules.reading.matlab import majority_types
from postproc.errors import DataError, InputWarning
from postproc.instances import Instances


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (9, 13, 3), np.uint8)


@pytest.fixture
def labels() -> np.ndarray:
    """Three nuclei with the ids 2, 5 and 300."""
    labels = np.zeros((9, 13), np.int32)
    labels[1:3, 1:4], labels[4:8, 2:5], labels[0:5, 8:12] = 2, 5, 300
    return labels


@pytest.fixture
def compact(labels: np.ndarray) -> np.ndarray:
    return np.searchsorted([0, 2, 5, 300], labels).astype(np.int32)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".bmp", ".PNG", ".TIF"])
def test_rgb_round_trip(tmp_path: Path, image: np.ndarray, suffix: str) -> None:
    write_rgb(tmp_path / f"x{suffix}", image)
    read = read_rgb(tmp_path / f"x{suffix}")
    np.testing.assert_array_equal(read, image)
    assert read.flags.c_contiguous


def test_jpeg_is_read(tmp_path: Path) -> None:
    flat = np.full((16, 16, 3), (200, 120, 40), np.uint8)
    Image.fromarray(flat).save(tmp_path / "x.jpg", quality=95)
    assert np.abs(read_rgb(tmp_path / "x.jpg").astype(int) - flat).max() <= 4


def test_alpha_is_dropped_not_blended(tmp_path: Path, image: np.ndarray) -> None:
    transparent = np.concatenate([image, np.zeros((9, 13, 1), np.uint8)], axis=2)
    for name in ("x.png", "x.tif"):
        write_rgb(tmp_path / name, transparent)
        np.testing.assert_array_equal(read_rgb(tmp_path / name), image)


def test_grey_is_repeated_and_palette_resolved(tmp_path: Path, image: np.ndarray) -> None:
    grey = image[..., 0]
    for name in ("grey.png", "grey.tif"):
        write_rgb(tmp_path / name, grey)
        np.testing.assert_array_equal(read_rgb(tmp_path / name), np.repeat(grey[..., None], 3, axis=2))
    palette = Image.fromarray((grey > 127).astype(np.uint8), mode="L").convert("P")
    palette.putpalette([10, 20, 30, 200, 210, 220])
    palette.save(tmp_path / "palette.png")
    expected = np.where(grey[..., None] > 127, (200, 210, 220), (10, 20, 30))
    np.testing.assert_array_equal(read_rgb(tmp_path / "palette.png"), expected)


def test_tiff_variants(tmp_path: Path, image: np.ndarray) -> None:
    planes = tmp_path / "planes.tif"
    tifffile.imwrite(planes, image.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_rgb(planes), image)
    tifffile.imwrite(tmp_path / "white.tif", image[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(read_rgb(tmp_path / "white.tif")[..., 0], 255 - image[..., 0])
    with tifffile.TiffWriter(tmp_path / "pages.tif") as writer:
        writer.write(image, photometric="rgb")
        writer.write(image[::2, ::2], photometric="rgb")
    np.testing.assert_array_equal(read_rgb(tmp_path / "pages.tif"), image)


@pytest.mark.parametrize("name", ["x.png", "x.npy", "x.mat", "x.tif"])
def test_label_maps_are_numbered_anew(tmp_path: Path, labels: np.ndarray, compact: np.ndarray, name: str) -> None:
    path = tmp_path / name
    match path.suffix:
        case ".png":
            write_label_png(path, labels)
        case ".npy":
            write_npy(path, labels)
        case ".mat":
            scipy.io.savemat(path, {"inst_map": labels})
        case ".tif":
            tifffile.imwrite(path, labels.astype(np.uint16))
    read = read_instances(path)
    np.testing.assert_array_equal(read.labels, compact)
    assert read.types is None


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int64, np.float32, np.float64])
def test_any_whole_dtype_is_a_label_map(tmp_path: Path, compact: np.ndarray, dtype: type) -> None:
    np.save(tmp_path / "x.npy", compact.astype(dtype))
    np.testing.assert_array_equal(read_instances(tmp_path / "x.npy").labels, compact)


def test_mat_round_trip(tmp_path: Path, compact: np.ndarray) -> None:
    whole = Instances((9, 13), compact, types=np.array([4, 0, 1]), scores=np.array([0.5, 0.25, 1.0], np.float32))
    write_mat(tmp_path / "x.mat", whole)
    read = read_instances(tmp_path / "x.mat")
    np.testing.assert_array_equal(read.labels, compact)
    np.testing.assert_array_equal(read.types, [4, 0, 1])
    np.testing.assert_array_equal(read.scores, [0.5, 0.25, 1.0])


def test_mat_round_trip_of_points(tmp_path: Path) -> None:
    points = np.array([[1.5, 2.0], [12.0, 8.25]], np.float32)
    write_mat(tmp_path / "x.mat", Instances((9, 13), points=points, types=np.array([2, 1])))
    read = read_instances(tmp_path / "x.mat")
    assert read.shape == (9, 13)
    assert read.labels is None
    np.testing.assert_array_equal(read.points, points)
    np.testing.assert_array_equal(read.types, [2, 1])


def test_empty_maps_have_no_nuclei(tmp_path: Path) -> None:
    empty = Instances((9, 13), np.zeros((9, 13), np.int32), types=np.zeros(0, np.int64))
    write_mat(tmp_path / "x.mat", empty)
    read = read_instances(tmp_path / "x.mat")
    assert read.count == 0
    assert read.types is not None
    assert len(read.types) == 0


class TestTypesFindTheirIds:
    """The rules of `datamodules.reading.matlab.instances_of_arrays`; ids are 2, 5 and 300, in the types 2, 1 and
    3."""

    def read(self, tmp_path: Path, **arrays: np.ndarray) -> np.ndarray | None:
        scipy.io.savemat(tmp_path / "x.mat", arrays)
        return read_instances(tmp_path / "x.mat").types

    def test_by_inst_id(self, tmp_path: Path, labels: np.ndarray) -> None:
        types = self.read(tmp_path, inst_map=labels, inst_type=[[3], [9], [2], [1]], inst_id=[[300], [77], [2], [5]])
        np.testing.assert_array_equal(types, [2, 1, 3])

    def test_one_row_per_id(self, tmp_path: Path, labels: np.ndarray) -> None:
        np.testing.assert_array_equal(self.read(tmp_path, inst_map=labels, inst_type=[[2], [1], [3]]), [2, 1, 3])

    def test_one_row_up_to_the_largest_id(self, tmp_path: Path, labels: np.ndarray) -> None:
        rows = np.full((300, 1), 9)
        rows[[1, 4, 299], 0] = 2, 1, 3
        np.testing.assert_array_equal(self.read(tmp_path, inst_map=labels, inst_type=rows), [2, 1, 3])

    def test_majority_of_type_map(self, tmp_path: Path, labels: np.ndarray) -> None:
        type_map = np.select([labels == 2, labels == 5, labels == 300], [2, 1, 3])
        type_map[1, 1] = 3
        np.testing.assert_array_equal(self.read(tmp_path, inst_map=labels, type_map=type_map), [2, 1, 3])

    @pytest.mark.parametrize("rows", [2, 4, 299])
    def test_other_numbers_of_rows_are_refused(self, tmp_path: Path, labels: np.ndarray, rows: int) -> None:
        with pytest.raises(DataError, match=rf"x\.mat: inst_type has {rows} rows for 3 ids up to 300"):
            self.read(tmp_path, inst_map=labels, inst_type=np.ones((rows, 1)))

    @pytest.mark.parametrize(("types", "ids"), [("inst_type", "inst_uid"), ("class", "id"), ("inst_type", "inst_id")])
    def test_ids_without_a_row_have_no_type(self, tmp_path: Path, labels: np.ndarray, types: str, ids: str) -> None:
        found = self.read(tmp_path, inst_map=labels, **{types: [[3], [2]], ids: [[300], [2]]})
        np.testing.assert_array_equal(found, [2, 0, 3])

    def test_ids_of_another_map_are_refused(self, tmp_path: Path, labels: np.ndarray) -> None:
        with pytest.raises(DataError, match=r"none of the 3 ids of inst_map is in inst_id"):
            self.read(tmp_path, inst_map=labels, inst_type=[[1], [1]], inst_id=[[3], [6]])

    def test_foreign_types_are_named(self, tmp_path: Path, labels: np.ndarray) -> None:
        with pytest.warns(InputWarning, match=r"x\.mat: read without types; 'nuc_class' may hold them"):
            assert self.read(tmp_path, inst_map=labels, nuc_class=[[1], [2], [3]]) is None

    def test_channels_of_npy_are_ids_and_types(self, tmp_path: Path, labels: np.ndarray) -> None:
        kinds = np.select([labels == 2, labels == 5, labels == 300], [2, 1, 3])
        np.save(tmp_path / "x.npy", np.stack([labels, kinds], axis=-1))
        np.testing.assert_array_equal(read_instances(tmp_path / "x.npy").types, [2, 1, 3])

    def test_ids_named_twice_are_refused(self, tmp_path: Path, labels: np.ndarray) -> None:
        with pytest.raises(DataError, match="an id twice"):
            self.read(tmp_path, inst_map=labels, inst_type=[[1]] * 4, inst_id=[[2], [5], [300], [2]])

    def test_fractional_types_are_refused(self, tmp_path: Path, labels: np.ndarray) -> None:
        with pytest.raises(DataError, match="whole numbers"):
            self.read(tmp_path, inst_map=labels, inst_type=[[1.5], [1], [2]])


def test_ties_of_the_majority_go_to_the_lower_type() -> None:
    labels = np.array([[1, 1, 2, 2]], np.int32)
    types = majority_types(labels, np.array([[4, 3, 1, 1]]), Path("x.mat"))
    np.testing.assert_array_equal(types, [3, 1])


def test_writing_replaces_whole_files_only(tmp_path: Path, compact: np.ndarray) -> None:
    path = tmp_path / "x.npy"
    write_npy(path, compact)
    before = path.read_bytes()
    with pytest.raises(DataError, match="does not fit 16 bits"):
        write_label_png(tmp_path / "x.png", compact + 70_000)
    with pytest.raises(ValueError, match="pickle"):
        write_npy(path, np.array([object()]))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]


def test_size_mismatch_names_the_annotation(image: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"y\.mat: annotation of \(13, 9\) px"):
        check_size(image, Instances((13, 9)), Path("y.mat"))
