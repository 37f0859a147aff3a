"""Label maps of the user's own: what is read, and what is said of every mistake."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from benchmark.data.prepare import check_dataset
from benchmark.results.pictures import geojson
from datamodules.masks import Masks, write_types
from datamodules.reading.files import (
    read_instances,
    read_rgb,
    write_label_png,
    write_mat,
    write_npy,
    write_rgb,
)
from datamodules.reading.label_files import MasksDescription, read_labels
from datamodules.synthetic.images import generate
from postproc.errors import ConfigError, DataError
from postproc.instances import Instances
from postproc.pixels.labels import relabel

TYPES = ("miscellaneous", "inflammatory", "epithelial", "spindle-shaped")
ABOUT = f"types: [{', '.join(TYPES)}]\nmagnification: 20\nmpp: 0.5\n"
SHAPE = (64, 72)
IMAGE, TRUTH = generate(SHAPE, np.random.default_rng(4), scale=0.5, density=2.4e-3)


def gaps(truth: Instances) -> np.ndarray[Any, Any]:
    """Return a label map with gaps between its ids, as editors leave them."""
    assert truth.labels is not None
    return np.where(truth.labels > 0, 3 * truth.labels + 7, 0)


def with_table(path: Path, truth: Instances, write: Callable[[Path, Any], object]) -> None:
    write(path, gaps(truth))
    lines = [f"{3 * i + 7};{TYPES[kind - 1].upper() if kind else ''}\n" for i, kind in enumerate(truth.types, start=1)]
    path.with_name(f"{path.stem.removesuffix('_labels')}_types.csv").write_text("ID;Class\n" + "".join(reversed(lines)))


def with_map(path: Path, truth: Instances, ending: str) -> None:
    tifffile.imwrite(path, gaps(truth).astype(np.uint16))
    drawn = np.concatenate([[0], truth.types])[truth.labels].astype(np.uint8)
    other = path.with_name(f"{path.stem.removesuffix('_labels')}_types{ending}")
    np.save(other, drawn) if ending == ".npy" else write_rgb(other, drawn)


def eight_bits(path: Path, labels: np.ndarray[Any, Any]) -> None:
    write_rgb(path, labels.astype(np.uint8))


FORMATS: dict[str, tuple[str, Callable[[Path, Instances], object]]] = {
    "png of 16 bits": (".png", lambda p, t: with_table(p, t, write_label_png)),
    "tif": (".tif", lambda p, t: with_table(p, t, lambda q, a: tifffile.imwrite(q, a.astype(np.uint32)))),
    "npy": (".npy", lambda p, t: with_table(p, t, write_npy)),
    "tif with a map of types": (".tif", lambda p, t: with_map(p, t, ".png")),
    "tif with a map of types in npy": (".tif", lambda p, t: with_map(p, t, ".npy")),
    "npy of two channels": (".npy", lambda p, t: np.save(p, np.stack([gaps(t), np.r_[0, t.types][t.labels]], axis=-1))),
    "mat": (".mat", write_mat),
    "geojson": (".geojson", lambda p, t: p.write_text(json.dumps(geojson(t, tuple(n.title() for n in TYPES))))),
}


def put(folder: Path, stem: str, truth: Instances = TRUTH, way: str = "mat", image: Any = IMAGE) -> None:
    """Write an image and its labels into images and labels."""
    suffix, write = FORMATS[way]
    write_rgb(folder / "images" / f"{stem}.png", image)
    (folder / "labels").mkdir(exist_ok=True)
    write(folder / "labels" / f"{stem}{suffix}", truth)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A set of two training images of one case, a validation and a test image."""
    (tmp_path / "dataset.yaml").write_text(ABOUT)
    for part, stem in (("train", "a_1"), ("train", "a_2"), ("val", "b_1"), ("test", "c")):
        put(tmp_path / part, stem)
    return tmp_path


def same(found: Instances, truth: Instances) -> None:
    """Compare nuclei and types; ids may be in another order."""
    assert found.labels is not None
    assert truth.labels is not None
    assert found.types is not None
    assert truth.types is not None
    pairs = np.unique(np.stack([found.labels, truth.labels]).reshape(2, -1), axis=1)
    assert pairs.shape[1] == truth.count + 1  # each nucleus meets one nucleus only, the background the background
    np.testing.assert_array_equal(np.r_[0, found.types][pairs[0]], np.r_[0, truth.types][pairs[1]])


