"""The dataset of tiles: its manifest, its balance, and that it is read only where it is drawn from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules import tiles as module
from datamodules.drawing.loading import Loading
from datamodules.drawing.magnification import MagnificationDrawer, Tile, draw_batch
from datamodules.reading.files import read_rgb
from datamodules.reading.tile_manifest import MANIFEST, Row, read_manifest, tile_file, write_manifest
from datamodules.sources import Bookmark, ImageSet, Sources, TrainingData
from datamodules.synthetic_sets import Synthetic
from datamodules.tiles import Tiles, patient
from postproc.codec import Targets
from postproc.errors import ConfigError, DataError
from tests.helpers.runs import training_data


@pytest.fixture
def data(tmp_path: Path) -> Tiles:
    Tiles.write_synthetic(tmp_path / "tiles", images=12, size=48)
    return Tiles(tmp_path / "tiles")


def collate(drafts: list[Targets]) -> dict[str, Any]:
    items = draw_batch(drafts)
    return {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}


def loading(**changes: Any) -> Loading:
    draw = MagnificationDrawer(32)
    settings: dict[str, Any] = {"batch_size": 32, "crops_per_image": 1}
    return Loading(draw, draw, collate, **{**settings, **changes})


def training(data: Tiles, epoch: int = 0, **changes: Any) -> TrainingData:
    return training_data(data, loading(**changes), epoch=epoch, strict=False, annotated=False)


def test_samples_have_a_magnification_and_no_annotation(data: Tiles) -> None:
    for record, sample in zip(data.select("train"), data.samples("all"), strict=True):
        assert isinstance(sample, Tile)
        assert sample.image_id == record.image_id
        assert sample.image_id.startswith(f"{sample.magnification:g}x/")
        assert sample.mpp == 10 / (sample.magnification or 0)
        assert sample.truth.labels is sample.truth.points is sample.truth.types is None
        np.testing.assert_array_equal(sample.image, read_rgb(record.image))
    assert [sample.magnification for sample in data.samples("all")].count(20.0) == 4


def test_every_batch_has_all_magnifications_equally_often(data: Tiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCHES", 3)
    for world in (1, 2, 3):
        totals = np.zeros(3, int)
        for rank in range(world):
            loader = training(data, rank=rank, world=world).train_dataloader()
            assert len(loader) == 3
            for batch in loader:
                counts = np.bincount(batch["magnification"], minlength=3)
                assert sorted(counts) == [10, 11, 11]
                totals += counts
        assert (totals == 32 * world).all()


def test_an_epoch_is_a_hundred_batches(data: Tiles) -> None:
    assert len(training(data, batch_size=2, crops_per_image=169).train_dataloader()) == 100


def test_items_depend_on_seed_epoch_and_number_alone(data: Tiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCHES", 2)
    images = []
    for epoch, seed, workers in ((0, 0, 0), (0, 0, 2), (1, 0, 0), (0, 1, 0)):
        loader = training(data, epoch, batch_size=6, seed=seed, workers=workers).train_dataloader()
        images.append(torch.cat([batch["image"] for batch in loader]))
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])
    assert not torch.equal(images[0], images[3])


def test_only_drawn_tiles_are_read(data: Tiles, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(module, "read_rgb", lambda path: read.append(path) or read_rgb(path))
    data.fingerprint("train")
    loader = training(data, batch_size=2).train_dataloader()
    assert read == []
    next(iter(loader))
    assert len(read) == 2


def test_a_missing_magnification_is_named(data: Tiles) -> None:
    write_manifest(data.root, [row for row in read_manifest(data.root) if row.magnification != 20])
    again = Tiles(data.root)
    with pytest.raises(ConfigError, match=r"none of the 8 tiles is at 20x.*--magnifications 10 20 40"):
        training(again).train_dataloader()


def test_tiles_are_trained_on_alone(data: Tiles, tmp_path: Path) -> None:
    sources = Sources(
        (ImageSet(data, "train"), ImageSet(Synthetic(tmp_path), "train")), ImageSet(data, "train"), strict=False
    )
    with pytest.raises(ConfigError, match="tiles cannot be combined"):
        TrainingData(sources, loading(), Bookmark()).train_dataloader()


def test_manifest_is_kept_exactly(tmp_path: Path) -> None:
    rows = [
        Row("b", 1, 448, 0, 10.0, 0.75, tile_file("b", 10.0, 448, 0)),
        Row('a, "x"', 0, 12345678, 987654, 2.5, 0.123457, tile_file('a, "x"', 2.5, 12345678, 987654)),
    ]
    write_manifest(tmp_path, rows)
    assert read_manifest(tmp_path) == rows[::-1]  # by slide
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]


def test_patients() -> None:
    assert patient("TCGA-18-5592-01Z-00-DX1.41BD6380-A3A0-4ED1-8752-42BBC3B4680C") == "TCGA-18-5592"
    assert patient("slide 7") == "slide 7"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a,0,0,0,10,1,../../secret.png", "not the path of this tile"),
        ("../a,0,0,0,10,1,10x/../a/0_0.png", "is not the name of a slide"),
        ("..,0,0,0,10,1,10x/../0_0.png", "is not the name of a slide"),
        ("a,0,0,0,nan,1,nanx/a/0_0.png", "magnification nan"),
        ("a,0,0,zero,10,1,10x/a/0_0.png", "zero"),
        ("a,0", "line 2"),
    ],
)
def test_a_damaged_manifest_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / MANIFEST).write_text(f"slide,level,x,y,magnification,tissue,file\n{line}\n")
    with pytest.raises(DataError, match=rf"{MANIFEST}, line 2.*{message}|{MANIFEST}.*{message}"):
        _ = Tiles(tmp_path).records


def test_other_files_in_its_place(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text("image,group\n")
    with pytest.raises(DataError, match="its columns are"):
        _ = Tiles(tmp_path).records
    (tmp_path / MANIFEST).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=MANIFEST):
        _ = Tiles(tmp_path).records


def test_missing_and_damaged_tiles_are_named(data: Tiles) -> None:
    first, second = data.records[:2]
    first.image.unlink()
    second.image.write_bytes(second.image.read_bytes()[:100])
    for record in (first, second):
        with pytest.raises(DataError, match=record.image.name):
            data.read(record)


def test_a_folder_without_tiles_says_how_to_make_them(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match="nucbench tiles"):
            _ = Tiles(folder).records


def test_fingerprint_follows_the_manifest(data: Tiles) -> None:
    before = data.fingerprint("train")
    assert (before["images"], before["nuclei"]) == (12, None)
    write_manifest(data.root, read_manifest(data.root)[1:])
    after = Tiles(data.root).fingerprint("train")
    assert after["images"] == 11
    assert after["sha256"] != before["sha256"]
