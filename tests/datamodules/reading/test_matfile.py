"""MATLAB files: what scipy reads of them, or one DataError."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from datamodules.reading.files import read_instances, read_mat
from postproc.errors import DataError

NOISE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)


def test_objects_are_passed_over(tmp_path: Path) -> None:
    cells = np.array([["text", np.ones(3)]], object)
    scipy.io.savemat(tmp_path / "x.mat", {"cells": cells, "inst_map": np.eye(3, dtype=np.int32), "z": 1j})
    assert set(read_mat(tmp_path / "x.mat")) == {"inst_map"}


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", ["?", "b", "B", "h", "H", "i", "I", "q", "Q", "f", "d"])
def test_values_are_those_of_scipy(tmp_path: Path, dtype: str, compressed: bool) -> None:
    arrays = {"a": np.arange(12).reshape(3, 4).astype(dtype), "b": np.zeros((0, 3), dtype), "c": np.ones(1, dtype)}
    arrays["long_name_of_thirty_characters"] = np.ones((2, 3, 4), dtype)
    scipy.io.savemat(tmp_path / "x.mat", arrays, do_compression=compressed)
    expected = scipy.io.loadmat(tmp_path / "x.mat")
    found = read_mat(tmp_path / "x.mat")
    assert set(found) == set(arrays)
    for name, array in found.items():
        assert array.dtype == expected[name].dtype
        np.testing.assert_array_equal(array, expected[name])


def test_big_endian(tmp_path: Path) -> None:
    values = np.arange(6, dtype=">f8").reshape(2, 3)
    content = struct.pack(">IIII", 6, 8, 6, 0) + struct.pack(">IIii", 5, 8, 2, 3) + struct.pack(">HH4s", 1, 1, b"a")
    content += struct.pack(">II", 9, 48) + values.tobytes(order="F")
    head = b"MATLAB 5.0".ljust(124) + struct.pack(">H", 0x0100) + b"MI"
    (tmp_path / "x.mat").write_bytes(head + struct.pack(">II", 14, len(content)) + content)
    np.testing.assert_array_equal(read_mat(tmp_path / "x.mat")["a"], values)
    np.testing.assert_array_equal(scipy.io.loadmat(tmp_path / "x.mat")["a"], values)


def test_version_4(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "x.mat", {"inst_map": np.eye(3)}, format="4")
    with pytest.raises(DataError, match=r"x\.mat: not a MATLAB 5 file; save it with '-v7'"):
        read_mat(tmp_path / "x.mat")


def test_compressed_bomb(tmp_path: Path) -> None:
    # a gigabyte of zeros behind an array that claims to be small, and one that claims to be large
    for shape, reason in (((3, 3), "differs from the stated one|ends early|has"), ((40_000, 40_000), "limit")):
        content = struct.pack("<IIII", 6, 8, 12, 0) + struct.pack("<IIii", 5, 8, *shape)
        content += struct.pack("<HH4s", 1, 1, b"a") + struct.pack("<II", 5, 36)
        packer = zlib.compressobj()
        packed = packer.compress(struct.pack("<II", 14, len(content) + 40) + content + bytes(50_000_000))
        packed += packer.flush()
        head = b"MATLAB 5.0".ljust(124) + struct.pack("<H", 0x0100) + b"IM"
        (tmp_path / "x.mat").write_bytes(head + struct.pack("<II", 15, len(packed)) + packed)
        tracemalloc.start()
        with pytest.raises(DataError, match=reason):
            read_mat(tmp_path / "x.mat")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
        tracemalloc.stop()


def test_without_inst_map(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "x.mat", {"other": np.ones(3), "text": "inst_map"})
    with pytest.raises(DataError, match=r"x\.mat: no inst_map \(H, W\); the file holds other"):
        read_instances(tmp_path / "x.mat")


def test_inst_map_that_is_a_struct(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "x.mat", {"inst_map": {"a": np.ones(3)}})
    with pytest.raises(DataError, match="no inst_map"):
        read_instances(tmp_path / "x.mat")


def test_version_7_3(tmp_path: Path) -> None:
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + struct.pack("<H", 0x0200) + b"IM"
    (tmp_path / "x.mat").write_bytes(header + b"\x89HDF\r\n\x1a\n".ljust(512, b"\0"))
    with pytest.raises(DataError, match=r"x\.mat: MATLAB 7\.3"):
        read_instances(tmp_path / "x.mat")


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("compressed", [True, False])
def test_truncated(tmp_path: Path, share: float, compressed: bool) -> None:
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"inst_map": NOISE[..., 0].astype(np.int32)}, do_compression=compressed)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError, match=r"x\.mat"):
        read_instances(path)


def test_only_numbers_are_read(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "x.mat", {"a": np.ones(2), "b": "text", "c": {"d": 1}})
    assert set(read_mat(tmp_path / "x.mat")) == {"a"}
