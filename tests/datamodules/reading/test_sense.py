"""Label maps whose ids cannot be ids of nuclei."""

from __future__ import annotations

import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from PIL import Image

from datamodules.reading import sense
from datamodules.reading.files import read_instances
from datamodules.reading.rasters import label_raster
from datamodules.reading.sense import Sense
from postproc.errors import DataError, InputWarning


def grid(count: int, columns: int = 20) -> np.ndarray:
    """Return squares of 4 px with the ids 1..count, int32 (H, W), none touching another."""
    labels = np.zeros((6 * -(-count // columns), 6 * columns), np.int32)
    for k in range(count):
        y, x = divmod(k, columns)
        labels[6 * y : 6 * y + 4, 6 * x : 6 * x + 4] = k + 1
    return labels


def saved(path: Path, array: np.ndarray) -> Path:
    if path.suffix == ".mat":
        scipy.io.savemat(path, {"inst_map": array})
    elif path.suffix == ".npy":
        np.save(path, array)
    else:
        Image.fromarray(array).save(path)
    return path


@pytest.mark.parametrize("name", ["x.png", "x.npy", "x.mat"])
@pytest.mark.parametrize(("value", "count"), [(255, 2), (255, 30), (1, 4)])
def test_masks_are_labelled(tmp_path: Path, name: str, value: int, count: int) -> None:
    path = saved(tmp_path / name, ((grid(count) > 0) * value).astype(np.uint8))
    with pytest.warns(InputWarning, match=rf"{name} is a mask.*--components false"):
        nuclei = read_instances(path)
    np.testing.assert_array_equal(nuclei.labels, grid(count))
    assert read_instances(path, Sense(components=False)).count == 1


def test_one_line_for_all_masks(tmp_path: Path) -> None:
    checks = Sense()
    for number in range(3):
        read_instances(saved(tmp_path / f"{number}.npy", grid(9) > 0), checks)
    with pytest.warns(InputWarning, match=r"0\.npy and 2 more are masks") as told:
        checks.tell()
    assert len(told) == 1


def test_one_id_in_a_few_parts_is_refused_until_told(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.npy", (grid(3) > 0).astype(np.int32))
    with pytest.raises(DataError, match=r"x\.npy: one id \(1\) in 3 parts.*--components"):
        read_instances(path)
    assert read_instances(path, Sense(components=True)).count == 3
    assert read_instances(path, Sense(components=False)).count == 1


def test_maps_of_classes_are_refused_until_told(tmp_path: Path) -> None:
    labels = grid(60)
    path = saved(tmp_path / "x.png", np.where(labels > 0, labels % 3 + 1, 0).astype(np.uint8))
    with pytest.raises(DataError, match=r"x\.png: 3 ids in 60 parts.*one id per nucleus"):
        read_instances(path)
    np.testing.assert_array_equal(read_instances(path, Sense(components=True)).labels, labels)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda labels: labels % 256, "255 ids in 399 parts"),
        (lambda labels: labels.clip(max=255), "id 255, the largest of 8 bits, is in 146 parts"),
        (lambda labels: np.where((labels % 256) % 9 == 1, 0, labels % 256), "226 ids in 354 parts"),
    ],
)
def test_ids_lost_in_8_bits_are_named(tmp_path: Path, change: Any, reason: str) -> None:
    path = saved(tmp_path / "x.png", change(grid(400)).astype(np.uint8))
    with pytest.warns(InputWarning, match=rf"x\.png: {reason}.*scores are wrong"):
        read_instances(path)


@pytest.mark.parametrize("count", [1, 40, 254])
def test_sound_maps_of_8_bits_say_nothing(tmp_path: Path, count: int) -> None:
    labels = grid(count)
    labels[1, 1] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_instances(saved(tmp_path / "x.png", labels.astype(np.uint8))).count == count


def test_palette_index_is_the_id(tmp_path: Path) -> None:
    height, width = grid(12).shape
    picture = Image.frombytes("P", (width, height), grid(12).astype(np.uint8).tobytes())
    picture.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tolist())
    picture.save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_instances(tmp_path / "x.png").labels, grid(12))


def test_maps_by_band_are_checked_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sense, "_BAND", 600)
    good, mask = saved(tmp_path / "good.npy", grid(100)), saved(tmp_path / "mask.npy", (grid(100) > 0).astype(np.uint8))
    for path, fails in ((good, False), (mask, True)):
        regions = label_raster(path)
        assert regions is not None
        if fails:
            with pytest.raises(DataError, match=r"mask\.npy: one id \(1\) in many parts"):
                Sense().check_bands(regions.read, regions.shape, path)
        else:
            Sense().check_bands(regions.read, regions.shape, path)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"inst_type": [[500_000]]}, "type 500000; types are 0"),
        ({"inst_type": [[1e300]]}, r"type 1e\+300"),
        ({"type_map": np.full((4, 4), 10**8)}, "type_map holds the type 1e"),
    ],
)
def test_types_are_bounded(tmp_path: Path, arrays: dict[str, Any], reason: str) -> None:
    scipy.io.savemat(tmp_path / "x.mat", {"inst_map": np.ones((4, 4), np.int32), **arrays})
    with pytest.raises(DataError, match=rf"x\.mat: .*{reason}"):
        read_instances(tmp_path / "x.mat")


@pytest.mark.parametrize(
    ("shape", "points"),
    [
        ([[np.nan, 5]], [[1, 2]]),
        ([[1e300, 5]], [[1, 2]]),
        ([[0, 5]], [[1, 2]]),
        ([[5.5, 5]], [[1, 2]]),
        ([[5, 5]], [[1, 2, 3]]),
        ([[5, 5]], [[1, np.inf]]),
    ],
)
def test_centres_that_cannot_be_are_refused(tmp_path: Path, shape: Any, points: Any) -> None:
    scipy.io.savemat(tmp_path / "x.mat", {"image_shape": shape, "inst_centroid": np.array(points, float)})
    with pytest.raises(DataError, match=r"x\.mat: (image_shape|inst_centroid)"):
        read_instances(tmp_path / "x.mat")


def test_many_arrays_of_zeros_are_not_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datamodules.reading import files

    zeros = {f"a{k}": np.zeros((1000, 1000)) for k in range(20)}
    scipy.io.savemat(tmp_path / "x.mat", zeros, do_compression=True)
    monkeypatch.setattr(files, "MAX_PIXELS", 1_000_000)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"x\.mat: its arrays hold more than 2000000 values together"):
        read_instances(tmp_path / "x.mat")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60_000_000
