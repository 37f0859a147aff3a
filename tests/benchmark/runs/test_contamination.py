"""Test images that a model was trained on are recognised by their pixels, in other files and other datasets."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from benchmark.host.machine import Machine
from benchmark.results.spec import Overrides, RunSpec, Target
from benchmark.results.trained_images import TRAINED_IMAGES, TrainedImages
from benchmark.runs.contamination import KnownImages, hash_sets
from benchmark.runs.export import export
from benchmark.runs.run import execute
from datamodules.base import SYNTHETIC_MARKER
from datamodules.kumar import Kumar
from datamodules.monuseg import MoNuSeg
from datamodules.sources import ImageSet
from datamodules.tnbc import TNBC
from leaderboards.records import load_scores

SHORT = Overrides(crop=48, augment="flips", crops_per_image=1, steps=2, batch_size=2)
SPEC = RunSpec("dist", "tnbc", split="group:01,02", options={"features": 2}, overrides=SHORT)
TRAIN, TEST = "group:01", "group:03"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """TNBC and Kumar with different images; without the marker of stand-ins, which are not compared by content."""
    for seed, kind in enumerate((TNBC, Kumar)):
        root = tmp_path / "data" / kind.card.name
        kind.write_synthetic(root, size=96, seed=seed)
    return tmp_path / "data"


def evaluated(folder: Path, split: str, spec: RunSpec = SPEC) -> tuple[Path, dict]:
    machine = Machine(folder, folder.parent / "runs", workers=0, progress=False, wandb="off")
    path = execute(spec, [Target("tnbc", split)], machine).store.path
    return path, json.loads(next(path.glob(f"evaluations/tnbc.{split}/*/evaluation.json")).read_text())


def image_of(folder: Path, group: str) -> Path:
    return TNBC(folder / "tnbc").select(f"group:{group}")[0].image


def test_new_images_are_not_seen(folder: Path) -> None:
    path, about = evaluated(folder, TEST)
    assert (about["seen"], about["seen_images"], about["similar_images"]) == (0, {}, {})
    hashes = TrainedImages.read(path / TRAINED_IMAGES)
    assert list(hashes.sets) == ["tnbc.group:01,02"]
    assert len(hashes.sets["tnbc.group:01,02"]) == 2
    assert json.loads((path / "record.json").read_text())["trained_images"] == TRAINED_IMAGES


def test_the_same_pixels_in_another_file_are_seen(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = image_of(folder, "03")
    Image.open(image_of(folder, "01")).save(other, compress_level=0)
    _, about = evaluated(folder, TEST)
    assert about["seen"] == 1
    assert about["seen_images"] == {other.stem: "tnbc.group:01,02/01_1"}
    assert f"{other.stem} = tnbc.group:01,02/01_1" in capsys.readouterr().out
    refused: list[str] = []
    assert load_scores([folder.parent / "runs"], refused=refused).empty
    assert len(refused) >= 1
    assert f"1 of its images were trained on, for example {other.stem} = tnbc.group:01,02/01_1" in refused[0]


@pytest.mark.parametrize("change", ["jpeg", "scale"])
def test_a_changed_copy_is_marked(
    folder: Path, tmp_path: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other, image = image_of(folder, "03"), Image.open(image_of(folder, "01"))
    if change == "jpeg":
        image.convert("RGB").save(tmp_path / "copy.jpg", quality=80)
        image = Image.open(tmp_path / "copy.jpg")
    else:
        image = image.resize((48, 48), Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)
    image.save(other)
    _, about = evaluated(folder, TEST)
    assert about["seen"] == 0
    assert about["similar_images"] == {other.stem: "tnbc.group:01,02/01_1"}
    assert "warning: 1 image of tnbc.group:03 may be" in capsys.readouterr().out
    (note,) = set(load_scores([folder.parent / "runs"])["note"])
    assert note.startswith("1 of 1 images of tnbc.group:03 may be re-encoded or rescaled training images")


def test_an_evaluation_of_an_earlier_version_is_compared_later(folder: Path) -> None:
    other = image_of(folder, "03")
    shutil.copyfile(image_of(folder, "01"), other)
    path, about = evaluated(folder, TEST)
    for file in path.glob("evaluations/*/*/evaluation.json"):
        kept = {key: value for key, value in about.items() if not key.endswith("_images")}
        file.write_text(json.dumps(kept | {"seen": 0}))
    (path / TRAINED_IMAGES).unlink()
    assert evaluated(folder, TEST)[1] == about


def test_a_stand_in_is_compared_by_file_only(folder: Path) -> None:
    (folder / "tnbc" / SYNTHETIC_MARKER).touch()
    data = TNBC(folder / "tnbc")
    hashes = hash_sets([ImageSet(data, TRAIN)])
    assert KnownImages(hashes=hashes).overlap(ImageSet(data, TRAIN)).seen == {}
    record = data.select(TRAIN)[0]
    files = frozenset([record.image])
    assert KnownImages(files, hashes).overlap(ImageSet(data, TRAIN)).seen == {record.image_id: "the same file"}


def test_an_exported_model_keeps_the_list(folder: Path, tmp_path: Path) -> None:
    path, _ = evaluated(folder, TEST)
    model = export(path, tmp_path / "model", name="", half=False, licence="", note="")
    assert (model / TRAINED_IMAGES).read_bytes() == (path / TRAINED_IMAGES).read_bytes()


@pytest.mark.real_data
def test_kumar_and_monuseg_share_images() -> None:
    root = Path(os.environ["NUCBENCH_DATA"])
    kumar = KnownImages(hashes=hash_sets([ImageSet(Kumar(root / "kumar"), "all")]))
    images = ImageSet(MoNuSeg(root / "monuseg"), "all")
    overlap = kumar.overlap(images)
    assert overlap.seen == {record.image_id: f"kumar.all/{record.image_id}" for record in images.records()}
    assert overlap.similar == {}
