"""Every registered dataset: its stand-in is read like the real thing; real images where they are present."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmark.registry import DATASETS, dataset_class
from datamodules.base import NucleiDataModule
from datamodules.reading.aperio import Polygons, rasterise, read_polygons
from datamodules.reading.files import read_instances, read_mat, read_rgb, write_label_png, write_rgb
from datamodules.reading.sample import Sample
from datamodules.reading.stacks import write_stack
from postproc.errors import DataError
from postproc.pixels.labels import relabel

NAMES = sorted(name for name in DATASETS if dataset_class(name).card.annotation != "none")
SIZE = 96


@pytest.fixture(scope="module", params=NAMES)
def stand_in(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> NucleiDataModule:
    """Each dataset in turn, on its own synthetic files."""
    dataset = dataset_class(request.param)
    root = tmp_path_factory.mktemp(request.param)
    dataset.write_synthetic(root, size=SIZE)
    return dataset(root)


@pytest.fixture
def copy(stand_in: NucleiDataModule, tmp_path: Path) -> NucleiDataModule:
    """A copy of the stand-in that a test may spoil."""
    shutil.copytree(stand_in.root, tmp_path / "copy")
    return type(stand_in)(tmp_path / "copy")


def check(dataset: NucleiDataModule, sample: Sample) -> None:
    """Check every field against the documentation of `Sample` and against the card."""
    card, truth = dataset.card, sample.truth
    height, width = truth.shape
    assert sample.image.dtype == np.uint8
    assert sample.image.shape == (height, width, 3)
    assert truth.count > 0
    if truth.labels is not None:
        assert truth.labels.dtype == np.int32
        np.testing.assert_array_equal(np.unique(truth.labels[truth.labels > 0]), np.arange(1, truth.count + 1))
    if truth.points is not None:
        assert truth.points.dtype == np.float32
        assert (truth.points >= 0).all()
        assert (truth.points <= [width - 1, height - 1]).all()
    assert (truth.types is not None) == bool(card.types)
    if truth.types is not None:
        assert truth.types.dtype == np.int64
        assert truth.types.min() >= 0
        assert truth.types.max() <= len(card.types)
    assert (truth.labels is not None) == (card.annotation == "instances")
    assert sample.magnification in (None, 10.0, 20.0, 40.0)


class TestEveryDataset:
    def test_samples_are_valid(self, stand_in: NucleiDataModule) -> None:
        for record, sample in zip(stand_in.records, stand_in.samples("all"), strict=True):
            check(stand_in, sample)
            assert (sample.image_id, sample.group) == (record.image_id, record.group)

    def test_every_split_of_the_card_has_two_images(self, stand_in: NucleiDataModule) -> None:
        for split in stand_in.card.images:
            assert len(stand_in.select(split)) >= 2

    def test_strict_protocol_has_images_on_both_sides(self, stand_in: NucleiDataModule) -> None:
        if any(row.validation for row in stand_in.splits().values()):
            groups = [{r.group for r in stand_in.select(part)} for part in ("fit", "validation")]
            assert groups[0]
            assert groups[1]
            assert not groups[0] & groups[1]

    def test_number_of_images_can_be_chosen(self, stand_in: NucleiDataModule, tmp_path: Path) -> None:
        type(stand_in).write_synthetic(tmp_path, images=1, size=SIZE)
        assert len(type(stand_in)(tmp_path).records) == 1

    def test_stand_in_depends_on_the_seed_alone(self, stand_in: NucleiDataModule, tmp_path: Path) -> None:
        for name, seed in (("again", 0), ("other", 1)):
            type(stand_in).write_synthetic(tmp_path / name, images=1, size=SIZE, seed=seed)
        again, other = (type(stand_in)(tmp_path / name) for name in ("again", "other"))
        first = next(s for s in stand_in.samples("all") if s.image_id == again.records[0].image_id)
        np.testing.assert_array_equal(next(again.samples("all")).image, first.image)
        assert not np.array_equal(next(other.samples("all")).image, first.image)

    def test_folder_above_is_found_too(self, stand_in: NucleiDataModule, tmp_path: Path) -> None:
        (tmp_path / "download [1] \u00e9").mkdir()
        shutil.copytree(stand_in.root, tmp_path / "download [1] \u00e9" / "set")
        if stand_in.card.generated:
            pytest.skip("written by this suite, never unpacked from an archive")
        moved = type(stand_in)(tmp_path / "download [1] \u00e9")
        assert [r.image_id for r in moved.records] == [r.image_id for r in stand_in.records]

    def test_missing_folder_says_where_to_get_the_data(self, stand_in: NucleiDataModule, tmp_path: Path) -> None:
        with pytest.raises(DataError) as caught:
            _ = type(stand_in)(tmp_path / "nowhere").records
        assert stand_in.card.url in str(caught.value)
        assert stand_in.card.layout in str(caught.value)

    def test_empty_folder_shows_the_layout(self, stand_in: NucleiDataModule, tmp_path: Path) -> None:
        with pytest.raises(DataError) as caught:
            _ = type(stand_in)(tmp_path).records
        assert stand_in.card.layout in str(caught.value)

    def test_missing_annotation_is_named(self, copy: NucleiDataModule) -> None:
        victim = copy.records[-1]
        victim.annotations[0].unlink()
        with pytest.raises(DataError, match=victim.annotations[0].stem.split("_label")[0]):
            list(type(copy)(copy.root).samples("all"))

    def test_size_mismatch_names_the_annotation(self, copy: NucleiDataModule) -> None:
        victim = copy.records[0]
        if copy.card.annotation == "points" and (len(victim.annotations) > 4 or victim.annotations[0].suffix == ".txt"):
            pytest.skip("lists of points carry no size")
        if victim.annotations[0].suffix in (".xml", ".geojson"):
            pytest.skip("polygons carry no size")
        if victim.index is not None:
            write_stack(victim.image, np.load(victim.image)[:, :-1])
            with pytest.raises(DataError, match=victim.annotations[0].name):
                copy.read(victim)
            return
        write_rgb(victim.image, read_rgb(victim.image)[:-1])
        with pytest.raises(DataError, match=victim.annotations[0].name):
            copy.read(victim)

    def test_damaged_image_is_named(self, copy: NucleiDataModule) -> None:
        victim = copy.records[0]
        victim.image.write_bytes(victim.image.read_bytes()[:-3000])
        with pytest.raises(DataError, match=victim.image.name):
            copy.read(victim)

    def test_damaged_annotation_is_named(self, copy: NucleiDataModule) -> None:
        victim = copy.records[0]
        half = victim.annotations[0].read_bytes()[: victim.annotations[0].stat().st_size // 2]
        victim.annotations[0].write_bytes(half.removesuffix(b"\n"))  # a list cut between two lines looks whole
        with pytest.raises(DataError, match=victim.annotations[0].name):
            copy.read(victim)


@pytest.fixture(scope="module")
def real(data_root: Path) -> dict[str, NucleiDataModule]:
    folders = {"ki67": "ki67_kinet"}
    found = {name: data_root / folders.get(name, name) for name in NAMES}
    return {name: dataset_class(name)(root) for name, root in found.items() if root.is_dir()}


@pytest.mark.real_data
class TestRealData:
    """What is present of the real datasets."""

    @pytest.mark.parametrize(
        ("name", "split", "images", "nuclei"),
        [
            ("cpm15", "pool", 5, 1_155),
            ("ki67", "all", 2, 1_762),
            ("monuseg", "group:TCGA-B0-5710", 1, 359),
            ("tnbc", "pool", 50, 4_028),
        ],
    )
    def test_counts(self, real: dict[str, NucleiDataModule], name: str, split: str, images: int, nuclei: int) -> None:
        if name not in real:
            pytest.skip(f"{name} is not here")
        samples = list(real[name].samples(split))
        for sample in samples:
            check(real[name], sample)
        assert (len(samples), sum(s.truth.count for s in samples)) == (images, nuclei)

    @pytest.mark.parametrize(("name", "nuclei"), [("kumar", 16_958), ("consep", 24_332)])
    def test_counts_of_label_maps(self, real: dict[str, NucleiDataModule], name: str, nuclei: int) -> None:
        if name not in real:
            pytest.skip(f"{name} is not here")
        dataset = real[name]
        assert sum(read_instances(r.annotations[0]).count for r in dataset.records) == nuclei
        check(dataset, dataset.read(dataset.records[0]))

    def test_consep_types_agree_with_its_type_map(self, real: dict[str, NucleiDataModule]) -> None:
        if "consep" not in real:
            pytest.skip("consep is not here")
        for record in real["consep"].select("test")[:4]:
            type_map = read_mat(record.annotations[0])["type_map"]
            truth = real["consep"].read(record).truth
            assert truth.labels is not None
            assert truth.types is not None
            np.testing.assert_array_equal(truth.types[truth.labels[truth.labels > 0] - 1], type_map[truth.labels > 0])

    def test_tnbc_mask_gives_the_nuclei_of_the_ids(self, real: dict[str, NucleiDataModule], tmp_path: Path) -> None:
        if "tnbc" not in real:
            pytest.skip("tnbc is not here")
        tnbc = real["tnbc"]
        for record in tnbc.select("group:05"):
            by_id = tnbc.read(record).truth
            assert by_id.labels is not None
            write_rgb(tmp_path / "Slide_05" / record.image.name, read_rgb(record.image))
            write_label_png(tmp_path / "GT_05" / record.image.name, np.where(by_id.labels > 0, 255, 0).astype(np.int32))
        for sample in type(tnbc)(tmp_path).samples("all"):
            record = next(r for r in tnbc.records if r.image_id == sample.image_id)
            assert sample.truth.count == tnbc.read(record).truth.count

    def test_monuseg_polygons_give_the_label_maps_of_kumar(
        self, real: dict[str, NucleiDataModule], polygons: dict[str, Polygons]
    ) -> None:
        if "kumar" not in real:
            pytest.skip("kumar is not here")
        for record in real["kumar"].records:
            if record.image_id in polygons:
                label_map = read_instances(record.annotations[0])
                assert label_map.labels is not None
                drawn = rasterise(polygons[record.image_id].regions, label_map.shape)
                assert panoptic_quality(label_map.labels, drawn) > 0.994

    def test_monuseg_quirks(self, polygons: dict[str, Polygons]) -> None:
        assert min(len(region) for file in polygons.values() for region in file.regions) == 2
        assert sum(file.mpp is None for file in polygons.values()) == 1


@pytest.fixture(scope="module")
def polygons(real: dict[str, NucleiDataModule]) -> dict[str, Polygons]:
    """Image id -> annotation of what is present of MoNuSeg."""
    if "monuseg" not in real:
        pytest.skip("monuseg is not here")
    return {record.image_id: read_polygons(record.annotations[0]) for record in real["monuseg"].records}


def panoptic_quality(true: np.ndarray, predicted: np.ndarray) -> float:
    """PQ of two label maps, spelled out (Kirillov et al., 2019, equation 1)."""
    (true, _, _), (predicted, _, _) = relabel(true), relabel(predicted)
    rows, columns = int(true.max()) + 1, int(predicted.max()) + 1
    shared = np.bincount((true.astype(np.int64) * columns + predicted).ravel(), minlength=rows * columns)
    shared = shared.reshape(rows, columns)
    union = shared.sum(axis=1)[:, None] + shared.sum(axis=0)[None] - shared
    iou = (shared / np.maximum(union, 1))[1:, 1:]
    matched = iou[iou > 0.5]
    return float(matched.sum() / (len(matched) + (rows - 1 - len(matched)) / 2 + (columns - 1 - len(matched)) / 2))
