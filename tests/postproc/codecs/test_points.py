import math
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
from scipy.spatial.distance import cdist

from postproc.codec import search_space
from postproc.codecs.points import IGNORED, PointsCodec, PointsParams, find_peaks, proximity
from postproc.errors import DataError
from postproc.instances import Instances
from postproc.pixels.labels import relabel

PARAMS = PointsParams()


def scattered(rng, shape, count, apart):
    """Random centres that lie more than `apart` px from each other."""
    points = np.zeros((0, 2))
    while len(points) < count:
        point = rng.uniform([0, 0], [shape[1] - 1, shape[0] - 1])
        if not len(points) or np.abs(points - point).max(axis=1).min() > apart:
            points = np.vstack([points, point])
    return points.astype(np.float32)


def test_proximity_follows_the_equation():
    centres = np.array([[10, 5], [14, 5], [30, 20]], np.float32)
    found = proximity(centres, (25, 40), alpha=3.0, radius=15.0)
    for y, x in [(5, 10), (5, 12), (0, 0), (24, 39), (20, 16), (20, 15), (20, 14)]:
        distance = min(math.dist((x, y), centre) for centre in centres)
        expected = (math.exp(3 * (1 - distance / 15)) - 1) / (math.exp(3) - 1) if distance <= 15 else 0.0
        assert found[y, x] == pytest.approx(expected, abs=1e-5)
    assert found.dtype == np.float32
    assert found.min() == 0
    assert found.max() == 1


def test_proximity_without_centres_is_zero_and_centres_stay_inside():
    assert not proximity(np.zeros((0, 2), np.float32), (4, 6), 3, 15).any()
    assert proximity(np.array([[5.7, -0.4]], np.float32), (4, 6), 3, 15)[0, 5] == 1


@pytest.mark.parametrize("seed", range(5))
def test_round_trip_finds_every_centre_with_its_type(seed):
    rng = np.random.default_rng(seed)
    shape = (150, 211)
    points = scattered(rng, shape, 60, apart=8)
    types = rng.integers(1, 4, len(points))
    codec = PointsCodec(3)
    found = codec.decode(codec.perfect(codec.encode(Instances(shape, points=points, types=types))), PARAMS)
    assert found.count == len(points)
    distance = cdist(points, found.points)
    nearest = distance.argmin(axis=1)
    assert distance.min(axis=1).max() < 1
    assert len(set(nearest)) == len(points)
    np.testing.assert_array_equal(found.types[nearest], types)
    np.testing.assert_allclose(found.scores, 1)


def test_round_trip_is_exact_for_whole_pixels_and_keeps_the_truth():
    points = np.array([[13, 4], [0, 0], [30, 19]], np.float32)
    truth = Instances((20, 31), points=points.copy())
    codec = PointsCodec(0)
    found = codec.decode(codec.perfect(codec.encode(truth)), PARAMS)
    assert {tuple(p) for p in found.points} == {tuple(p) for p in points}
    assert found.types is None
    np.testing.assert_array_equal(truth.points, points)


@pytest.mark.parametrize(("gap", "count"), [(5, 1), (6, 2)])
def test_centres_within_the_suppression_radius_are_one_detection(gap, count):
    truth = Instances((40, 40), points=np.array([[10, 10], [10 + gap, 10]], np.float32))
    codec = PointsCodec(0)
    assert codec.decode(codec.perfect(codec.encode(truth)), PARAMS).count == count


def test_a_nucleus_in_two_channels_is_found_once_with_the_stronger_type():
    maps = np.stack([0.7 * proximity(np.array([[20, 20]]), (40, 40), 3, 15),
                     0.9 * proximity(np.array([[22, 20]]), (40, 40), 3, 15)])  # fmt: skip
    found = PointsCodec(2).decode({"proximity": maps}, PARAMS)
    assert found.points.tolist() == [[22, 20]]
    assert found.types.tolist() == [2]
    assert found.scores[0] == pytest.approx(0.9)


def test_a_plateau_is_one_detection_at_its_centre():
    response = np.zeros((30, 40), np.float32)
    response[10:13, 20:25] = 0.8
    points, rows, columns = find_peaks(response, 5, 0.1)
    assert points.tolist() == [[22, 11]]
    assert response[rows[0], columns[0]] == np.float32(0.8)


def test_a_constant_map_is_one_plateau():
    points, *_ = find_peaks(np.ones((7, 9), np.float32), 5, 0.5)
    assert points.tolist() == [[4, 3]]


def test_of_two_close_equal_peaks_the_first_stays():
    response = np.zeros((20, 20), np.float32)
    response[5, 5] = response[8, 9] = 1
    response[15, 15] = 0.6
    points, *_ = find_peaks(response, 5, 0.5)
    assert points.tolist() == [[5, 5], [15, 15]]


def test_low_responses_are_suppressed_relative_to_the_highest():
    maps = np.maximum(
        proximity(np.array([[10, 10]]), (40, 60), 3, 15),
        0.45 * proximity(np.array([[50, 10]]), (40, 60), 3, 15),
    )[None]
    codec = PointsCodec(0)
    assert codec.decode({"proximity": maps}, PARAMS).count == 1
    assert codec.decode({"proximity": maps}, PointsParams(xi=0.4)).count == 2


