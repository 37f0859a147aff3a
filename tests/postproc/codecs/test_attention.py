from pathlib import Path

import numpy as np
import pytest
import scipy.io
from scipy import ndimage

from postproc.codec import search_space
from postproc.codecs.attention import AttentionCodec, AttentionParams, clean, disc, split_touching
from postproc.errors import DataError
from postproc.instances import Instances
from postproc.pixels.labels import relabel

CODEC = AttentionCodec()
PARAMS = AttentionParams()


def panoptic_quality(truth, predicted):
    """PQ, pair by pair."""
    count = np.zeros((truth.max() + 1, predicted.max() + 1))
    np.add.at(count, (truth.ravel(), predicted.ravel()), 1)
    union = count.sum(axis=1)[1:, None] + count.sum(axis=0)[None, 1:] - count[1:, 1:]
    iou = count[1:, 1:] / np.maximum(union, 1)
    matched = iou[iou > 0.5]
    return matched.sum() / (len(matched) + (truth.max() - len(matched)) / 2 + (predicted.max() - len(matched)) / 2)


def ellipses(seed, gap):
    """Nuclei of an ellipse each on a jittered grid, `gap` px apart at least."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((240, 240), np.int32)
    y, x = np.mgrid[:240, :240]
    centres = np.arange(20, 230, 24 + gap)
    for number, (cy, cx) in enumerate((cy, cx) for cy in centres for cx in centres):
        a, b, angle = rng.uniform(7, 12), rng.uniform(7, 12), rng.uniform(0, np.pi)
        u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        v = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
        labels[(u / a) ** 2 + (v / b) ** 2 <= 1] = number + 1
    return labels


@pytest.mark.parametrize("seed", range(3))
def test_round_trip_of_separate_nuclei(seed):
    labels = ellipses(seed, gap=4)
    found = CODEC.decode(CODEC.perfect(CODEC.encode(Instances(labels.shape, labels=labels))), PARAMS)
    assert found.count == labels.max()
    assert panoptic_quality(labels, found.labels) > 0.95


def test_touching_discs_are_split():
    y, x = np.mgrid[:60, :80]
    mask = ((x - 28) ** 2 + (y - 30) ** 2 <= 144) | ((x - 50) ** 2 + (y - 30) ** 2 <= 144)
    labels = split_touching(mask.astype(np.uint8), sigma=1, window=7)
    assert labels.max() == 2
    assert labels[30, 28] != labels[30, 50]
    np.testing.assert_array_equal(labels > 0, mask)


def test_cleaning_equals_scipy_away_from_the_border():
    mask = np.zeros((90, 90), np.uint8)
    mask[8:-8, 8:-8] = np.random.default_rng(0).random((74, 74)) < 0.7
    expected = mask.astype(bool)
    for radius in (2, 1):
        element = disc(radius)
        expected = ndimage.binary_closing(ndimage.binary_opening(expected, element), element)
    assert expected.any()
    np.testing.assert_array_equal(clean(mask, 2, 1), expected)


def test_specks_and_pinholes_are_cleaned():
    mask = np.zeros((40, 40), np.uint8)
    mask[10:30, 10:30] = 1
    mask[20, 20] = 0
    mask[3:5, 3:5] = 1
    cleaned = clean(mask, 2, 1)
    assert cleaned[20, 20] == 1
    assert not cleaned[:8, :8].any()
    np.testing.assert_array_equal(clean(mask, 0, 0), mask)


def test_threshold_is_the_learnt_one_or_a_percentile_of_the_whole_image():
    confidence = np.full((1, 100, 100), -2.0, np.float32)
    confidence[0, 20:40, 20:40] = -1  # 4 % of the image
    confidence[0, 60:70, 60:70] = 1
    assert CODEC.decode({"attention": confidence}, PARAMS).count == 1
    assert CODEC.decode({"attention": confidence}, AttentionParams(percentile=93)).count == 2


@pytest.mark.parametrize("value", [-1.0, 1.0])
def test_uniform_maps(value):
    found = CODEC.decode({"attention": np.full((1, 30, 40), value, np.float32)}, PARAMS)
    assert found.count == (value > 0)
    assert found.labels.dtype == np.int32


def test_the_four_published_parameters_are_tuned():
    space = search_space(AttentionParams)
    assert {name: getattr(PARAMS, name) for name in space} == {
        "coarse": 2,
        "fine": 1,
        "sigma": 1,
        "window": 7,
    }
    assert all(getattr(PARAMS, name) in choices for name, choices in space.items())


def test_validation_needs_outlines():
    with pytest.raises(DataError, match="outlines"):
        CODEC.encode(Instances((5, 5), points=np.zeros((0, 2), np.float32)))


@pytest.mark.real_data
@pytest.mark.parametrize(("pattern", "least"), [("kumar/train/Labels/*.mat", 0.8), ("consep/Train/Labels/*.mat", 0.55)])
def test_round_trip_of_real_nuclei_loses_only_what_touches(data_root, pattern, least):
    """Real nuclei touch, and the method tells them apart by shape alone: mean PQ is 0.86 and 0.70."""
    scores = []
    for path in sorted(Path(data_root).glob(pattern))[:3]:
        labels, _, _ = relabel(scipy.io.loadmat(path)["inst_map"].astype(np.int64))
        found = CODEC.decode(CODEC.perfect(CODEC.encode(Instances(labels.shape, labels=labels))), PARAMS)
        scores.append(panoptic_quality(labels, found.labels))
        assert 2 * ((labels > 0) & (found.labels > 0)).sum() / ((labels > 0).sum() + (found.labels > 0).sum()) > 0.95
    assert np.mean(scores) > least
