"""Images that are worked on by region give what working on them at once gives."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
import torch
from shapely.geometry import shape

from benchmark.forward.maps import InferenceSettings, predict_maps
from benchmark.forward.scaling import ScaledRaster, rescale
from benchmark.inference.decoding import decoders
from benchmark.inference.disk import DiskArray
from benchmark.inference.large import Analysis, decode_by_region, paint, predict_large
from benchmark.inference.large_decoding import NAME, Found, Work, outline
from benchmark.inference.large_output import LabelView
from benchmark.inference.sizes import AREA
from benchmark.results.pictures import geojson
from datamodules.reading.rasters import ArrayRaster, image_raster
from datamodules.synthetic.images import generate
from models.base.method import Task
from models.dist import DIST, OFFSET, SCALE
from models.kinet import KiNet
from models.unet import UNet
from postproc.codec import Codec, Maps
from postproc.codecs.binary import BinaryCodec, BinaryDynamicsCodec
from postproc.codecs.binary_watershed import BorderedObjectCodec
from postproc.codecs.distance import DistanceCodec
from postproc.codecs.hover import HoverCodec
from postproc.errors import ConfigError
from postproc.instances import Instances
from postproc.pixels.clusters import extents

CODECS: dict[str, Codec[Any]] = {
    "hover": HoverCodec(),
    "hover-typed": HoverCodec(4),
    "hover-pseudo-distance": HoverCodec(energy="pseudo-distance", markers="threshold"),
    "distance": DistanceCodec(),
    "distance-normalised": DistanceCodec("normalised"),
    "distance-line": DistanceCodec(line=True),
    "binary": BinaryCodec(split=True),
    "binary-plain": BinaryCodec(split=False),
    "binary-dynamics": BinaryDynamicsCodec(split=True),
    "bordered-objects": BorderedObjectCodec(),
}


def network_like(codec: Codec[Any], side: int, seed: int = 0) -> Maps:
    """Maps as a network gives them: smooth, and wrong here and there."""
    rng = np.random.default_rng(seed)
    _, truth = generate((side, side), rng, density=9e-4)
    maps = {}
    for name, value in codec.perfect(codec.encode(truth)).items():
        noise = rng.normal(0, 2, value.shape).astype(np.float32)
        maps[name] = np.stack(
            [
                cv2.GaussianBlur(v.astype(np.float32), (0, 0), 1.0) + cv2.GaussianBlur(n, (0, 0), 4.0)
                for v, n in zip(value, noise, strict=True)
            ]
        )
    return maps


def raster_order(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number a map in the order of first px; also the former ids in that order."""
    _, first = extents(labels, int(labels.max()), 0, 0, labels.shape[1])
    order = np.argsort(first)
    new = np.zeros(len(order) + 1, np.int32)
    new[order + 1] = np.arange(1, len(order) + 1)
    return new[labels], order


def by_region(codec: Codec[Any], maps: Maps, folder: Path, **sizes: int) -> tuple[np.ndarray, np.ndarray | None, Any]:
    shape = next(iter(maps.values())).shape[1:]
    stored = {name: DiskArray(folder / name, value.shape, value.dtype) for name, value in maps.items()}
    for name, value in maps.items():
        stored[name].write(0, 0, value)
    types = tuple("abcd") if getattr(codec, "types", 0) else ()
    analysis = Analysis(None, Work(codec, codec.defaults(), {}, (shape[0], shape[1]), types, **sizes))
    for rows in range(0, shape[0], 100):
        analysis.advance(stored, rows)
    analysis.advance(stored, shape[0])
    labels, nuclei = decode_by_region(analysis, folder, None)
    view = LabelView(labels, (shape[0], shape[1]))
    drawn = [json.loads(text) for text in nuclei.texts()]
    nuclei.close()
    final = nuclei.numbers()[view.rows(0, shape[0])]
    types_found = None if nuclei.types is None else nuclei.types[nuclei.order]
    scores = None if nuclei.scores is None else nuclei.scores[nuclei.order]
    known = Instances(final.shape, labels=final, types=types_found, scores=scores)
    assert drawn == geojson(known, types)["features"]  # outlines of exactly these px
    return final, types_found, nuclei


