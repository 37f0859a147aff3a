"""Contour and erosion codecs against plain definitions, on synthetic and on real nuclei."""

from __future__ import annotations

import pickle

import cv2
import numpy as np
import pytest
from scipy import ndimage
from scipy.io import loadmat

from benchmark.metrics.contingency import contingency
from benchmark.metrics.instance import panoptic_counts, panoptic_scores
from postproc.codecs.contour import (
    ContourCodec,
    ContourParams,
    ErodedCodec,
    ErodedParams,
    contour_band,
    grow,
)
from postproc.errors import ConfigError, DataError
from postproc.instances import Instances
from postproc.pixels.components import fill_object_holes
from postproc.pixels.labels import relabel

CODECS = {
    "contour 3": ContourCodec(),
    "contour 2": ContourCodec(2, 2),
    "contour inside": ContourCodec(1, 0),
    "eroded": ErodedCodec(),
    "eroded types": ErodedCodec(types=3),
}
every_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS.keys())


def ellipses(seed, size=160, count=30):
    """Random ellipses of 12 to 36 px, cut by those drawn before; many touch each other and the border."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((size, size), np.int32)
    for index in range(1, count + 1):
        stamp = np.zeros((size, size), np.uint8)
        centre, axes = tuple(map(int, rng.integers(0, size, 2))), tuple(map(int, rng.integers(6, 18, 2)))
        cv2.ellipse(stamp, centre, axes, float(rng.integers(180)), 0, 360, 1, -1)
        free = stamp.astype(bool) & (labels == 0)
        if free.sum() > 0.7 * stamp.sum():
            labels[free] = index
    return relabel(labels)[0]


def annotation(labels):
    return Instances(labels.shape, labels=labels, types=np.arange(labels.max(), dtype=np.int64) % 3 + 1)


def round_trip(codec, truth):
    return codec.decode(codec.perfect(codec.encode(truth)), codec.defaults())


def quality(true, predicted):
    return panoptic_scores(panoptic_counts(contingency(true, predicted))).pq


def plain_band(labels, inner, outer):
    """The definition, one nucleus after the other."""
    band = np.zeros(labels.shape, bool)
    cross = ndimage.generate_binary_structure(2, 1)
    for index in range(1, labels.max() + 1):
        own = labels == index
        wide = ndimage.binary_dilation(own, cross, iterations=outer) if outer else own
        narrow = ndimage.binary_erosion(own, cross, iterations=inner, border_value=1) if inner else own
        band |= wide & ~narrow
    return band


@pytest.mark.parametrize(("inner", "outer"), [(0, 0), (1, 0), (1, 1), (2, 1), (3, 3), (5, 2)])
def test_band_is_dilation_minus_erosion(inner, outer):
    for labels in (ellipses(0, size=90, count=16), np.random.default_rng(1).integers(0, 4, (13, 17)).astype(np.int32)):
        np.testing.assert_array_equal(contour_band(labels, inner, outer), plain_band(labels, inner, outer))


@pytest.mark.parametrize("value", [0, 7])
def test_map_without_borders_has_no_contour(value):
    assert not contour_band(np.full((9, 11), value, np.int32), 3, 3).any()


def plain_growth(cores, mask, reach):
    """Rounds of dilation: a free px of the mask takes a label of one of its 4 neighbours."""
    labels = cores.copy()
    distance = ndimage.distance_transform_cdt(cores == 0, "taxicab")
    while True:
        before = labels.copy()
        for y, x in zip(*np.nonzero((labels == 0) & mask & (distance <= reach)), strict=True):
            near = [before[p] for p in ((y - 1, x), (y, x - 1), (y, x + 1), (y + 1, x)) if _inside(p, before.shape)]
            near = [label for label in near if label]
            if near:
                labels[y, x] = near[0]
        if (labels == before).all():
            return labels


def _inside(place, shape):
    return 0 <= place[0] < shape[0] and 0 <= place[1] < shape[1]


def test_growth_fills_what_rounds_of_dilation_fill():
    truth = ellipses(3, size=80, count=14)
    cores = np.where(contour_band(truth, 3, 3), 0, truth).astype(np.int32)
    mask = truth > 0
    mask[30:50, 30:50] = True
    for reach in (0, 1, 4, 200):
        grown, plain = grow(cores, mask, reach), plain_growth(cores, mask, reach)
        np.testing.assert_array_equal(grown > 0, plain > 0)
        np.testing.assert_array_equal(grown[cores > 0], cores[cores > 0])
        assert (grown == plain).mean() > 0.99  # px as near to one core as to another may differ


def test_growth_stays_in_the_mask_and_nearest_core_wins():
    cores = np.zeros((5, 20), np.int32)
    cores[2, 2], cores[2, 12] = 1, 2
    mask = np.zeros((5, 20), bool)
    mask[2] = True
    grown = grow(cores, mask, 4)
    assert (np.flatnonzero(grown[2] == 1) == np.arange(0, 7)).all()
    assert (np.flatnonzero(grown[2] == 2) == np.arange(8, 17)).all()
    assert not grown[~mask].any()


def test_holes_of_one_object_alone_are_filled():
    labels = np.zeros((20, 40), np.int32)
    labels[2:12, 2:12], labels[2:12, 14:24], labels[2:12, 24:34] = 1, 2, 3
    labels[5:8, 5:8] = 0  # a hole of 1
    labels[6, 6] = 4  # with an object inside: no hole
    labels[4, 4] = 0
    labels[5, 23:25] = 0  # between 2 and 3
    labels[2, 18] = 0  # open to the outside
    labels[14:20, 0:6] = 5
    labels[16:18, 0:2] = 0  # open to the border
    filled = fill_object_holes(labels)
    changed = filled != labels
    assert changed.sum() == 1
    assert filled[4, 4] == 1


def test_holes_are_scipys_where_objects_are_apart():
    rng = np.random.default_rng(5)
    mask = ndimage.binary_dilation(rng.random((60, 60)) > 0.93, iterations=2)
    labels = ndimage.label(mask, np.ones((3, 3)))[0].astype(np.int32)
    expected = labels.copy()
    for index in range(1, labels.max() + 1):
        expected[ndimage.binary_fill_holes(labels == index) & (labels == 0)] = index
    assert (expected != labels).any()
    np.testing.assert_array_equal(fill_object_holes(labels), expected)


@every_codec
@pytest.mark.parametrize("seed", range(2))
def test_round_trip_of_synthetic_nuclei(codec, seed):
    truth = annotation(ellipses(seed))
    result = round_trip(codec, truth)
    assert result.labels.dtype == np.int32
    assert np.unique(result.labels).tolist() == list(range(result.count + 1))
    assert quality(truth.labels, result.labels) >= 0.9
    if result.types is not None:
        owners = [np.bincount(truth.labels[result.labels == k + 1])[1:].argmax() for k in range(result.count)]
        assert (result.types == truth.types[owners]).mean() > 0.95


@every_codec
def test_empty_image_and_image_of_one_nucleus(codec):
    empty = round_trip(codec, annotation(np.zeros((40, 50), np.int32)))
    assert (empty.shape, empty.count) == ((40, 50), 0)
    full = round_trip(codec, annotation(np.ones((40, 40), np.int32)))
    assert full.count == 1
    assert (full.labels == 1).all()


@every_codec
def test_codec_is_pure_and_can_be_pickled(codec):
    truth = annotation(ellipses(7))
    before = truth.labels.copy()
    targets = codec.encode(truth)
    maps = codec.perfect(targets)
    kept = {name: value.copy() for name, value in maps.items()}
    first = codec.decode(maps, codec.defaults())
    np.testing.assert_array_equal(truth.labels, before)
    for name, value in kept.items():
        np.testing.assert_array_equal(maps[name], value)
        assert value.dtype == np.float32
        assert value.ndim == 3
    twin = pickle.loads(pickle.dumps(codec))
    for name, value in twin.encode(truth).items():
        assert value.dtype in (np.int64, np.float32)
        np.testing.assert_array_equal(value, targets[name])
    np.testing.assert_array_equal(twin.decode(maps, twin.defaults()).labels, first.labels)


def test_contour_parts_what_touches_and_thresholds_matter():
    labels = np.zeros((30, 50), np.int32)
    labels[5:25, 5:25], labels[5:25, 25:45] = 1, 2
    codec = ContourCodec()
    maps = codec.perfect(codec.encode(Instances(labels.shape, labels=labels)))
    assert codec.decode(maps, codec.defaults()).count == 2
    merged = {"object": maps["object"], "contour": np.zeros_like(maps["contour"])}
    assert codec.decode(merged, codec.defaults()).count == 1
    weak = {"object": 0.55 * maps["object"], "contour": 0.45 * maps["contour"]}
    assert codec.decode(weak, ContourParams()).count == 1
    assert codec.decode(weak, ContourParams(threshold_contour=0.4)).count == 2
    assert codec.decode(weak, ContourParams(threshold_object=0.6)).count == 0
    assert codec.decode(maps, ContourParams(minimum=300)).count == 0


def test_nuclei_that_the_contour_covers_are_lost():
    labels = np.zeros((40, 40), np.int32)
    labels[5:11, 5:11], labels[20:36, 20:36] = 1, 2
    result = round_trip(ContourCodec(3, 3), Instances(labels.shape, labels=labels))
    assert result.count == 1
    assert result.labels[28, 28] == 1
    assert round_trip(ContourCodec(1, 1), Instances(labels.shape, labels=labels)).count == 2


def test_eroded_targets():
    labels = np.zeros((20, 30), np.int32)
    labels[4:14, 4:14], labels[4:14, 14:24] = 1, 2
    targets = ErodedCodec(types=3).encode(annotation(labels))
    foreground = targets["foreground"]
    cross = ndimage.generate_binary_structure(2, 1)
    for index in (1, 2):
        np.testing.assert_array_equal(foreground == index, ndimage.binary_erosion(labels == index, cross))
    weight = targets["weight"]
    assert (weight[foreground > 0] == 1).all()
    assert weight[8, 13] > 1 + 0.7 * 10  # a gap of 2 px
    assert 1 <= weight[0, 29] < 2
    small = ErodedCodec().decode(
        {"foreground": np.eye(2, dtype=np.float32)[np.pad(np.ones((3, 3), int), 4)].T}, ErodedParams()
    )
    assert small.count == 0  # 9 px


def test_errors():
    for bad in ((1, 2), (-1, -1), (2, -1)):
        with pytest.raises(ConfigError, match="outer <= inner"):
            ContourCodec(*bad)
    with pytest.raises(ConfigError, match="reach"):
        ContourCodec(reach=-1)
    for codec in CODECS.values():
        with pytest.raises(DataError, match="outlines"):
            codec.encode(Instances((8, 8)))
    with pytest.raises(DataError, match="types"):
        ErodedCodec(types=2).encode(Instances((8, 8), labels=np.ones((8, 8), np.int32)))


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "kumar", "consep"), [("contour 3", 0.97, 0.9), ("contour 2", 0.985, 0.96), ("eroded", 0.985, 0.98)]
)
def test_round_trip_of_real_nuclei(name, kumar, consep, data_root):
    for folder, number, least in (("kumar/test_same", 3, kumar), ("consep/Test", 5, consep)):
        scores = []
        for file in sorted((data_root / folder / "Labels").glob("*.mat"))[:number]:
            labels = relabel(loadmat(file)["inst_map"].astype(np.int64))[0]
            codec = ErodedCodec(w0=0) if name == "eroded" else CODECS[name]
            scores.append(quality(labels, round_trip(codec, Instances(labels.shape, labels=labels)).labels))
        assert np.mean(scores) >= least
