"""Readers of annotations and images on damaged files: a valid result or a DataError, in bounded time and memory.

Valid files are mutated: bits flipped, parts cut out, doubled or replaced. ``NUCBENCH_FUZZ=5000`` tries that many
examples of each reader, different ones each time, in place of the few and fixed ones of every day.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import scipy.io
import tifffile
from bounds import bounded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmark.host.files import read_json, write_json
from benchmark.results.pictures import geojson
from benchmark.results.store import read_instances as read_prediction
from benchmark.results.store import write_instances
from datamodules import brca_m2c, monusac, puma
from datamodules.conic import CoNIC, label_planes
from datamodules.consep import CoNSeP
from datamodules.cpm15 import read_cpm_labels, write_mask_text
from datamodules.crchisto import CRCHisto
from datamodules.ki67 import Ki67
from datamodules.kumar import Kumar
from datamodules.lizard import Lizard, read_folds, write_labels
from datamodules.masks import Masks, write_types
from datamodules.pannuke import PanNuke, split_channels
from datamodules.points_csv import PointsCSV
from datamodules.reading import files
from datamodules.reading.aperio import read_aperio, read_typed_aperio, write_aperio
from datamodules.reading.description import read_placements
from datamodules.reading.files import read_instances, read_rgb, write_label_png, write_mat, write_npy, write_rgb
from datamodules.reading.outlines import draw, read_outlines
from datamodules.reading.points_table import read_points, read_points_description, write_points
from datamodules.reading.rasters import image_raster, label_raster
from datamodules.reading.records import Record
from datamodules.reading.slides import Slide
from datamodules.reading.stacks import write_stack
from datamodules.reading.tile_manifest import Row, read_manifest, tile_file, write_manifest
from datamodules.reading.type_names import type_numbers
from datamodules.synthetic.images import generate
from datamodules.tnbc import TNBC
from postproc.errors import DataError
from postproc.instances import Instances

EXAMPLES = int(os.environ.get("NUCBENCH_FUZZ", "0"))
SHAPE = (48, 56)
IMAGE, TRUTH = generate(SHAPE, np.random.default_rng(3), scale=0.5, density=2.4e-3)
TYPES = ("one", "two", "three", "four")
assert TRUTH.labels is not None
assert TRUTH.types is not None


def write_classes(path: Path) -> None:
    scipy.io.savemat(path, {"detection": TRUTH.centroids().astype(np.float64)})


def write_svs(path: Path) -> None:
    image = np.tile(IMAGE, (4, 4, 1))
    about = "Aperio Image Library v12\r\n224x192 (64x64)|AppMag = 40|MPP = 0.25"
    tifffile.imwrite(path, image, tile=(64, 64), photometric="rgb", description=about, metadata=None)


def dataset(kind: Any, *others: str) -> Callable[[Path], Any]:
    """Return the reader of a dataset, whose first annotation is the file and whose image is whole."""

    def read(path: Path) -> Any:
        image = path.with_name("whole.png")
        if not image.exists():
            write_rgb(image, IMAGE)
        extra = [path.with_name(name) for name in others]
        for other in extra:
            if not other.exists():
                write_classes(other)
        return kind.read(Record("x", image, (path, *extra), "x", "train"))

    return read


def slide(path: Path) -> Any:
    with Slide(path) as opened:
        return opened.tile(20.0, 32, (0, 0))


def whole(open_regions: Callable[[Path], Any]) -> Callable[[Path], Any]:
    def read(path: Path) -> Any:
        regions = open_regions(path)
        try:
            return regions.read(0, 0, *regions.shape)
        finally:
            regions.close()

    return read


def points_csv(path: Path) -> Any:
    about = path.with_name("dataset.yaml")
    if not about.exists():
        about.write_text(f"types: {list(TYPES)}\nradius: 6\n")
    image = path.with_name("whole.png")
    if not image.exists():
        write_rgb(image, IMAGE)
    return PointsCSV.read(Record("x", image, (path, about), "x", "train"))


def masks(path: Path, *others: str) -> Any:
    about = path.with_name("dataset.yaml")
    if not about.exists():
        about.write_text(f"types: {list(TYPES)}\n")
    image = path.with_name("whole.png")
    if not image.exists():
        write_rgb(image, IMAGE)
    return Masks.read(Record("x", image, (*(path.with_name(other) for other in others), path, about), "x", "train"))


def typed_by(path: Path) -> Any:
    """Read the types of a whole label map from the damaged file."""
    labels = path.with_name("labels.npy")
    if not labels.exists():
        write_npy(labels, LABELS)
    return masks(path, labels.name)


def ki67(path: Path) -> Any:
    image = path.parent / "images" / "train" / "x.png"
    labels = [path.parent / name / "train" / "x_label.png" for name in ("labels_postm", "labels_negtm", "labels_other")]
    if not image.exists():
        write_rgb(image, IMAGE)
        for label in labels[1:]:
            write_rgb(label, np.zeros(SHAPE, np.uint8))
    labels[0].parent.mkdir(parents=True, exist_ok=True)
    labels[0].write_bytes(path.read_bytes())
    return Ki67.read(Record("x", image, tuple(labels), "x", "train"))


def pannuke(path: Path) -> Any:
    """Read an image of a fold in which one of three stacks is damaged."""
    stacks = {
        "images": IMAGE[None].astype(np.float64),
        "masks": split_channels(TRUTH)[None],
        "types": np.array(["Skin"]),
    }
    for name, values in stacks.items():
        if not path.with_name(f"{name}.npy").exists():
            write_stack(path.with_name(f"{name}.npy"), values)
    stacked = [path.with_name(f"{name}.npy") for name in ("masks", "types")]
    return PanNuke.read(Record("x", path.with_name("images.npy"), tuple(stacked), "x", "fold1", index=0))


def conic(path: Path) -> Any:
    """Read a patch whose stack of labels is damaged."""
    images = path.with_name("images.npy")
    if not images.exists():
        write_stack(images, IMAGE[None])
    return CoNIC.read(Record("x", images, (path,), "x", "pool", index=0))


def marks() -> np.ndarray:
    grey = np.zeros(SHAPE, np.uint8)
    columns, rows = TRUTH.centroids().round().astype(int).T
    grey[rows, columns] = 255
    return grey


def manifest(path: Path) -> None:
    rows = [Row("s", 0, 56 * k, 0, 20.0, 0.5, tile_file("s", 20.0, 56 * k, 0)) for k in range(3)]
    write_manifest(path.parent, rows)


LABELS = TRUTH.labels
OUTLINES = Instances(SHAPE, labels=LABELS)
ORDERED = Instances(SHAPE, labels=LABELS, types=np.sort(TRUTH.types))  # layers are written in the order of types
THREE_TYPES = Instances(SHAPE, labels=LABELS, types=np.minimum(TRUTH.types, 3))


def same_image(found: Any) -> None:
    np.testing.assert_array_equal(found, IMAGE)


def nearly_same_image(found: Any) -> None:
    assert found.shape == IMAGE.shape
    assert np.abs(found.astype(int) - IMAGE).mean() < 6  # JPEG of quality 75


def corner_at_half_size(found: Any) -> None:
    np.testing.assert_allclose(
        found, cv2.resize(np.tile(IMAGE, (2, 2, 1))[:64, :64], (32, 32), interpolation=cv2.INTER_AREA), atol=1
    )


def same_labels(found: Any) -> None:
    np.testing.assert_array_equal(found, LABELS)


def nuclei(found: Any) -> Instances:
    """Return the nuclei of what a reader gives: of a sample its annotation, of several things the first."""
    found = found[0] if isinstance(found, tuple) else found
    truth: Instances = getattr(found, "truth", found)
    return truth


def same_nuclei(found: Any) -> None:
    same_labels(nuclei(found).labels)
    assert nuclei(found).types is None


def same_typed_nuclei(found: Any) -> None:
    same_labels(nuclei(found).labels)
    np.testing.assert_array_equal(nuclei(found).types, TRUTH.types)


def same_folds(found: Any) -> None:
    assert found == {"a": "split1", "b": "split3"}


def same_pannuke(found: Any) -> None:
    same_image(found.image)
    same_foreground(found)
    assert sorted(nuclei(found).types) == sorted(TRUTH.types)
    assert found.tissue == "Skin"


def same_foreground(found: Any) -> None:
    np.testing.assert_array_equal(nuclei(found).labels > 0, LABELS > 0)


def same_typed_foreground(found: Any) -> None:
    same_foreground(found)
    assert sorted(nuclei(found).types) == sorted(TRUTH.types)


def same_places(found: Any, times: int = 1, most: float = 0.01) -> None:
    """Coordinates are stored with two decimals, in label images as whole px."""
    points = nuclei(found).points
    np.testing.assert_allclose(points, np.tile(TRUTH.centroids(), (times, 1)), atol=most)


def same_ordered(found: Any) -> None:
    same_labels(nuclei(found).labels)
    np.testing.assert_array_equal(nuclei(found).types, ORDERED.types)


def whole_typed_places(found: Any) -> None:
    same_places(found, most=0.5)
    np.testing.assert_array_equal(nuclei(found).types, THREE_TYPES.types)


def whole_places(found: Any) -> None:
    same_places(found, most=0.5)


def same_typed_places(found: Any) -> None:
    points, types = found if isinstance(found, tuple) else (found.truth.points, found.truth.types)
    np.testing.assert_allclose(points, TRUTH.centroids(), atol=0.01)
    np.testing.assert_array_equal(types, TRUTH.types)


def places_of_each_class(found: Any) -> None:
    same_places(found, 4)
    np.testing.assert_array_equal(nuclei(found).types, np.repeat([1, 2, 3, 4], TRUTH.count))


def described(found: Any) -> None:
    assert (found.types, found.radius, found.mpp) == (("a", "b"), 6.0, 0.3)
    assert found.cases == {"a": "b", "c": "d"}


def placed(found: Any) -> None:
    assert [(name, each.part, each.patient) for name, each in found.items()] == [
        ("a.png", "train", "1"),
        ("b", "val", "2"),
    ]


def three_tiles(found: Any) -> None:
    assert [(row.slide, row.x, row.y) for row in found] == [("s", 0, 0), ("s", 56, 0), ("s", 112, 0)]


def same_text(found: Any) -> None:
    assert found == {"a": [1, 2.5], "b": {"c": "text"}}


def outlined(path: Path) -> Instances:
    outlines = read_outlines(path)
    return draw(outlines, SHAPE, type_numbers(outlines, TYPES, {}))


READERS: dict[str, tuple[str, Callable[[Path], object], Callable[[Path], Any], Callable[[Any], None]]] = {
    "png": ("x.png", lambda p: write_rgb(p, IMAGE), read_rgb, same_image),
    "bmp": ("x.bmp", lambda p: write_rgb(p, IMAGE), read_rgb, same_image),
    "jpeg": ("x.jpg", lambda p: Image.fromarray(IMAGE).save(p), read_rgb, nearly_same_image),
    "tiff": ("x.tif", lambda p: write_rgb(p, IMAGE), read_rgb, same_image),
    "tiff by region": ("x.tif", lambda p: tifffile.imwrite(p, IMAGE, tile=(16, 16)), whole(image_raster), same_image),
    "svs": ("x.svs", write_svs, slide, corner_at_half_size),
    "label png": ("x.png", lambda p: write_label_png(p, LABELS), read_instances, same_nuclei),
    "label npy": ("x.npy", lambda p: write_npy(p, LABELS), read_instances, same_nuclei),
    "label tiff": ("x.tif", lambda p: tifffile.imwrite(p, LABELS.astype(np.uint16)), read_instances, same_nuclei),
    "label npy by region": ("x.npy", lambda p: write_npy(p, LABELS), whole(label_raster), same_labels),
    "label tiff by region": ("x.tif", lambda p: tifffile.imwrite(p, LABELS), whole(label_raster), same_labels),
    "mat": ("x.mat", lambda p: write_mat(p, TRUTH), read_instances, same_typed_nuclei),
    "mat, plain": ("x.mat", lambda p: scipy.io.savemat(p, {"inst_map": LABELS, "inst_type": TRUTH.types}),
                   read_instances, same_typed_nuclei),
    "mat of points": ("x.mat", lambda p: write_mat(p, Instances(SHAPE, points=TRUTH.centroids())),
                      read_instances, same_places),
    "kumar": ("x.mat", lambda p: write_mat(p, OUTLINES), dataset(Kumar), same_nuclei),
    "kumar, first release": ("x.xml", lambda p: write_aperio(p, LABELS, 0.25), dataset(Kumar), same_nuclei),
    "consep": ("x.mat", lambda p: write_mat(p, TRUTH), dataset(CoNSeP), same_typed_nuclei),
    "tnbc": ("x.png", lambda p: write_label_png(p, np.minimum(LABELS, 1)), dataset(TNBC), same_foreground),
    "crchisto": ("x.mat", write_classes, dataset(CRCHisto, *(f"class{k}.mat" for k in range(4))), places_of_each_class),
    "brca-m2c": ("x.txt", lambda p: brca_m2c.write_centres(p, THREE_TYPES), lambda p: brca_m2c.read_centres(p, SHAPE),
                 whole_typed_places),
    "lizard": ("x.mat", lambda p: write_labels(p, TRUTH), dataset(Lizard), same_typed_nuclei),
    "lizard, folds": ("info.csv", lambda p: p.write_text("Filename,Source,Split\na,glas,1\nb,crag,3\n"), read_folds,
                      same_folds),
    "conic": ("labels.npy", lambda p: write_stack(p, label_planes(TRUTH)[None]), conic, same_typed_nuclei),
    "pannuke, images": ("images.npy", lambda p: write_stack(p, IMAGE[None].astype(np.float64)), pannuke,
                        same_pannuke),
    "pannuke, masks": ("masks.npy", lambda p: write_stack(p, split_channels(TRUTH)[None]), pannuke, same_pannuke),
    "pannuke, tissues": ("types.npy", lambda p: write_stack(p, np.array(["Skin"])), pannuke, same_pannuke),
    "ki67": ("x.png", lambda p: write_rgb(p, marks()), ki67, whole_places),
    "aperio": ("x.xml", lambda p: write_aperio(p, LABELS, 0.25), lambda p: read_aperio(p, SHAPE), same_nuclei),
    "monusac": ("x.xml", lambda p: monusac.write_annotation(p, ORDERED),
                lambda p: read_typed_aperio(p, SHAPE, monusac.TYPES), same_ordered),
    "puma": ("x.geojson", lambda p: puma.write_nuclei(p, TRUTH), lambda p: puma.read_nuclei(p, SHAPE),
             same_typed_foreground),
    "outlines": ("x.geojson", lambda p: p.write_text(json.dumps(geojson(TRUTH, TYPES))), outlined, same_typed_nuclei),
    "cpm": ("x_mask.txt", lambda p: write_mask_text(p, LABELS), read_cpm_labels, same_nuclei),
    "points": ("x.csv", lambda p: write_points(p, TRUTH.centroids(), TRUTH.types, TYPES),
               lambda p: read_points(p, SHAPE, TYPES), same_typed_places),
    "points-csv": ("x.csv", lambda p: write_points(p, TRUTH.centroids(), TRUTH.types, TYPES), points_csv,
                   same_typed_places),
    "dataset.yaml": ("x.yaml", lambda p: p.write_text("types: [a, b]\nradius: 6\nmpp: 0.3\ncases: {a: b, c: d}\n"),
                     read_points_description, described),
    "masks, mat": ("x.mat", lambda p: write_mat(p, TRUTH), masks, same_typed_nuclei),
    "masks, outlines": ("x.geojson", lambda p: p.write_text(json.dumps(geojson(TRUTH, TYPES))), masks,
                        same_typed_nuclei),
    "masks, types": ("x_types.csv", lambda p: write_types(p, TRUTH.types, TYPES), typed_by, same_typed_nuclei),
    "masks, map of types": ("x_types.png", lambda p: write_rgb(p, np.r_[0, TRUTH.types][LABELS].astype(np.uint8)),
                            typed_by, same_typed_nuclei),
    "splits.csv": ("splits.csv", lambda p: p.write_text("image,split,patient\na.png,train,1\nb,val,2\n"),
                   read_placements, placed),
    "manifest": ("manifest.csv", manifest, lambda p: read_manifest(p.parent), three_tiles),
    "prediction": ("x.npz", lambda p: write_instances(p, TRUTH), read_prediction, same_typed_nuclei),
    "json": ("x.json", lambda p: write_json(p, {"a": [1, 2.5], "b": {"c": "text"}}), read_json, same_text),
}  # fmt: skip

CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["flip", "set", "cut", "end", "double", "insert", "number"]),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 255),
        st.sampled_from(
            [b"\0", b"\xff" * 4, b"9" * 12, b"-1", b"nan", b"1e999", b"<", b"\n", b"'", b"\x7f\xff\xff\xff"]
        ),
    ),
    min_size=1,
    max_size=5,
)


def mutated(content: bytes, changes: list[tuple[str, float, int, bytes]]) -> bytes:
    """Damage a file: each change has a kind, a place (as a share of the file), a byte and some bytes."""
    for kind, share, byte, piece in changes:
        at = int(share * len(content))
        before, after = content[:at], content[at:]
        if kind == "flip" and after:
            content = before + bytes([after[0] ^ (1 << byte % 8)]) + after[1:]
        elif kind == "set" and after:
            content = before + bytes([byte]) + after[1:]
        elif kind == "cut":
            content = before + after[1 + byte :]
        elif kind == "end":
            content = before
        elif kind == "double":
            content = before + after[: 1 + byte] + after
        elif kind == "insert":
            content = before + piece + after
        elif kind == "number":
            content = before + piece + after[len(piece) :]
    return content


@pytest.mark.parametrize("name", READERS)
@pytest.mark.filterwarnings("ignore")
def test_reader(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, write, read, check_whole = READERS[name]
    path = tmp_path / file
    write(path)
    content = path.read_bytes()
    check_whole(read(path))
    monkeypatch.setattr(files, "MAX_PIXELS", 2_000_000)  # claims above it are refused, those below take little memory

    @settings(
        max_examples=EXAMPLES or 25,
        deadline=None,
        derandomize=not EXAMPLES,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(changes=CHANGES)
    def check(changes: list[tuple[str, float, int, bytes]]) -> None:
        path.write_bytes(mutated(content, changes))
        with bounded(name):
            try:
                read(path)
            except DataError as error:
                assert str(tmp_path) in str(error), "the message names no file"  # noqa: PT017

    check()