@pytest.mark.parametrize("name", list(CODECS))
def test_decoding_by_region_is_decoding_at_once(name: str, tmp_path: Path) -> None:
    codec = CODECS[name]
    maps = network_like(codec, 500)
    found = codec.rate(codec.decode(maps, codec.defaults()), maps)
    expected, order = raster_order(found.labels)
    labels, types, nuclei = by_region(codec, maps, tmp_path, side=128)
    np.testing.assert_array_equal(labels, expected)
    assert (nuclei.scores is None) == (found.scores is None)
    if found.scores is not None:
        np.testing.assert_array_equal(nuclei.scores[nuclei.order], found.scores[order])
    assert labels.max() > 80
    assert len(nuclei.order) == found.count
    np.testing.assert_array_equal(nuclei.sizes[nuclei.order, AREA], np.bincount(expected.ravel())[1:])
    assert (types is None) == (found.types is None)
    if types is not None:
        np.testing.assert_array_equal(types, found.types[order])


@pytest.mark.parametrize("name", list(CODECS))
def test_tiles_that_are_left_out_have_no_support(name: str) -> None:
    codec = CODECS[name]
    blank = {key: np.zeros_like(value) for key, value in network_like(codec, 64).items()}
    assert not codec.support(blank, codec.defaults()).any()


def test_the_gradients_are_scaled_as_in_the_whole_image(tmp_path: Path) -> None:
    codec = HoverCodec()
    maps = network_like(codec, 400)
    maps["hv"][:, 5, 5] = 40  # the steepest fall is far from most regions
    expected, _ = raster_order(codec.decode(maps, codec.defaults()).labels)
    labels, _, _ = by_region(codec, maps, tmp_path, side=128)
    np.testing.assert_array_equal(labels, expected)
    part = {key: value[:, 200:, 200:] for key, value in maps.items()}
    alone = codec.decode(part, codec.defaults()).count
    assert alone > 1.2 * codec.decode_region(part, codec.defaults(), codec.survey(maps, (slice(None),) * 2, None)).count


def test_a_cluster_across_the_image_is_decoded_in_blocks_without_cuts(tmp_path: Path) -> None:
    codec = DistanceCodec()
    maps = network_like(codec, 600)
    maps["distance"] += 0.3 + 0.9 * (maps["distance"] > 0.3)  # one web of touching nuclei
    maps["distance"][:, ::30] = np.maximum(maps["distance"][:, ::30], 1.2)
    expected, _ = raster_order(codec.decode(maps, codec.defaults()).labels)
    with pytest.warns(UserWarning, match="touch each other"):
        labels, _, _ = by_region(codec, maps, tmp_path, side=256, beyond=64, largest=300**2)
    assert (labels > 0).mean() == pytest.approx((expected > 0).mean(), abs=0.01)
    same = sum(np.array_equal(labels == k, expected == expected[labels == k][0]) for k in range(1, labels.max() + 1))
    assert same > 0.9 * labels.max()


def test_codecs_that_need_the_whole_image_say_so(tmp_path: Path) -> None:
    method = KiNet(Task(), **KiNet.small).eval()
    image = ArrayRaster(np.zeros((64, 64, 3), np.uint8))
    params = method.codec.defaults()
    with pytest.raises(ConfigError, match="cut the image"):
        predict_large(method, "kinet", params, image, InferenceSettings(), tmp_path, "a", workers=0)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "slide.tif"
    image, _ = generate((500, 620), np.random.default_rng(4), density=8e-4)
    tifffile.imwrite(path, image, tile=(128, 128), photometric="rgb", compression="zlib")
    return path


@pytest.mark.parametrize("factor", [1.0, 0.5, 0.7, 1.6])
def test_a_tiff_goes_from_tiles_to_a_label_map(slide: Path, tmp_path: Path, factor: float) -> None:
    torch.manual_seed(1)
    method = DIST(Task(), features=4).eval()
    params = method.codec.defaults()
    settings = InferenceSettings(precision="32-true", tile=256)
    pixels = tifffile.imread(slide)
    maps = predict_maps(method, rescale(pixels, 40.0 * factor, 40.0), settings)
    with torch.no_grad():  # make the untrained network find a nucleus here and there
        gain, usual = 3 / float(maps["distance"].std()), float(np.quantile(maps["distance"], 0.8))
        method.head.weight *= gain
        method.head.bias.mul_(gain).add_((gain * (OFFSET - usual) + 0.5 - OFFSET) / SCALE)
    image = image_raster(slide)
    found = predict_large(method, "dist", params, image, settings, tmp_path, "slide", factor=factor, workers=0)
    count = found.nuclei
    assert found.types == {}
    labels = tifffile.imread(tmp_path / "slide.tif")
    assert labels.dtype == np.int32
    assert labels.shape == pixels.shape[:2]
    assert labels.max() == count > 30
    if factor == 1:
        whole = method.codec.decode(predict_maps(method, pixels, settings), params).labels
        np.testing.assert_array_equal(labels, raster_order(whole)[0])
    with (tmp_path / "slide.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["id"]) for row in rows] == list(range(1, count + 1))
    ys, xs = np.nonzero(labels == 7)
    assert float(rows[6]["x"]) == pytest.approx(xs.mean(), abs=0.01)
    assert float(rows[6]["y"]) == pytest.approx(ys.mean(), abs=0.01)
    assert int(rows[6]["area"]) == len(ys)
    areas = np.bincount(labels.ravel())[1:]
    assert [int(row["area"]) for row in rows] == areas.tolist()
    features = json.loads((tmp_path / "slide.geojson").read_text())["features"]
    assert features == geojson(Instances(labels.shape, labels=labels), ())["features"]
    drawn = [shape(feature["geometry"]) for feature in features]
    assert all(polygon.is_valid for polygon in drawn)
    assert [polygon.area for polygon in drawn] == areas.tolist()
    assert cv2.imread(str(tmp_path / "slide_overlay.png")).shape == pixels.shape
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "slide.csv", "slide.geojson", "slide.tif", "slide_overlay.png"
    ]  # fmt: skip