@pytest.mark.parametrize("way", FORMATS)
@pytest.mark.parametrize("apart", [True, False], ids=["folders", "beside"])
def test_every_format_comes_back(tmp_path: Path, way: str, apart: bool) -> None:
    (tmp_path / "dataset.yaml").write_text(ABOUT)
    suffix, write = FORMATS[way]
    if apart:
        put(tmp_path / "train", "x", way=way)
    else:
        write_rgb(tmp_path / "train" / "x.png", IMAGE)
        write(tmp_path / "train" / f"x_labels{suffix}", TRUTH)
    (sample,) = Masks(tmp_path).samples("train")
    np.testing.assert_array_equal(sample.image, IMAGE)
    same(sample.truth, TRUTH)


@pytest.mark.real_data
@pytest.mark.parametrize("way", FORMATS)
def test_real_annotation_comes_back_in_every_format(data_root: Path, tmp_path: Path, way: str) -> None:
    (tmp_path / "dataset.yaml").write_text(ABOUT)
    source = data_root / "consep" / "Train"
    whole = read_instances(source / "Labels" / "train_3.mat")
    assert whole.labels is not None
    labels, types, _ = relabel(whole.labels[100:420, 200:500], whole.types)
    truth = Instances((320, 300), labels=labels, types=types)
    put(tmp_path / "train", "x", truth, way, read_rgb(source / "Images" / "train_3.png")[100:420, 200:500])
    (sample,) = Masks(tmp_path).samples("train")
    assert sample.truth.count == truth.count > 50
    same(sample.truth, truth)


