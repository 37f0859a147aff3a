import numpy as np
import pytest
from scipy.spatial.distance import cdist

from postproc.codecs.point_targets import DensityCodec, DiscCodec, blur
from postproc.codecs.points import IGNORED, PointsParams
from postproc.errors import DataError
from postproc.instances import Instances

PARAMS = PointsParams()
SHAPE = (120, 171)


def scattered(rng, count, apart):
    """Random centres at whole px, farther than `apart` px from each other and from the border."""
    points = np.zeros((0, 2))
    while len(points) < count:
        point = rng.integers([apart, apart], [SHAPE[1] - apart, SHAPE[0] - apart])
        if not len(points) or np.linalg.norm(points - point, axis=1).min() > apart:
            points = np.vstack([points, point])
    return points.astype(np.float32)


@pytest.mark.parametrize("codec", [DiscCodec, DensityCodec])
@pytest.mark.parametrize("types", [0, 3])
@pytest.mark.parametrize("seed", range(3))
def test_round_trip_finds_every_centre_with_its_type(codec, types, seed):
    rng = np.random.default_rng(seed)
    points = scattered(rng, 15, apart=17)  # discs do not overlap
    kinds = rng.integers(1, types + 1, len(points)) if types else None
    one = codec(types)
    truth = Instances(SHAPE, points=points, types=kinds)
    maps = one.perfect(one.encode(truth))
    found = one.decode(maps, PARAMS)
    assert found.count == len(points)
    distance = cdist(points, found.points)
    assert len(set(distance.argmin(axis=1))) == len(points)
    assert distance.min(axis=1).max() <= 1
    if types:
        np.testing.assert_array_equal(found.types[distance.argmin(axis=1)], kinds)
    else:
        assert found.types is None
    assert one.candidates(maps, PARAMS).count >= found.count


def test_touching_discs_of_one_type_stay_apart_and_ripples_are_no_nuclei():
    points = np.array([[40, 60], [51, 60], [100, 60]], np.float32)
    codec = DiscCodec(0)
    maps = codec.perfect(codec.encode(Instances(SHAPE, points=points)))
    ripples = np.random.default_rng(0).uniform(0.95, 1, maps["probability"].shape)
    found = codec.decode({"probability": maps["probability"] * ripples}, PARAMS)
    assert found.count == 3
    assert cdist(points, found.points).min(axis=1).max() <= 3


def test_a_disc_belongs_to_the_closest_nucleus():
    points = np.array([[20, 20], [30, 20], [60, 50]], np.float32)
    kinds = np.array([1, 2, 2])
    classes = DiscCodec(2, radius=8).encode(Instances((70, 80), points=points, types=kinds))["classes"]
    y, x = np.mgrid[:70, :80]
    distance = np.hypot(x[..., None] - points[:, 0], y[..., None] - points[:, 1])
    nearest = distance.min(axis=-1)
    expected = np.where(nearest < 8, kinds[distance.argmin(axis=-1)], 0)
    tie = (distance[..., 0] == distance[..., 1]) | (np.abs(nearest - 8) < 0.01)
    assert classes.dtype == np.int64
    np.testing.assert_array_equal(classes[~tie], expected[~tie])
    assert set(np.unique(classes)) == {0, 1, 2}


def test_what_is_not_annotated_teaches_nothing():
    regions = np.ones(SHAPE, np.uint8)
    truth = Instances(SHAPE, regions=regions)
    assert (DiscCodec(3).encode(truth)["classes"] == IGNORED).all()
    targets = DensityCodec(3).encode(truth)
    assert targets["has_points"] == 0
    assert not targets["density"].any()
    empty = Instances(SHAPE, points=np.zeros((0, 2), np.float32), types=np.zeros(0, np.int64))
    assert not DiscCodec(3).encode(empty)["classes"].any()
    assert DensityCodec(3).encode(empty)["has_points"] == 1


def test_the_density_adds_up_to_the_number_of_nuclei():
    codec = DensityCodec(2, sigma=2.0)
    points = np.array([[40, 40], [43, 40], [90, 70], [120, 30]], np.float32)
    density = codec.encode(Instances(SHAPE, points=points, types=np.array([1, 1, 1, 2])))["density"]
    np.testing.assert_allclose(density.sum(axis=(1, 2)) * codec.peak, [3, 1], rtol=1e-2)
    assert density[1, 30, 120] == pytest.approx(1, rel=0.02)
    # 3 px beside a centre, another one 3 px away
    assert density[0, 40, 40] == pytest.approx(1 + np.exp(-9 / 8), rel=0.02)


def test_blur_is_a_gaussian_and_empty_outside():
    one = np.zeros((1, 41, 41), np.float32)
    one[0, 20, 20] = 1
    blurred = blur(one, 3.0)[0]
    y, x = np.mgrid[-20:21, -20:21]
    np.testing.assert_allclose(blurred, np.exp(-(x**2 + y**2) / 18) / (2 * np.pi * 9), atol=2e-4)
    assert blur(np.ones((2, 9, 9), np.float32), 2.0)[0, 0, 0] < 0.5


@pytest.mark.parametrize("codec", [DiscCodec(2), DensityCodec(2)])
def test_types_must_be_known(codec):
    with pytest.raises(DataError, match="types"):
        codec.encode(Instances(SHAPE, points=np.array([[5, 5]], np.float32)))


@pytest.mark.parametrize("codec", [DiscCodec(2), DensityCodec(2)])
def test_noise_alone_is_no_nucleus(codec):
    noise = np.random.default_rng(0).uniform(0, 0.05, (2, *SHAPE)).astype(np.float32)
    maps = {"probability": noise, "density": noise}
    assert codec.decode(maps, PARAMS).count == 0
