"""Runs on images of which some have nucleus labels, some regions, some both; and runs on a share of the labels."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmark.host.files import read_json
from benchmark.host.machine import Machine
from benchmark.inference.images import predict_images
from benchmark.registry import method_class
from benchmark.results.spec import Overrides, RunSpec, Target
from benchmark.runs.datasets import open_dataset
from benchmark.runs.result import Result
from benchmark.runs.run import execute
from benchmark.runs.train import build_method, choose_images, task_of
from benchmark.runs.trained import load_run, load_trained
from datamodules.drawing.labelled import has_nuclei
from datamodules.points_csv import REGIONS, PointsCSV
from datamodules.reading.sample import Sample
from models.base.method import Task
from postproc.errors import ConfigError, DataError
from postproc.instances import Instances

SHORT = Overrides(crop=48, steps=6, batch_size=2, crops_per_image=1, augment="flips", label_share=0.5)
TYPES = ("immunopositive tumour", "immunonegative tumour", "non-tumour")


def sample(name: str, *, nuclei: bool, regions: bool) -> Sample:
    """An image of 48 px with a nucleus in it, or a region, or both, or neither."""
    point = {"points": np.array([[20, 20]], np.float32), "types": np.ones(1, np.int64)} if nuclei else {}
    weak = {"regions": np.full((48, 48), 2, np.uint8)} if regions else {}
    pixels = np.random.default_rng(len(name)).integers(0, 255, (48, 48, 3), np.uint8)
    return Sample(pixels, Instances((48, 48), **point, **weak), name, name)


ALL_FOUR = [
    sample("both", nuclei=True, regions=True),
    sample("nuclei", nuclei=True, regions=False),
    sample("regions", nuclei=False, regions=True),
    sample("neither", nuclei=False, regions=False),
]


class TestShare:
    """The setting label_share."""

    def test_it_is_part_of_the_run_id_where_it_is_set(self) -> None:
        plain = RunSpec("kinet", "ki67")
        assert "label_share" not in str(plain.to_dict())
        ids = {RunSpec("kinet", "ki67", overrides=Overrides(label_share=s)).run_id for s in (None, 0.05, 0.1, 1.0, 1)}
        assert len(ids) == 3
        assert plain.run_id in ids
        limited = RunSpec("kinet", "ki67", overrides=Overrides(label_share=0.05))
        assert RunSpec.from_dict(limited.to_dict()) == limited

    @pytest.mark.parametrize("share", [0.0, -0.1, 5])
    def test_impossible_shares_are_refused(self, share: float) -> None:
        with pytest.raises(ConfigError, match="label_share"):
            Overrides(label_share=share)

    def test_outlines_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="label_share is only for point datasets, but kumar has outlines"):
            RunSpec("dist", "kumar", overrides=Overrides(label_share=0.5))

    def test_the_recipe_is_as_it_was(self) -> None:
        recipe = method_class("kinet").recipe
        assert Overrides(label_share=0.5).applied_to(recipe) == recipe


class TestChoice:
    """Which images a phase draws from."""

    @pytest.mark.parametrize(
        ("method", "options", "names"),
        [
            ("kinet", {}, {"both", "nuclei", "regions"}),
            ("kinet", {"roi": False}, {"both", "nuclei"}),
            ("frcn", {}, {"both", "nuclei"}),
            ("ki67-unet", {}, {"both", "nuclei"}),
        ],
    )
    def test_images_that_teach_nothing_are_left_out(self, method: str, options: dict, names: set[str]) -> None:
        small = dict(method_class(method).small)
        spec = RunSpec(method, "ki67", options={**small, **options})
        network = build_method(spec, Task(TYPES))
        assert {s.image_id for s in choose_images(spec, network, ALL_FOUR)} == names

    def test_stages_have_images_of_their_own(self) -> None:
        spec = RunSpec("kinet", "ki67", options={"width": 4, "stagewise": True})
        network = build_method(spec, Task(TYPES))
        found = []
        for phase in network.recipe.phases:
            network.begin(phase)
            found.append({s.image_id for s in choose_images(spec, network, ALL_FOUR)})
        assert found == [{"both", "regions"}, {"both", "nuclei"}]
        network.begin(network.recipe.phases[0])
        with pytest.raises(DataError, match="none of the 1 training images has the annotation that kinet needs"):
            choose_images(spec, network, ALL_FOUR[1:2])

    def test_labels_are_taken_off_by_the_seed_of_the_run(self) -> None:
        many = [sample(f"{k}", nuclei=True, regions=True) for k in range(20)]
        chosen = []
        for seed in (0, 0, 1):
            spec = RunSpec("kinet", "ki67", seed=seed, options={"width": 4}, overrides=Overrides(label_share=0.25))
            network = build_method(spec, Task(TYPES))
            kept = choose_images(spec, network, many)
            assert len(kept) == 20  # their regions still teach
            chosen.append([s.image_id for s in kept if has_nuclei(s.truth)])
        assert len(chosen[0]) == 5
        assert chosen[0] == chosen[1] != chosen[2]

    def test_all_four_in_one_batch_give_a_finite_loss(self) -> None:
        for method in ("kinet", "frcn", "fcrn-a", "sfcn-opi", "ki67-unet"):
            network = build_method(RunSpec(method, "ki67", options=dict(method_class(method).small)), Task(TYPES))
            crop = 200 if method == "ki67-unet" else 48  # its convolutions have no padding
            draw = network.drawer(network.recipe.override(crop=crop), augment=True)
            batch = network.collate([draw(s, np.random.default_rng(0)) for s in ALL_FOUR])
            total = torch.stack(list(network.train().losses(batch).values())).sum()
            total.backward()
            assert torch.isfinite(total)
            assert total > 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of the user's own: in each split an image with both, one with nuclei alone and one with regions alone."""
    folder = tmp_path_factory.mktemp("own")
    PointsCSV.write_synthetic(folder / "data/points-csv", images=9, size=64)
    for part, victim in (("train", "synthetic006_1"), ("val", "synthetic004_1"), ("test", "synthetic002_1")):
        place = folder / "data/points-csv" / part
        assert (place / f"{victim}{REGIONS}").is_file()
        (place / f"{victim}.csv").unlink()
    return folder


