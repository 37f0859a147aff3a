"""What the base of the datasets owns: selection, groups, items that do not depend on how they are loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.drawing.crops import CropDrawer
from datamodules.drawing.items import EpochSampler, ItemDataset
from datamodules.drawing.loading import Loading
from datamodules.reading.records import Record, check_groups
from datamodules.reading.sample import Sample
from datamodules.sources import Bookmark, TrainingData
from datamodules.synthetic_sets import Synthetic
from postproc.codecs.distance import DistanceCodec
from postproc.errors import ConfigError, DataError
from tests.helpers.runs import sources_of, training_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    root = tmp_path_factory.mktemp("synthetic")
    Synthetic.write_synthetic(root, size=96)
    return Synthetic(root)


def collate(items: list) -> dict:
    return {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}


def loading(workers: int = 0, **changes: object) -> Loading:
    draw = CropDrawer(48, DistanceCodec(), "stain")
    base = Loading(draw, draw, collate, batch_size=3, crops_per_image=2, workers=workers)
    return replace(base, **changes)


def test_splits_are_disjoint_and_complete(data: Synthetic) -> None:
    fit, validation, test = (data.select(name) for name in ("fit", "validation", "test"))
    assert {r.image_id for r in fit} | {r.image_id for r in validation} == {r.image_id for r in data.select("train")}
    groups = [{r.group for r in part} for part in (fit, validation, test)]
    assert not groups[0] & groups[1]
    assert not (groups[0] | groups[1]) & groups[2]
    assert len(data.select("all")) == len(fit) + len(validation) + len(test)
    group = fit[0].group
    assert {r.group for r in data.select(f"group:{group}")} == {group}
    assert group not in {r.group for r in data.select(f"except-group:{group}")}


def test_unknown_splits_are_named(data: Synthetic) -> None:
    with pytest.raises(ConfigError, match="no split 'tests'"):
        data.select("tests")
    with pytest.raises(ConfigError, match="no group"):
        data.select("group:nobody")


def test_a_group_in_two_splits_is_an_error() -> None:
    record = Record("a", Path("a.png"), (), "patient", "train")
    check_groups([record, replace(record, image_id="b")], "x")
    for other in (replace(record, split="test_same"), replace(record, validation=True)):
        with pytest.raises(DataError, match="'patient'"):
            check_groups([record, other], "x")


def test_items_do_not_depend_on_workers(data: Synthetic) -> None:
    batches = []
    for workers in (0, 2):
        loader = training_data(data, loading(workers), epoch=3).train_dataloader()
        batches.append([batch["image"] for batch in loader])
    assert len(batches[0]) == len(batches[1]) == 6 * 2 // 3
    for one, two in zip(*batches, strict=True):
        assert torch.equal(one, two)


def test_epochs_differ_and_repeat(data: Synthetic) -> None:
    bookmark = Bookmark()
    loader = TrainingData(sources_of(data), loading(), bookmark).train_dataloader()
    images = []
    for epoch in (0, 1, 0):
        bookmark.epoch = epoch
        images.append(torch.cat([batch["image"] for batch in loader]))
    assert torch.equal(images[0], images[2])
    assert not torch.equal(images[0], images[1])


def test_each_image_is_drawn_equally_often(data: Synthetic) -> None:
    samples = [data.read(r) for r in data.select("train")]
    seen: list[str] = []
    items = ItemDataset(samples, lambda sample, rng: seen.append(sample.image_id) or {}, 3, seed=0)
    for key in EpochSampler(len(items), lambda: 0):
        items[key]
    assert {name: seen.count(name) for name in seen} == {s.image_id: 3 for s in samples}


def test_processes_share_the_items() -> None:
    keys = []
    for rank in range(3):
        keys += list(EpochSampler(10, lambda: 2, rank, 3))
    assert sorted(keys) == list(range(20, 29))


def test_validation_items_are_the_same_every_time(data: Synthetic) -> None:
    training = training_data(data, loading())
    first, second = (list(training.val_dataloader()) for _ in range(2))
    whole = [batch.image_id for batch in first if isinstance(batch, Sample)]
    assert whole == [record.image_id for record in data.select("validation")]
    first, second = (torch.cat([b["image"] for b in part if isinstance(b, dict)]) for part in (first, second))
    assert torch.equal(first, second)
    assert training_data(data, loading(), strict=False).val_dataloader() == []


def test_fingerprint_follows_the_contents(data: Synthetic, tmp_path: Path) -> None:
    Synthetic.write_synthetic(tmp_path, size=96, seed=1)
    one, two = data.fingerprint("test"), Synthetic(tmp_path).fingerprint("test")
    assert one["images"] == two["images"] == 4
    assert one["sha256"] != two["sha256"]
    assert one == data.fingerprint("test")


def test_missing_folder_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nucbench prepare synthetic --synthetic"):
        _ = Synthetic(tmp_path / "nothing").records
