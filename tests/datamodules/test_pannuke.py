"""PanNuke: channels, folds, tissues, and that stacks are not read whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datamodules.pannuke import TISSUES, PanNuke, merge_channels
from datamodules.reading.stacks import open_stack, write_stack
from postproc.errors import DataError

SIZE = 64


@pytest.fixture
def root(tmp_path: Path) -> Path:
    PanNuke.write_synthetic(tmp_path, images=9, size=SIZE)
    return tmp_path


def fold_2(root: Path, name: str) -> Path:
    kind = "masks" if name == "masks" else "images"
    return root / "Fold 2" / kind / "fold2" / f"{name}.npy"


def test_equal_ids_in_two_channels_are_two_nuclei() -> None:
    channels = np.zeros((6, 6, 5), np.int64)
    channels[:2, :2, 0] = 7
    channels[:2, 4:, 0] = 3
    channels[4:, :2, 4] = 7
    found = merge_channels(channels)
    assert found.types is not None
    assert found.labels is not None
    assert found.types.tolist() == [1, 1, 5]
    assert (found.labels[0, 4], found.labels[0, 0], found.labels[5, 0]) == (1, 2, 3)


def test_the_later_channel_wins_where_channels_overlap() -> None:
    channels = np.zeros((6, 6, 5), np.int64)
    channels[1:3, 1:3, 0] = 1  # covered completely
    channels[0, :, 1] = 4
    channels[0:4, 0:4, 2] = 1
    found = merge_channels(channels)
    assert found.types is not None
    assert found.types.tolist() == [2, 3]
    assert found.labels is not None
    assert found.labels[0].tolist() == [2, 2, 2, 2, 1, 1]


def test_no_nuclei() -> None:
    found = merge_channels(np.zeros((4, 4, 5), np.int64))
    assert found.count == 0
    assert found.types is not None
    assert found.types.shape == (0,)


def test_folds_and_tissues(root: Path) -> None:
    data = PanNuke(root)
    assert [r.image_id for r in data.select("fold2")] == ["fold2_0000", "fold2_0001", "fold2_0002"]
    assert [s.tissue for s in data.samples("fold2")] == list(TISSUES[:3])
    assert len({record.place for record in data.records}) == 9


def test_only_the_images_that_are_read_are_in_memory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, ...]] = []
    plain = np.array

    def recording(values: object, *args: object, **options: object) -> object:
        if isinstance(values, np.memmap):
            read.append(values.shape)
        return plain(values, *args, **options)

    data = PanNuke(root)
    record = data.select("fold2")[1]
    monkeypatch.setattr(np, "array", recording)
    data.read(record)
    assert read == [(SIZE, SIZE, 6), (SIZE, SIZE, 3)]
    assert isinstance(open_stack(record.image, (None, None, 3)), np.memmap)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("types", np.array(["Breast", "Nose", "Skin"]), "image 1 has the tissue 'Nose'"),
        ("types", np.array(["Breast"]), "different numbers of images: images.npy 3, masks.npy 3, types.npy 1"),
        ("masks", np.zeros((3, SIZE, SIZE, 5)), "expected N x any x any x 6"),
        ("masks", np.full((3, SIZE, SIZE, 6), 0.5), "image 0 has the value 0.5; expected whole numbers"),
        ("masks", np.full((3, SIZE, SIZE, 6), -1), "values from -1 to -1"),
        ("images", np.full((3, SIZE, SIZE, 3), 256.0), "values from 256.0 to 256.0; expected 0 to 255"),
        ("images", np.array([["a"]]), "images.npy: holds 1 x 1 values"),
    ],
)
def test_mistakes_name_file_and_value(root: Path, name: str, values: np.ndarray, message: str) -> None:
    write_stack(fold_2(root, name), values)
    with pytest.raises(DataError) as caught:
        list(PanNuke(root).samples("fold2"))
    assert message in str(caught.value)
    assert "fold2" in str(caught.value)


def test_a_fold_without_a_stack(root: Path) -> None:
    fold_2(root, "types").unlink()
    with pytest.raises(DataError, match=r"fold2 has no types\.npy"):
        _ = PanNuke(root).records


def test_two_copies_of_a_fold(root: Path) -> None:
    write_stack(root / "fold_2" / "images.npy", np.zeros((3, SIZE, SIZE, 3)))
    with pytest.raises(DataError, match="are the same fold"):
        _ = PanNuke(root).records


def test_stacks_without_the_name_of_a_fold(tmp_path: Path) -> None:
    write_stack(tmp_path / "images.npy", np.zeros((3, SIZE, SIZE, 3)))
    with pytest.raises(DataError, match="no folder above it names the fold"):
        _ = PanNuke(tmp_path).records