@pytest.fixture(scope="module")
def result(folder: Path) -> Result:
    spec = RunSpec("kinet", "points-csv", protocol="strict", options={"width": 4}, overrides=SHORT)
    machine = Machine(folder / "data", folder / "runs", workers=0, progress=False)
    return execute(spec, [Target.parse("points-csv")], machine)


@pytest.mark.slow
def test_images_without_nucleus_labels_are_not_scored(result: Result, folder: Path) -> None:
    (file,) = result.store.path.glob("evaluations/points-csv.test/*/scores.csv")
    table = pd.read_csv(file, dtype={"image": str})
    assert table["image"].tolist() == ["synthetic005_1", "synthetic008_1"]
    data = open_dataset("points-csv", Machine(folder / "data", folder / "runs"))
    assert len(data.select("test")) == 3
    assert table["n_true"].sum() == sum(s.truth.count for s in data.samples("test"))
    assert read_json(file.with_name("evaluation.json"))["types"] == list(TYPES)
    assert read_json(result.store.params_file)["kinet"]["trials"]  # tuned on the labelled validation images


@pytest.mark.slow
def test_a_split_without_any_nucleus_labels_is_named(result: Result, folder: Path) -> None:
    spec = result.store.spec()
    with pytest.raises(DataError, match=r"no image of points-csv\.group:synthetic002 has annotated nuclei"):
        execute(
            spec,
            [Target("points-csv", "group:synthetic002")],
            Machine(folder / "data", folder / "runs", workers=0, progress=False),
        )


@pytest.mark.slow
def test_types_of_an_own_set_travel_with_the_run(result: Result) -> None:
    assert task_of(result.store.spec()).types == ()  # the class knows none
    method, _, record = load_run(result.store)
    assert method.task == Task(TYPES, 0.34)
    assert record["train"]["dataset"] == "points-csv"
    assert record["overrides"]["label_share"] == 0.5


@pytest.mark.slow
def test_prediction_sums_up_each_image(result: Result, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = sorted((folder / "data/points-csv/test").glob("synthetic00?_1.png"))[:2]
    predict_images(
        result.store.path,
        images,
        folder / "out",
        load=load_trained,
        variant=None,
        magnification=None,
        progress=False,
        workers=0,
    )
    with (folder / "out/summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [path.name for path in images]
    printed = capsys.readouterr().out
    for row in rows:
        assert list(row) == ["image", "nuclei", *TYPES, "ki67_index"]
        positive, negative, other = (int(row[name]) for name in TYPES)
        assert positive + negative + other == int(row["nuclei"])
        if positive + negative:
            assert float(row["ki67_index"]) == pytest.approx(100 * positive / (positive + negative), abs=0.005)
            assert f"{row['image']}: {row['nuclei']} nuclei; Ki67 labelling index" in printed
        else:
            assert row["ki67_index"] == ""
            assert f"{row['image']}: {row['nuclei']} nuclei; Ki67 labelling index undefined" in printed


@pytest.mark.slow
def test_a_broken_image_does_not_stop_the_others(
    result: Result, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = folder / "data/points-csv/test/synthetic005_1.png"
    broken = folder / "broken.png"
    broken.write_bytes(good.read_bytes()[:500])
    status = predict_images(
        result.store.path,
        [broken, good],
        folder / "some",
        load=load_trained,
        variant=None,
        magnification=None,
        progress=False,
        workers=0,
    )
    assert status == 1
    assert "broken.png: cannot be read" in capsys.readouterr().err
    with (folder / "some/summary.csv").open() as file:
        assert [row["image"] for row in csv.DictReader(file)] == [good.name]