def test_noise_alone_gives_no_detection():
    noise = np.random.default_rng(0).normal(0, 0.02, (1, 80, 80)).astype(np.float32)
    codec = PointsCodec(0)
    found = codec.decode({"proximity": noise}, PARAMS)
    assert found.count == 0
    assert found.points.shape == (0, 2)
    assert codec.decode({"proximity": noise}, PointsParams(floor=0.0)).count > 5
    assert codec.decode({"proximity": np.zeros((1, 9, 9), np.float32)}, PARAMS).count == 0


def test_scores_give_the_whole_precision_recall_curve():
    rng = np.random.default_rng(3)
    maps = cv2.GaussianBlur(rng.random((90, 90)).astype(np.float32), (0, 0), 3)[None]
    maps = (maps - maps.min()) / np.ptp(maps)
    codec = PointsCodec(0)
    every = codec.decode({"proximity": maps}, PointsParams(xi=0.0, floor=0.0))
    for xi in (0.5, 0.7, 0.9):
        some = codec.decode({"proximity": maps}, PointsParams(xi=xi, floor=0.0))
        expected = every.points[every.scores >= xi * maps.max()]
        assert 0 < some.count < every.count
        np.testing.assert_array_equal(some.points, expected)


def test_targets_of_images_without_points_or_regions():
    codec = PointsCodec(2)
    shape = (12, 10)
    regions = np.zeros(shape, np.uint8)
    regions[:4], regions[4:6] = 1, 2
    weak = codec.encode(Instances(shape, regions=regions))
    assert weak["has_points"] == 0
    assert not weak["proximity"].any()
    np.testing.assert_array_equal(np.unique(weak["regions"]), [IGNORED, 0, 1])
    assert (weak["regions"][:4] == 0).all()
    assert (weak["regions"][4:6] == 1).all()
    points = codec.encode(Instances(shape, points=np.full((1, 2), 3, np.float32), types=np.array([2])))
    assert points["has_points"] == 1
    assert (points["regions"] == IGNORED).all()
    assert points["proximity"][:, 3, 3].tolist() == [0, 1]
    neither = codec.encode(Instances(shape))
    assert neither["has_points"] == 0
    assert {k: v.dtype for k, v in neither.items()} == {k: v.dtype for k, v in points.items()}
    empty = codec.encode(Instances(shape, points=np.zeros((0, 2), np.float32)))
    assert empty["has_points"] == 1


def test_outlines_serve_by_their_centroids():
    labels = np.zeros((20, 20), np.int32)
    labels[2:5, 2:5], labels[10:15, 10:13] = 1, 2
    target = PointsCodec(2).encode(Instances((20, 20), labels=labels, types=np.array([2, 0])))
    assert target["proximity"][1, 3, 3] == 1
    assert target["proximity"].max(axis=(1, 2)).tolist() == [0, 1]  # a nucleus without type is in no map


def test_candidates_are_the_detections_of_every_threshold():
    rng = np.random.default_rng(0)
    maps = {"proximity": cv2.GaussianBlur(rng.random((120, 90)).astype(np.float32), (0, 0), 3.0)[None] * 2}
    codec = PointsCodec(0)
    every = codec.candidates(maps, PARAMS)
    assert every.scores.max() == 1
    for xi in (0.2, 0.5, 0.8, 0.95):
        found = codec.decode(maps, PointsParams(xi=xi, floor=0.0))
        np.testing.assert_array_equal(every.points[every.scores >= np.float32(xi)], found.points)
    assert codec.candidates({"proximity": np.zeros((1, 20, 20), np.float32)}, PARAMS).count <= 1


def test_missing_types_are_an_error():
    truth = Instances((5, 5), points=np.ones((1, 2), np.float32))
    with pytest.raises(DataError, match="types"):
        PointsCodec(3).encode(truth)


def test_the_published_value_is_among_the_choices():
    assert PARAMS.xi == 0.5
    assert PARAMS.xi in search_space(PointsParams)["xi"]


@pytest.mark.real_data
@pytest.mark.parametrize("kind", ["postm", "negtm", "other"])
def test_proximity_equals_the_published_maps(data_root, kind):
    path = data_root / "ki67_kinet" / f"labels_{kind}" / "train" / "PAN_label.png"
    published = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    y, x = np.nonzero(published == 255)
    ours = proximity(np.stack([x, y], axis=1).astype(np.float32), published.shape, 3.0, 15.0)
    np.testing.assert_array_equal(np.rint(255 * ours), published)


@pytest.mark.real_data
@pytest.mark.parametrize("pattern", ["kumar/train/Labels/*.mat", "consep/Train/Labels/*.mat"])
def test_round_trip_of_real_nuclei(data_root, pattern):
    for path in sorted(Path(data_root).glob(pattern))[:2]:
        labels, _, _ = relabel(scipy.io.loadmat(os.fspath(path))["inst_map"].astype(np.int64))
        truth = Instances(labels.shape, labels=labels)
        codec = PointsCodec(0)
        found = codec.decode(codec.perfect(codec.encode(truth)), PARAMS)
        nearest = cdist(truth.centroids(), found.points).min(axis=1)
        assert (nearest < 2).mean() > 0.99
        assert 0.99 < found.count / truth.count <= 1