@pytest.mark.slow
def test_workers_decode_as_this_process_does(slide: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    method = UNet(Task(), features=4).eval()
    with torch.no_grad():
        method.network.head.bias += torch.tensor([0.0, 0.3])
    settings = InferenceSettings(precision="32-true", tile=212)
    for workers in (0, 1):
        image = image_raster(slide)
        predict_large(
            method, "unet-pp", method.codecs["unet-pp"].defaults(), image, settings, tmp_path / str(workers), "a",
            workers=workers,
        )  # fmt: skip
    one, other = (tifffile.imread(tmp_path / f"{workers}/a.tif") for workers in (0, 1))
    np.testing.assert_array_equal(one, other)
    assert one.max() > 5


@pytest.mark.parametrize("factor", [0.5, 2.0, 0.6, 1.37])
def test_regions_are_scaled_like_whole_images(factor: float) -> None:
    image, _ = generate((150, 190), np.random.default_rng(0))
    whole = rescale(image, 40 * factor, 40.0)
    scaled = ScaledRaster(ArrayRaster(image), factor)
    assert scaled.shape == whole.shape[:2]
    height, width = scaled.shape
    rows = [scaled.read(y, 0, min(y + 37, height), width) for y in range(0, height, 37)]
    difference = np.abs(np.concatenate(rows).astype(int) - whole)
    assert difference.max() <= 1  # OpenCV rounds its weights
    np.testing.assert_array_equal(scaled.read(20, 30, 50, 61), np.concatenate(rows)[20:50, 30:61])


def test_arrays_on_disk_survive_pickling_and_partial_writes(tmp_path: Path) -> None:
    import pickle

    array = DiskArray(tmp_path / "a.raw", (2, 9, 7), np.float32)
    values = np.arange(2 * 4 * 3, dtype=np.float32).reshape(2, 4, 3)
    array.write(3, 2, values)
    other = pickle.loads(pickle.dumps(array))
    np.testing.assert_array_equal(other.read((3, 2, 7, 5)), values)
    assert other.read((0, 0, 9, 7)).sum() == values.sum()
    assert os.path.getsize(array.path) == array.nbytes == 2 * 9 * 7 * 4
    array.close()
    other.close()


def test_a_pool_is_spawned_only_where_workers_are_wanted() -> None:
    with decoders(0) as pool:
        assert pool is None


@pytest.mark.parametrize("original", [(40, 50), (81, 100), (25, 30)])
def test_outlines_leave_out_px_that_another_nucleus_has_taken(original: tuple[int, int], tmp_path: Path) -> None:
    work = Work(DistanceCodec(), None, {}, (40, 50), tuple("ab"), original)
    final = DiskArray(tmp_path / "labels", (1, 40, 50), np.int32)
    texts = []
    for top, left in ((4, 6), (9, 13), (5, 7)):  # the second loses a corner, the third nearly everything
        labels = np.zeros((20, 24), np.int32)
        labels[1:3, 1:5], labels[4:16, 3:20] = 1, 2
        types = np.array([1, 2])
        found = Found(top, left, labels, outline(work, labels, 2, (top, left), types), types)
        texts += paint(final, found, len(texts), work).drawn.features
    shown = LabelView(final, original).rows(0, original[0])
    features = geojson(Instances(original, labels=shown, types=np.tile([1, 2], 3)[: shown.max()]), ("a", "b"))[
        "features"
    ]
    expected = {int(feature["properties"]["name"]): feature for feature in features}
    for k, text in enumerate(texts, 1):
        assert bool(text) == (k in expected)
        if text:
            assert json.loads(text.replace(NAME, f'"name": "{k}"')) == expected[k]
    final.close()