@pytest.mark.real_data
def test_a_real_set_without_types(data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_text("types: []\n")
    source = data_root / "kumar" / "test_same"
    stems = sorted(path.stem for path in (source / "Images").glob("*.tif"))[:3]
    for stem, suffix in zip(stems, (".png", ".tif", ".geojson"), strict=True):
        truth = read_instances(source / "Labels" / f"{stem}.mat")
        (tmp_path / "test").mkdir(exist_ok=True)
        write_rgb(tmp_path / "test" / f"{stem}.png", read_rgb(source / "Images" / f"{stem}.tif"))
        path = tmp_path / "test" / f"{stem}_labels{suffix}"
        if suffix == ".geojson":
            path.write_text(json.dumps(geojson(truth, ())))
        else:
            write_label_png(path, truth.labels) if suffix == ".png" else tifffile.imwrite(path, truth.labels)
        sample = next(s for s in Masks(tmp_path).samples("test") if s.image_id == stem)
        assert sample.truth.types is None
        np.testing.assert_array_equal(sample.truth.labels > 0, truth.labels > 0)
        assert sample.truth.count == truth.count


class TestDataset:
    """Layouts, splits and the card that comes of dataset.yaml."""

    def test_the_stand_in_comes_back(self, tmp_path: Path) -> None:
        Masks.write_synthetic(tmp_path, size=96, seed=3)
        assert {path.suffix for path in tmp_path.glob("*/labels/*")} == {".png", ".tif", ".mat", ".npy", ".csv"}
        for number, sample in enumerate(sorted(Masks(tmp_path).samples("all"), key=lambda s: s.image_id)):
            _, truth = generate((96, 96), np.random.default_rng((3, number)))
            same(sample.truth, truth)

    def test_the_card_is_that_of_the_folder(self, root: Path) -> None:
        card = Masks(root).card
        assert (card.types, card.radius, card.magnification, card.mpp) == (TYPES, 6.0, 20.0, 0.5)
        assert Masks.card.types == ()
        (root / "dataset.yaml").write_text(ABOUT + "radius: 9\n")
        assert Masks(root).card.radius == 9

    def test_splits_and_cases_follow_folders_and_names(self, root: Path) -> None:
        assert {r.image_id: (r.group, r.split, r.validation) for r in Masks(root).records} == {
            "a_1": ("a", "train", False),
            "a_2": ("a", "train", False),
            "b_1": ("b", "train", True),
            "c": ("c", "test", False),
        }

    def test_layouts_may_differ_between_splits(self, root: Path) -> None:
        write_rgb(root / "test" / "images" / "d.tif", IMAGE)
        write_mat(root / "test" / "labels" / "d_labels.mat", TRUTH)
        (root / "val" / "images" / "b_1.png").rename(root / "val" / "b_1.png")
        (root / "val" / "images").rmdir()
        (root / "val" / "labels" / "b_1.mat").rename(root / "val" / "b_1.mat")
        assert sorted(s.image_id for s in Masks(root).samples("all")) == ["a_1", "a_2", "b_1", "c", "d"]

    @pytest.mark.parametrize("apart", [True, False], ids=["folders", "beside"])
    def test_splits_may_be_a_table(self, tmp_path: Path, apart: bool) -> None:
        (tmp_path / "dataset.yaml").write_text(ABOUT)
        for stem in ("p", "q", "r"):
            put(tmp_path, stem)
        if not apart:
            for path in [*tmp_path.glob("images/*"), *tmp_path.glob("labels/*")]:
                path.rename(tmp_path / path.name)
            (tmp_path / "images").rmdir()
        (tmp_path / "splits.csv").write_text("image,split,patient\np.png,train,7\nq,val,8\nr.png,test,9\n")
        assert {r.image_id: (r.group, r.split, r.validation) for r in Masks(tmp_path).records} == {
            "p": ("7", "train", False),
            "q": ("8", "train", True),
            "r": ("9", "test", False),
        }

    def test_a_missing_test_split_names_what_there_is(self, root: Path) -> None:
        for path in sorted((root / "test").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        with pytest.raises(ConfigError, match=r"no split 'test'\. Choices: all, fit, train, validation"):
            Masks(root).select("test")
        assert len(Masks(root).select("validation")) == 1

    def test_nuclei_of_unknown_type_and_images_without_nuclei(self, root: Path) -> None:
        nothing = Instances(SHAPE, labels=np.zeros(SHAPE, np.int32), types=np.zeros(0, np.int64))
        put(root / "test", "d", nothing, "png of 16 bits")
        some = np.where(np.arange(TRUTH.count) % 2, 0, TRUTH.types)
        put(root / "test", "e", Instances(SHAPE, labels=TRUTH.labels, types=some), "tif")
        truths = {s.image_id: s.truth for s in Masks(root).samples("test")}
        assert truths["d"].count == 0
        np.testing.assert_array_equal(truths["e"].types, some)

    def test_components_of_a_mask(self, root: Path) -> None:
        (root / "dataset.yaml").write_text("types: []\ncomponents: true\n")
        eight_bits(root / "test" / "labels" / "d.png", 255 * (np.arange(64 * 72).reshape(SHAPE) % 9 < 4))
        write_rgb(root / "test" / "images" / "d.png", IMAGE)
        (sample,) = (s for s in Masks(root).samples("test") if s.image_id == "d")
        assert sample.truth.count > 1

    def test_annotation_is_not_read_before_it_is_needed(self, root: Path) -> None:
        (root / "test" / "labels" / "c.mat").write_bytes(b"damaged")
        assert len(Masks(root).records) == 4


def mask(root: Path) -> None:
    eight_bits(root / "test" / "labels" / "c.png", 255 * (TRUTH.labels > 0))


def no_classes(root: Path) -> None:
    write_label_png(root / "test" / "labels" / "c.png", TRUTH.labels)


def wrapped(root: Path) -> None:
    (root / "dataset.yaml").write_text("types: []\n")
    shape = (120, 120)  # 400 nuclei of 4 x 4 px
    cells = np.kron(1 + np.arange(400).reshape(20, 20), np.pad(np.ones((4, 4), int), 1))
    write_rgb(root / "test" / "images" / "c.png", np.zeros((*shape, 3), np.uint8))
    eight_bits(root / "test" / "labels" / "c.png", cells % 256)


def table(text: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        no_classes(root)
        (root / "test" / "labels" / "c_types.csv").write_text(text)

    return write


def types_map(kind: int, shape: tuple[int, int] = SHAPE) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        no_classes(root)
        write_rgb(root / "test" / "labels" / "c_types.png", np.full(shape, kind, np.uint8))

    return write


def outlines(*names: str) -> Callable[[Path], object]:
    return lambda root: (root / "test/labels/c.geojson").write_text(json.dumps(geojson(TRUTH, names)))


ROWS = "".join(f"{i},epithelial\n" for i in range(1, TRUTH.count + 1))
MISTAKES: dict[str, tuple[Callable[[Path], object], str]] = {
    "binary mask": (mask, r"c\.png: a mask \(one value in several parts\).*components: true in dataset\.yaml"),
    "wrapped ids": (wrapped, r"c\.png: .*8 bits.*write the map with more bits"),
    "no class": (no_classes, r"c\.png: none of \d+ nuclei has a class; .*c_types\.csv with id,class, or state types"),
    "no class in GeoJSON": (outlines(), r"c\.geojson: none of \d+ nuclei has a class.*state types: \[\]"),
    "class of GeoJSON": (
        outlines("Tumor", "b", "c", "d"),
        r"c\.geojson: type '.+' is none of .*add it to types in data",
    ),
    "other size": (
        lambda root: write_npy(root / "test/labels/c.npy", np.ones((64, 70), np.int32)),
        r"c\.npy: label map of \(64, 70\) px \(H, W\) for an image of \(64, 72\) px; export both at one size",
    ),
    "number of a type": (
        lambda root: write_mat(
            root / "test/labels/c.mat", Instances(SHAPE, labels=TRUTH.labels, types=np.full(TRUTH.count, 9))
        ),
        r"c\.mat: type 9, but dataset\.yaml names 4 types",
    ),
    "points": (
        lambda root: write_mat(root / "test/labels/c.mat", Instances(SHAPE, points=TRUTH.centroids())),
        r"c\.mat: holds centres without a label map; use the dataset points-csv",
    ),
    "class of a table": (
        table("id,class\n1,tumuor\n" + ROWS.partition("\n")[2]),
        r"c_types\.csv, line 2: unknown class 'tumuor'",
    ),
    "id that is missing": (table("id,class\n" + ROWS.partition("\n")[2]), r"c_types\.csv: no line for id 1 of c\.png"),
    "id that is not there": (table("id,class\n" + ROWS + "900,epithelial\n"), r"c_types\.csv: id 900 is not in c\.png"),
    "id twice": (table("id,class\n" + ROWS + "1,epithelial\n"), r"c_types\.csv, line \d+: id 1 is in two lines"),
    "no id": (table("id,class\nx,epithelial\n"), r"c_types\.csv, line 2: id is 'x', expected"),
    "header": (table("nr,class\n"), r"c_types\.csv, line 1: no column id"),
    "empty table": (table(""), r"c_types\.csv: the file is empty"),
    "grey levels as types": (types_map(85), r"c_types\.png: type 85, but dataset\.yaml names 4 types"),
    "size of the types": (types_map(1, (9, 9)), r"c_types\.png: map of \(9, 9\) px .* label map of \(64, 72\) px"),
    "no types": (types_map(0), r"c_types\.png: none of \d+ nuclei has a class"),
    "damaged": (lambda root: (root / "test/labels/c.tif").write_bytes(b"II*\0"), r"c\.tif: "),
    "coloured": (lambda root: write_rgb(root / "test/labels/c.png", IMAGE), r"c\.png: .*colours are not ids"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_labels_are_named(root: Path, mistake: str) -> None:
    spoil, message = MISTAKES[mistake]
    (root / "test" / "labels" / "c.mat").unlink()
    spoil(root)
    (record,) = Masks(root).select("test")
    with pytest.raises(DataError, match=message) as caught:
        Masks.read(record)
    assert "\n" not in str(caught.value)


LAYOUTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no labels": (
        lambda root: (root / "test/labels/c.mat").unlink(),
        r"images/c\.png: no label map; expected .*labels/c\.png \(or \.tif, \.npy, \.mat, \.geojson\)",
    ),
    "labels of another name": (
        lambda root: (root / "test/labels/c.mat").rename(root / "test/labels/c_mask.mat"),
        r"if c_mask\.mat is its label map, rename it c_labels\.mat",
    ),
    "no image": (
        lambda root: (root / "test/images/c.png").unlink(),
        r"c\.mat: a label map without image; add .*c\.png",
    ),
    "no folder of labels": (
        lambda root: (root / "test/labels").rename(root / "test/masks"),
        r"images: no folder .*labels next to it",
    ),
    "two label maps": (lambda root: write_npy(root / "test/labels/c.npy", TRUTH.labels), r"two label maps, c\.mat and"),
    "types twice": (
        lambda root: write_types(root / "test/labels/c_types.csv", TRUTH.types, TYPES),
        r"c_types\.csv: c\.mat states the types itself",
    ),
    "types without image": (
        lambda root: write_types(root / "test/labels/d_types.csv", TRUTH.types, TYPES),
        r"d_types\.csv: a file with types without image",
    ),
    "outside": (lambda root: write_rgb(root / "test/c.png", IMAGE), r"test/c\.png: outside images; move it there"),
    "no split": (lambda root: write_rgb(root / "d.png", IMAGE), r"d\.png: in no split; move images into the folders"),
    "name of a split": (
        lambda root: (root / "val").rename(root / "validation"),
        r"validation: rename it to val; the folders are train, val, test",
    ),
    "patient on two sides": (
        lambda root: put(root / "test", "a_7"),
        r"group 'a' of image 'a_7' is in two splits, test and, with image 'a_1', train; all images of a patient",
    ),
    "image in two splits": (lambda root: put(root / "test", "a_1"), r"image 'a_1' is both .* keep one"),
    "table and folders": (
        lambda root: (root / "splits.csv").write_text("image,split\n"),
        r"train: a folder of a split, but splits\.csv defines the splits",
    ),
}


@pytest.mark.parametrize("mistake", LAYOUTS)
def test_mistakes_in_the_layout_are_named(root: Path, mistake: str) -> None:
    spoil, message = LAYOUTS[mistake]
    spoil(root)
    with pytest.raises(DataError, match=message) as caught:
        _ = Masks(root).records
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("image\n", "line 1: no column split"),
        ("image,split\np,trian\n", "line 2: unknown split 'trian'. Did you mean 'train'"),
        ("image,split\np,train\np,test\n", "line 3: 'p' is also in line 2"),
        ("image,split\np,train\np.png,test\n", "two lines name the image 'p'"),
        ("image,split\np,train\nq,test\n", "line 3: there is no image 'q'"),
        ("image,split\n,train\n", "line 2: no image"),
        ("image,split\nq\n", "line 2: 1 columns, fewer"),
        ("image,split\n", r"p\.png: not in .*splits\.csv; add a line p\.png,train"),
    ],
)
def test_mistakes_in_splits_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "dataset.yaml").write_text(ABOUT)
    put(tmp_path, "p")
    (tmp_path / "splits.csv").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        _ = Masks(tmp_path).records
    assert "splits.csv" in str(caught.value)


def test_prepare_names_all_problems_and_counts_the_rest(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(root / "test", "d")
    (root / "test" / "labels" / "c.mat").write_bytes(b"damaged" * 40)
    (root / "train" / "labels" / "a_2.mat").unlink()
    write_npy(root / "val" / "labels" / "z.npy", TRUTH.labels)
    with pytest.raises(DataError) as caught:
        check_dataset(Masks, root, progress=False)
    *problems, rest = str(caught.value).splitlines()
    named = sorted(next(name for name in ("c.mat", "a_2.png", "z.npy") if name in line) for line in problems)
    assert named == ["a_2.png", "c.mat", "z.npy"]
    assert rest == "3 problems; correct them, then run nucbench prepare masks again"
    assert TRUTH.types is not None
    kinds = ", ".join(f"{(TRUTH.types == kind).sum()} {name}" for kind, name in enumerate(TYPES, start=1))
    assert f"  test: 1 images, {TRUTH.count} nuclei: {kinds}\n" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"\(1 more problems: nucbench prepare masks\)"):
        _ = Masks(root).records


def test_types_of_labels_are_left_out_without_types(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    write_mat(path, TRUTH)
    found = read_labels(path, None, SHAPE, MasksDescription(()))
    assert found.types is None
    assert found.count == TRUTH.count
